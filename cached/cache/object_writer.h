// Fills one cache file: unnamed (O_TMPFILE) until it is whole, written with pwrite, hashed on the way.
#pragma once
#include <functional>
#include <memory>
#include <span>

#include "cached/base/fd.h"
#include "cached/cache/body_hash.h"

namespace larder {

class ObjectWriter {
 public:
  // Room on the file system ran out: frees some and returns true, or returns false.
  using OnFull = std::function<bool(uint64_t bytes)>;

  static Result<std::unique_ptr<ObjectWriter>> create(int folder, uint64_t size, OnFull on_full);

  // Appends. EPROTO: more bytes than the object has. ENOSPC: nothing could be freed.
  Status write(std::span<const std::byte> bytes);
  // From the first byte on, over what was written.
  void begin_again();
  // All bytes are there (EIO otherwise); sets its time. The file still has no name.
  Status finish(int64_t mtime_ns);

  int fd() const { return fd_.get(); }
  // The file, as long as somebody has it; the writer has none then.
  Fd release() { return std::move(fd_); }
  uint64_t sum() const { return hash_.value(); }
  uint64_t real_inode() const { return real_inode_; }

 private:
  Fd fd_;
  OnFull on_full_;
  BodyHash hash_;
  uint64_t size_ = 0;
  uint64_t written_ = 0;
  uint64_t real_inode_ = 0;
};

}  // namespace larder
