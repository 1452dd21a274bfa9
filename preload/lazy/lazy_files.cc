#include "preload/lazy/lazy_files.h"

#include <errno.h>

#include "preload/base/sys.h"
#include "preload/resolve/cache_files.h"
#include "preload/resolve/catalog_mapping.h"
#include "preload/resolve/daemon_client.h"

namespace larder {

Patience patience(uint64_t dataset_id) {
  for (;;) {
    Session session;
    Patience p;
    if (!enter(&session)) return p;
    p.wait_ms = session.state->wait_ms;
    p.chunks_dev = session.state->chunks_dev;
    for (uint32_t i = 0; i < session.state->mount_count; ++i)
      if (session.state->mounts[i].dataset_id == dataset_id) p.fallback = session.state->mounts[i].fallback;
    if (left_intact(session)) return p;
  }
}

int ask_chunks(uint64_t dataset_id, uint64_t handle_inode, uint32_t first, uint32_t chunks, uint32_t flags) {
  const Patience p = patience(dataset_id);
  const int r = ask_for_chunks(dataset_id, {handle_inode, first, chunks, flags, 0}, p.fallback, p.wait_ms);
  if (r == -EIO || r == -ENOTCONN) count(&StatSlot::errors);
  return r == -ENOTCONN ? -EIO : r;
}

namespace {

bool is_data_file(int fd, uint64_t dev, const ChunkMap* map) {
  struct stat st;
  return sys::fstat(fd, &st) == 0 && st.st_ino == map->data_inode && st.st_dev == dev &&
         static_cast<uint64_t>(st.st_size) == map->size;
}

// The data file, under either of its names: an object that has become whole is an ordinary cache file.
int open_data(uint64_t dataset_id, uint64_t handle_inode, const ChunkMap* map, uint64_t dev) {
  const CacheName lazy = chunk_data_path(dataset_id, handle_inode), whole = whole_chunks_path(dataset_id, map->oid);
  const bool is_whole = map->whole.load(std::memory_order_acquire) != 0;
  int fd = open_in_cache(is_whole ? whole : lazy, O_RDONLY | O_CLOEXEC);
  if (fd == -ENOENT) fd = open_in_cache(is_whole ? lazy : whole, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || is_data_file(fd, dev, map)) return fd;
  sys::close(fd);
  return -ENOENT;
}

bool good_map(const ChunkMap* m, uint64_t bytes, uint64_t handle_inode) {
  return m->magic == kChunkMapMagic && m->format == kChunkMapFormat && m->handle_inode == handle_inode &&
         m->chunk_shift >= 12 && m->chunk_shift < 40 && m->size > 0 && m->chunk_count > 0 &&
         (m->size - 1) >> m->chunk_shift == m->chunk_count - 1u && bytes >= chunk_map_bytes(m->chunk_count);
}

// Where a map of `need` bytes is shown: in the range, if it has one and that is large enough, else somewhere new.
void* show(int fd, size_t need, Range* range) {
  const bool fits = range != nullptr && need <= range->bytes;
  void* base = sys::mmap(fits ? range->base : nullptr, need, PROT_READ, MAP_SHARED | (fits ? MAP_FIXED : 0), fd, 0);
  if (base != nullptr && range != nullptr && !fits) *range = {base, need};
  return base;
}

int map_chunks(int fd, uint64_t handle_inode, Range* range, LazyFiles* out) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || st.st_size < static_cast<long>(sizeof(ChunkMap))) return -EAGAIN;
  out->map_bytes = pages(static_cast<size_t>(st.st_size));
  out->map = static_cast<const ChunkMap*>(show(fd, out->map_bytes, range));
  if (out->map == nullptr) return -ENOMEM;
  return good_map(out->map, static_cast<uint64_t>(st.st_size), handle_inode) ? 0 : -EAGAIN;
}

int open_by_name(uint64_t dataset_id, uint64_t handle_inode, uint64_t chunks_dev, Range* range, LazyFiles* out) {
  sys::Fd map(open_in_cache(chunk_map_path(dataset_id, handle_inode), O_RDONLY | O_CLOEXEC));
  if (map.get() < 0) return map.get();
  if (const int error = map_chunks(map.get(), handle_inode, range, out)) return error;
  out->data = open_data(dataset_id, handle_inode, out->map, chunks_dev);
  return out->data < 0 ? out->data : 0;
}

// A sandbox that came after the handle was opened (Landlock): larderd opens for us.
int open_by_request(uint64_t dataset_id, uint64_t handle_inode, uint64_t chunks_dev, Range* range, LazyFiles* out) {
  int fds[2];
  if (ask_for_files(dataset_id, handle_inode, fds) != 0) return -EACCES;
  sys::Fd map(fds[0]), data(fds[1]);
  if (const int error = map_chunks(map.get(), handle_inode, range, out)) return error;
  if (!is_data_file(data.get(), chunks_dev, out->map)) return -ENOENT;
  out->data = data.release();
  return 0;
}

}  // namespace

int try_open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, uint64_t chunks_dev, Range* range, LazyFiles* out) {
  *out = LazyFiles();
  int r = open_by_name(dataset_id, handle_inode, chunks_dev, range, out);
  if (r == -EACCES) r = open_by_request(dataset_id, handle_inode, chunks_dev, range, out);
  if (r != 0 && range == nullptr && out->map != nullptr) sys::munmap(const_cast<ChunkMap*>(out->map), out->map_bytes);
  return r;
}

int open_lazy_files(uint64_t dataset_id, uint64_t handle_inode, LazyFiles* out) {
  const uint64_t dev = patience(dataset_id).chunks_dev;
  return until_opened(dataset_id, handle_inode,
                      [&] { return try_open_lazy_files(dataset_id, handle_inode, dev, nullptr, out); });
}

}  // namespace larder
