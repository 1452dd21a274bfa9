// Reads lazy objects through their handles (preload/lazy/lazy_read.h): positions, vectors. Results are bytes or -errno.
#pragma once
#include <stdio.h>

#include "preload/lazy/lazy_read.h"

namespace larder {

// lseek(2) of a handle, except SEEK_SET and SEEK_CUR, which the kernel has served before.
off_t lazy_seek(int fd, const Lazy& lazy, off_t offset, int whence);

// A program may have been started with a lazy object as its standard input: libc's stream of it would only get EISDIR.
// Called once, by the constructor; costs a system call.
void replace_stdin();

// For a new stream: what an earlier one at this address was is forgotten (wide_stdio.cc).
void forget_wide(const FILE* stream);

// Claims the next `size` bytes at the position of a handle, as read(2) does under the kernel's lock: the position moves
// at once, so that two readers of one open file never get the same bytes. take_back() when fewer were read.
struct Claim {
  int fd;
  uint64_t offset = 0;  // where the bytes begin
  size_t size = 0;
  int error = 0;
  Claim(int handle, size_t wanted, uint64_t object_size);
  void keep(ssize_t got);  // of what was claimed
};

}  // namespace larder
