// The mappings of this process, as the kernel lists them. Nothing is allocated; safe in a fork's child and in the
// pager.
#pragma once
#include <errno.h>

#include "preload/base/sys.h"

namespace larder {

struct MapsEntry {
  uint64_t start, end, offset;
  uint64_t dev;  // as st_dev
  uint64_t inode;
  bool shared;
};

// Parses /proc/<pid>/maps character by character.
class MapsParser {
 public:
  // True: `out` is complete.
  bool feed(char c, MapsEntry* out) {
    if (field_ > kInode) return end_of_line(c), false;
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (field_ != kPermissions && digit >= 0) {
      fields_[field_] = fields_[field_] * (field_ == kInode ? 10 : 16) + static_cast<uint64_t>(digit);
      return false;
    }
    if (field_ == kPermissions && c == 's') fields_[kPermissions] = 1;
    if (c != ' ' && c != '-' && c != ':' && c != '\n') return false;
    if (field_ == kPermissions && c == '-') return false;
    const bool complete = field_++ == kInode;
    if (complete) {
      const uint64_t major = fields_[kMajor], minor = fields_[kMinor];
      *out = {fields_[0],       fields_[1],
              fields_[kOffset], (minor & 0xff) | major << 8 | (minor & ~0xffULL) << 12,
              fields_[kInode],  fields_[kPermissions] != 0};
    }
    end_of_line(c);
    return complete;
  }

 private:
  static constexpr int kPermissions = 2, kOffset = 3, kMajor = 4, kMinor = 5, kInode = 6;
  void end_of_line(char c) {
    if (c != '\n') return;
    field_ = 0;
    memset(fields_, 0, sizeof(fields_));
  }
  uint64_t fields_[kInode + 1] = {};
  int field_ = 0;
};

// Calls each(MapsEntry) for all of them. 0 or -errno.
template <typename Each>
int for_each_mapping(Each each) {
  sys::Fd fd(sys::openat(AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return fd.get();
  MapsParser parser;
  char buffer[2048];
  for (;;) {
    const long n = sys::call(SYS_read, fd.get(), sys::arg(buffer), sizeof(buffer));
    if (n == -EINTR) continue;
    if (n <= 0) return static_cast<int>(n);
    MapsEntry m;
    for (long i = 0; i < n; ++i)
      if (parser.feed(buffer[i], &m)) each(m);
  }
}

}  // namespace larder
