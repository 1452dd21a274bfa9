#include "cached/cache/lazy_file.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <bit>

#include "cached/base/files.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

static constexpr uint32_t kMinShift = 12, kMaxShift = 30;

static Result<Fd> lazy_folder(const Dataset& d) {
  return make_dir(d.folder_fd(), kLazyFolder, 0755);
}

static void both_times(int64_t mtime_ns, struct timespec times[2]) {
  struct timespec t = {mtime_ns / 1000000000, mtime_ns % 1000000000};
  if (t.tv_nsec < 0) t = {t.tv_sec - 1, t.tv_nsec + 1000000000};
  times[0] = times[1] = t;
}

static Result<uint64_t> inode_of(int fd) {
  struct stat st;
  if (::fstat(fd, &st) != 0) return os_error("cannot stat a lazy file");
  return uint64_t{st.st_ino};
}

uint64_t LazyFile::chunk_length(uint32_t chunk) const {
  return std::min(uint64_t{1} << map().chunk_shift, map().size - chunk_offset(chunk));
}
uint64_t LazyFile::chunk_on_disk(uint32_t chunk) const {
  return larder::on_disk(chunk_length(chunk));
}

uint64_t LazyFile::map_bytes(uint64_t size, uint32_t chunk_shift) {
  const uint64_t chunks = ((std::max<uint64_t>(size, 1) - 1) >> chunk_shift) + 1;
  return larder::on_disk(sizeof(ChunkMap) + chunks * sizeof(ChunkMap::words[0]));
}
uint64_t LazyFile::map_on_disk() const {
  return larder::on_disk(map_.size());
}

// ---- making -------------------------------------------------------------------------------------

// Data and map get their names whole: a map that a program finds is complete.
Status LazyFile::make_files(int folder, uint64_t handle_inode, Meter& meter) {
  const int chunks_fd = object.dataset->chunks_fd();
  Result<Fd> data = unnamed_file(chunks_fd), map = unnamed_file(folder);
  if (!data) return data.error();
  if (!map) return map.error();
  if (::ftruncate(data->get(), static_cast<off_t>(object.size)) != 0) return os_error("cannot size a lazy file");
  if (::fchmod(data->get(), 0444) != 0 || ::fchmod(map->get(), 0444) != 0)
    return os_error("cannot set the mode of a lazy file");
  Result<uint64_t> data_inode = inode_of(data->get());
  if (!data_inode) return data_inode.error();
  uint64_t chunks = ((object.size - 1) >> shift_) + 1;
  if (chunks > UINT32_MAX / 8)
    return make_error(EFBIG, fmt::format("an object of {} bytes has too many chunks", object.size));
  uint64_t bytes = chunk_map_bytes(static_cast<uint32_t>(chunks));
  if (::fallocate(map->get(), 0, 0, static_cast<off_t>(bytes)) != 0) return os_error("cannot allocate a chunk map");
  Result<Mapping> mapped = Mapping::map(map->get(), bytes, true);
  if (!mapped) return mapped.error();
  auto* m = static_cast<ChunkMap*>(mapped->data());
  m->magic = kChunkMapMagic;
  m->format = kChunkMapFormat;
  m->chunk_shift = shift_;
  m->dataset_id = object.dataset->id();
  m->oid = object.oid;
  m->size = object.size;
  m->mtime_ns = object.mtime_ns;
  m->handle_inode = handle_inode;
  m->data_inode = *data_inode;
  m->chunk_count = static_cast<uint32_t>(chunks);
  ::unlinkat(chunks_fd, chunk_data_name(handle_inode).c_str(), 0);
  ::unlinkat(folder, chunk_map_name(handle_inode).c_str(), 0);
  if (Status s = link_file(data->get(), chunks_fd, std::string(chunk_data_name(handle_inode))); !s) return s;
  if (Status s = link_file(map->get(), folder, std::string(chunk_map_name(handle_inode))); !s) return s;
  data_ = std::move(*data);
  map_ = std::move(*mapped);
  charge_ = Charge(meter, larder::on_disk(bytes));
  return make_sums(chunks);
}

Status LazyFile::make_sums(uint64_t chunks) {
  sums_.reset(static_cast<uint64_t*>(::calloc(chunks, sizeof(uint64_t))));
  return sums_ ? Status() : make_error(ENOMEM, "no memory for the checksums of a lazy file");
}

Result<std::shared_ptr<LazyFile>> LazyFile::create(const Object& object, std::shared_ptr<Accounts> accounts,
                                                   uint32_t chunk_shift, int tmp_fd, InodeTableWriter& inodes,
                                                   Meter& meter) {
  Result<Fd> folder = lazy_folder(*object.dataset);
  if (!folder) return folder.error();
  std::string name = oid_name(object.oid);
  Result<Fd> handle = make_dir(tmp_fd, name, 0755);
  if (!handle) return handle.error();
  Result<uint64_t> inode = inode_of(handle->get());
  if (!inode) return inode.error();
  std::shared_ptr<LazyFile> f(new LazyFile());
  f->object = object;
  f->accounts = std::move(accounts);
  f->shift_ = chunk_shift;
  Status s = f->make_files(folder->get(), *inode, meter);
  if (s) s = inodes.insert(*inode, file_inode(object.oid), object.dataset->id(), InodeKind::kLazyObject);
  struct timespec times[2];
  both_times(object.mtime_ns, times);
  if (s && ::futimens(handle->get(), times) != 0) s = os_error("cannot set the time of a handle");
  if (s && ::renameat(tmp_fd, name.c_str(), folder->get(), name.c_str()) != 0)
    s = os_error("cannot put a handle in its place");
  if (s && ::fchmod(handle->get(), 0555) != 0) s = os_error("cannot set the mode of a handle");
  if (s) return f;
  ::unlinkat(tmp_fd, name.c_str(), AT_REMOVEDIR);
  f->remove_files();
  return s.error();
}

Result<std::shared_ptr<LazyFile>> LazyFile::renew(const LazyFile& old, Meter& meter) {
  Result<Fd> folder = lazy_folder(*old.object.dataset);
  if (!folder) return folder.error();
  std::shared_ptr<LazyFile> f(new LazyFile());
  f->object = old.object;
  f->accounts = old.accounts;
  f->shift_ = old.shift_;
  if (Status s = f->make_files(folder->get(), old.handle_inode(), meter); !s) return s.error();
  return f;
}

void LazyFile::remove_files() {
  Result<Fd> folder = lazy_folder(*object.dataset);
  if (!folder || !map_) return;
  for (uint32_t i = 0; !is_whole() && i < chunk_count(); ++i) {
    const uint32_t run = run_of_present(i);
    if (run > 0) punch(i, run);
    i += run;
  }
  ::unlinkat(object.dataset->chunks_fd(), chunk_data_name(handle_inode()).c_str(), 0);
  ::unlinkat(folder->get(), chunk_map_name(handle_inode()).c_str(), 0);
  ::unlinkat(folder->get(), oid_name(object.oid).c_str(), AT_REMOVEDIR);
  charge_ = Charge();
}

// ---- taking over --------------------------------------------------------------------------------

Status LazyFile::open_files(int folder, uint64_t handle, ObjectId oid, Meter& meter) {
  Fd found(::openat(folder, chunk_map_name(handle).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (!found.valid() || ::fstat(found.get(), &st) != 0) return os_error("no chunk map");
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 0222) ||
      st.st_size < static_cast<off_t>(sizeof(ChunkMap)))
    return make_error(EBADMSG, "a chunk map is damaged");
  // 0444: opened anew for writing by the owner of the name.
  ::fchmod(found.get(), 0644);
  Fd writable(::openat(folder, chunk_map_name(handle).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  ::fchmod(found.get(), 0444);
  if (!writable.valid()) return os_error("cannot open a chunk map");
  Result<Mapping> mapped = Mapping::map(writable.get(), static_cast<size_t>(st.st_size), true);
  if (!mapped) return mapped.error();
  auto* m = static_cast<const ChunkMap*>(mapped->data());
  bool good = m->magic == kChunkMapMagic && m->format == kChunkMapFormat && m->chunk_shift >= kMinShift &&
              m->chunk_shift <= kMaxShift && m->oid == oid && m->handle_inode == handle &&
              m->dataset_id == object.dataset->id() && m->size > 0 && m->chunk_count > 0 &&
              m->chunk_count - 1 == (m->size - 1) >> m->chunk_shift &&
              static_cast<uint64_t>(st.st_size) == chunk_map_bytes(m->chunk_count);
  if (!good) return make_error(EBADMSG, "a chunk map is damaged");
  if (!m->whole.load())
    if (Status opened = open_data(handle, *m); !opened) return opened;
  shift_ = m->chunk_shift;
  object.oid = oid;
  object.size = m->size;
  object.mtime_ns = m->mtime_ns;
  map_ = std::move(*mapped);
  charge_ = Charge(meter, larder::on_disk(map_.size()));
  return make_sums(map().chunk_count);
}

Status LazyFile::open_data(uint64_t handle, const ChunkMap& m) {
  const int folder = object.dataset->chunks_fd();
  const std::string data(chunk_data_name(handle));
  struct stat st;
  if (::fchmodat(folder, data.c_str(), 0644, 0) != 0) return os_error("no data file");
  Fd fd(::openat(folder, data.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  ::fchmodat(folder, data.c_str(), 0444, 0);
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return os_error("no data file");
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || st.st_ino != m.data_inode ||
      static_cast<uint64_t>(st.st_size) != m.size)
    return make_error(EBADMSG, "a data file is damaged");
  data_ = std::move(fd);
  return {};
}

// What was under way when the former daemon died lies in chunks that are absent.
void LazyFile::punch_absent() {
  uint32_t absent = 0;  // just before i
  for (uint32_t i = 0; i < chunk_count(); ++i) {
    if (!present(i)) {
      ++absent;
      continue;
    }
    if (absent > 0) punch_bytes(i - absent, absent);
    absent = 0;
    ++present_chunks;
    present_bytes += chunk_on_disk(i);
  }
  if (absent > 0) punch_bytes(chunk_count() - absent, absent);
}

Result<std::shared_ptr<LazyFile>> LazyFile::take_over(const std::shared_ptr<Dataset>& dataset,
                                                      std::shared_ptr<Accounts> accounts, ObjectId oid,
                                                      InodeTableWriter& inodes, Meter& meter) {
  Result<Fd> folder = lazy_folder(*dataset);
  if (!folder) return folder.error();
  Result<Fd> handle = open_dir(folder->get(), oid_name(oid));
  if (!handle) return handle.error();
  Result<uint64_t> inode = inode_of(handle->get());
  if (!inode) return inode.error();
  std::shared_ptr<LazyFile> f(new LazyFile());
  f->object.dataset = dataset;
  f->accounts = std::move(accounts);
  if (Status s = f->open_files(folder->get(), *inode, oid, meter); !s) return s.error();
  if (Status s = inodes.insert(*inode, file_inode(oid), dataset->id(), InodeKind::kLazyObject); !s) return s.error();
  if (!f->is_whole()) f->punch_absent();
  return f;
}

// ---- chunks -------------------------------------------------------------------------------------

void LazyFile::set_present(uint32_t chunk, uint64_t sum) {
  sums_[chunk] = sum;
  uint32_t before = word(chunk).load(std::memory_order_relaxed);
  word(chunk).store(((before & ~kChunkPresent) + kChunkGeneration) | kChunkPresent, std::memory_order_release);
}

// TSan does not know fences, and misses nothing here: the words are atomics, and what the fence orders after them is
// the hole, which the kernel makes.
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wtsan"
#endif
void LazyFile::punch(uint32_t first, uint32_t count) {
  for (uint32_t i = first; i < first + count; ++i) {
    uint32_t before = word(i).load(std::memory_order_relaxed);
    // A reader that saw PRESENT loads the word again after it read: the store must be seen before the hole.
    word(i).store((before & ~(kChunkPresent | kChunkMark)) + kChunkGeneration, std::memory_order_seq_cst);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  punch_bytes(first, count);
}
#pragma GCC diagnostic pop

void LazyFile::punch_bytes(uint32_t first, uint32_t count) {
  ::fallocate(data_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(chunk_offset(first)),
              static_cast<off_t>(uint64_t{count} << shift_));
}

uint32_t LazyFile::run_of_present(uint32_t chunk) const {
  uint32_t n = 0;
  while (chunk + n < chunk_count() && present(chunk + n))
    ++n;
  return n;
}

void LazyFile::set_mark(uint32_t chunk, bool on) {
  if (on)
    word(chunk).fetch_or(kChunkMark, std::memory_order_relaxed);
  else
    word(chunk).fetch_and(~kChunkMark, std::memory_order_relaxed);
}

Status LazyFile::rename_to_whole() {
  const int folder = object.dataset->chunks_fd();
  struct timespec times[2];
  both_times(object.mtime_ns, times);
  if (::futimens(data_.get(), times) != 0) return os_error("cannot set the time of a cache file");
  static_cast<ChunkMap*>(map_.data())->whole.store(1, std::memory_order_release);
  if (::renameat(folder, chunk_data_name(handle_inode()).c_str(), folder, oid_name(object.oid).c_str()) != 0) {
    Status s = os_error("cannot name a cache file");
    static_cast<ChunkMap*>(map_.data())->whole.store(0, std::memory_order_release);
    return s;
  }
  data_.reset();
  return {};
}

}  // namespace larder
