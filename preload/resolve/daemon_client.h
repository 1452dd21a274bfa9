// Messages to the daemon, docs/protocol.md: one connection each, nothing kept. Any thread; no heap, no lock.
#pragma once
#include "larder/wire.h"
#include "preload/resolve/state.h"

namespace larder {

// Sets the socket path candidates from the environment. Called once, by the constructor.
void configure_socket(const char* larder_socket, const char* runtime_dir);

// The process has another root directory now: the daemon's socket is most likely out of reach, and nobody waits for it.
void lose_daemon();
// The candidates, in the order in which they are tried.
int socket_candidates();
const char* socket_candidate(int i);
// True if LARDER_SOCKET named the socket.
bool socket_is_given();

// True for an errno of exchange() that says that nobody listens, or not any more.
bool daemon_away(int error);

// `instance` of the last reply: which cache directory it is about. 0: there was none.
extern std::atomic<uint64_t> answered_instance;

// Sends a request and receives its reply with up to `max_fds` descriptors (all close-on-exec; *fd_count of them).
// Returns 0, or an errno of the transport: ENOENT/ECONNREFUSED (no daemon), EAGAIN (its backlog is full), ETIMEDOUT,
// EPROTO, EMFILE. Signals wait while it has a connection; when one comes, it closes the connection, lets the handlers
// run, and asks again if they return.
int exchange(const Request& request, const char* payload, Reply* reply, int* fds, int max_fds, int* fd_count,
             int64_t deadline_ms);

// The functions below wait as long as larderd shows signs of life, which it does while a transfer goes on or waits for
// its turn: it ends requests itself. `wait_ms` is for a larderd that is away or silent.

// kChunks: 0 or -errno; -ENOTCONN: the daemon is away, and was waited for as `fallback` says.
int ask_for_chunks(uint64_t dataset_id, const ChunkRequest& chunks, Fallback fallback, uint32_t wait_ms);

// The chunk map and the data file of a lazy object, for who may not open them: 0 and two close-on-exec descriptors, or
// -errno. One attempt.
int ask_for_files(uint64_t dataset_id, uint64_t handle_inode, int fds[2]);

// The same in two steps, to wait for several replies: connects and sends (a close-on-exec socket, or -errno), and, once
// the socket is readable, receives a reply (0, or the errno of the transport); with kReplyMore in its flags it is a
// sign of life, and another follows. Neither waits. -EAGAIN: larderd's backlog is full. The caller closes the socket.
int start_chunks(uint64_t dataset_id, const ChunkRequest& chunks);
int finish_chunks(int socket, Reply* reply);

// Tells larderd that chunks will be wanted. It does not wait, and the advice is dropped if larderd is away or busy.
void advise_chunks(uint64_t dataset_id, uint64_t handle_inode, uint32_t first, uint32_t count);

// The descriptor of a file that is not in the cache, or of a directory: asks the daemon, waits as `fallback` says.
// Returns a descriptor (lowest free number, close-on-exec as asked) or -errno. -ESTALE: look up again, the catalog
// moved.
int ask_for(Op op, uint64_t dataset_id, ObjectId oid, const char* path, size_t len, bool cloexec, Fallback fallback,
            uint32_t wait_ms);

}  // namespace larder
