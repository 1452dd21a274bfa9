#include "cached/cache/object_writer.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "cached/base/files.h"

namespace larder {

static constexpr mode_t kMode = 0444;  // from the start: a call less than fchmod at the end, which costs 1 us
static constexpr int kFullRetries =
    4;  // each frees what it can; a file system that stays full is another program's doing

Result<std::unique_ptr<ObjectWriter>> ObjectWriter::create(int folder, uint64_t size, OnFull on_full) {
  Result<Fd> fd = unnamed_file(folder, kMode);
  if (!fd) return fd.error();
  auto w = std::make_unique<ObjectWriter>();
  struct stat st;
  if (::fstat(fd->get(), &st) != 0) return os_error("cannot stat a cache file");
  const bool as_wished = (st.st_mode & 07777) == kMode;  // not with an odd umask
  if (!as_wished && ::fchmod(fd->get(), kMode) != 0) return os_error("cannot set the mode of a cache file");
  w->real_inode_ = st.st_ino;
  w->fd_ = std::move(*fd);
  w->size_ = size;
  w->on_full_ = std::move(on_full);
  return w;
}

Status ObjectWriter::write(std::span<const std::byte> bytes) {
  if (bytes.size() > size_ - written_)
    return make_error(EPROTO, fmt::format("the store sent more than the {} bytes of the object", size_));
  Status s = pwrite_all(fd_.get(), bytes.data(), bytes.size(), written_);
  for (int i = 0; !s && s.error().code == ENOSPC && i < kFullRetries && on_full_(bytes.size()); ++i)
    s = pwrite_all(fd_.get(), bytes.data(), bytes.size(), written_);
  if (!s) return s;
  hash_.update(bytes);
  written_ += bytes.size();
  return {};
}

void ObjectWriter::begin_again() {
  written_ = 0;
  hash_.reset();
}

Status ObjectWriter::finish(int64_t mtime_ns) {
  if (written_ != size_) return make_error(EIO, fmt::format("the store sent {} of {} bytes", written_, size_));
  struct timespec t = {mtime_ns / 1000000000, mtime_ns % 1000000000};
  if (t.tv_nsec < 0) t = {t.tv_sec - 1, t.tv_nsec + 1000000000};
  struct timespec times[2] = {t, t};
  if (::futimens(fd_.get(), times) != 0) return os_error("cannot set the time of a cache file");
  return {};
}

}  // namespace larder
