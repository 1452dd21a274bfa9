// Owners of what the kernel hands out: an Fd closes its descriptor, a Mapping unmaps its memory. Both can be moved, not
// copied.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>

#include "larder/result.h"

namespace larder {

// "what: reason of errno". The code is the errno.
inline Error os_error(std::string what, int err = errno) {
  return make_error(err, std::move(what) + ": " + std::generic_category().message(err));
}

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    if (this != &o) reset(std::exchange(o.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& o) noexcept : base_(std::exchange(o.base_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  Mapping& operator=(Mapping&& o) noexcept {
    std::swap(base_, o.base_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (base_) ::munmap(base_, bytes_);
  }

  // Maps `bytes` of a file from `offset` (whole pages) on, shared. The file must be at least that long.
  static Result<Mapping> map(int fd, size_t bytes, bool writable, uint64_t offset = 0) {
    void* base =
        ::mmap(nullptr, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, static_cast<off_t>(offset));
    if (base == MAP_FAILED) return os_error("cannot map " + std::to_string(bytes) + " bytes");
    Mapping m;
    m.base_ = base;
    m.bytes_ = bytes;
    return m;
  }

  void* data() const { return base_; }
  size_t size() const { return bytes_; }
  explicit operator bool() const { return base_ != nullptr; }

 private:
  void* base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace larder
