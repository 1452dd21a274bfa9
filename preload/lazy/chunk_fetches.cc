#include "preload/lazy/chunk_fetches.h"

#include <errno.h>

#include "preload/base/sys.h"
#include "preload/lazy/paged_files.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

constexpr int kFirstPauseMs = 10, kLastPauseMs = 200;

struct Fetch {
  uint32_t file = 0, chunk = 0;
  int socket = -1;
  int pause_ms = 0;
  int64_t next_try_ms = 0, deadline_ms = 0;
  bool used = false;
};

constinit Fetch fetches[kFetches];
constinit uint32_t which[kFetches] = {};  // of what was polled last

void close_socket(Fetch& fetch) {
  if (fetch.socket >= 0) sys::close(fetch.socket);
  fetch.socket = -1;
}

void end(Fetch& fetch, bool arrived, ChunkFetches::Ended ended) {
  const uint32_t file = fetch.file, chunk = fetch.chunk;
  close_socket(fetch);
  fetch = Fetch();
  ended(file, chunk, arrived);
}

// `error`: EAGAIN if larderd is there and busy, so that even who does not wait for one that is away has a reason to
// wait.
void try_later(Fetch& fetch, int error, int64_t now, ChunkFetches::Ended ended) {
  close_socket(fetch);
  const bool hopeless = PagedFiles::get(fetch.file).hasty && error != EAGAIN;
  if (hopeless || now + fetch.pause_ms > fetch.deadline_ms) return end(fetch, false, ended);
  fetch.next_try_ms = now + fetch.pause_ms;
  if (fetch.pause_ms < kLastPauseMs) fetch.pause_ms *= 2;
}

// larderd has the request, and may be silent for so long.
void await_reply(Fetch& fetch, int64_t until_ms, int64_t now) {
  const int64_t least = now + kLeastSilenceMs;
  fetch.deadline_ms = until_ms > least ? until_ms : least;
  fetch.next_try_ms = fetch.deadline_ms;
}

void start(Fetch& fetch, int64_t now, ChunkFetches::Ended ended) {
  const PagedFile& f = PagedFiles::get(fetch.file);
  const int socket = start_chunks(f.dataset_id, {f.handle_inode, fetch.chunk, 1, 0, 0});
  if (socket < 0) return try_later(fetch, -socket, now, ended);
  fetch.socket = socket;
  await_reply(fetch, fetch.deadline_ms, now);
}

}  // namespace

bool ChunkFetches::want(uint32_t file, uint32_t chunk) {
  Fetch* free = nullptr;
  for (Fetch& fetch : fetches) {
    if (fetch.used && fetch.file == file && fetch.chunk == chunk) return true;
    if (!fetch.used) free = &fetch;
  }
  if (free == nullptr) return false;
  *free = {file, chunk, -1, kFirstPauseMs, 0, sys::now_ms() + PagedFiles::get(file).wait_ms, true};
  return true;
}

void ChunkFetches::forget_file(uint32_t file) {
  for (Fetch& fetch : fetches) {
    if (!fetch.used || fetch.file != file) continue;
    close_socket(fetch);
    fetch = Fetch();
  }
}

void ChunkFetches::forget_all() {
  for (Fetch& fetch : fetches)
    fetch = Fetch();
}

nfds_t ChunkFetches::prepare(struct pollfd* polled, int64_t* due_ms, Ended ended) {
  const int64_t now = sys::now_ms();
  nfds_t n = 0;
  for (uint32_t i = 0; i < kFetches; ++i) {
    Fetch& fetch = fetches[i];
    if (fetch.used && fetch.socket < 0 && fetch.next_try_ms <= now) start(fetch, now, ended);
    if (!fetch.used) continue;
    if (fetch.next_try_ms < *due_ms) *due_ms = fetch.next_try_ms;
    if (fetch.socket < 0) continue;
    which[n] = i;
    polled[n++] = {fetch.socket, POLLIN, 0};
  }
  return n;
}

void ChunkFetches::finish(const struct pollfd* polled, nfds_t count, Ended ended) {
  const int64_t now = sys::now_ms();
  for (nfds_t i = 0; i < count; ++i) {
    Fetch& fetch = fetches[which[i]];
    if (!fetch.used || fetch.socket != polled[i].fd) continue;  // what another one's end forgot
    Reply reply;
    if (polled[i].revents != 0) {
      const int error = finish_chunks(fetch.socket, &reply);
      if (error != 0)
        try_later(fetch, error, now, ended);
      else if (reply.flags & kReplyMore)
        await_reply(fetch, now + PagedFiles::get(fetch.file).wait_ms, now);
      else
        end(fetch, reply.status == 0, ended);
    } else if (now >= fetch.deadline_ms) {
      end(fetch, false, ended);
    }
  }
}

}  // namespace larder
