// Reads its standard input in ways that liblarder.so cannot intercept: raw system calls, io_uring, libc's aio, a
// mapping, the file opened again through /proc. Each way prints "NAME errno N" or "NAME bytes N first XX". Built twice:
// as a dynamic program and as a static one.
#include <aio.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/base/sys.h"

namespace {

using larder::sys::call;

template <typename T>
long address(T* p) {
  return reinterpret_cast<long>(p);
}

char buffer[65536];

void report(const char* name, long r) {
  if (r < 0)
    printf("%s errno %ld\n", name, -r);
  else
    printf("%s bytes %ld first %02x\n", name, r, r > 0 ? static_cast<unsigned char>(buffer[0]) : 0u);
}

void map() {
  long r = call(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, 0, 0);
  if (r < 0 && r > -4096) return report("mmap", r);
  memcpy(buffer, reinterpret_cast<void*>(r), 4096);
  report("mmap", 4096);
}

void reopened() {
  long fd = call(SYS_openat, AT_FDCWD, address("/proc/self/fd/0"), O_RDONLY);
  report("reopen", fd < 0 ? fd : call(SYS_read, fd, address(buffer), 4096));
}

// One read by io_uring, with the rings mapped by hand.
void uring() {
  io_uring_params p = {};
  long fd = call(SYS_io_uring_setup, 4, address(&p));
  if (fd < 0) return report("io_uring", fd);
  auto ring = [&](uint64_t at, size_t bytes) {
    return reinterpret_cast<char*>(call(SYS_mmap, 0, static_cast<long>(bytes), PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_POPULATE, fd, static_cast<long>(at)));
  };
  char* sq = ring(IORING_OFF_SQ_RING, p.sq_off.array + p.sq_entries * sizeof(unsigned));
  char* cq = ring(IORING_OFF_CQ_RING, p.cq_off.cqes + p.cq_entries * sizeof(io_uring_cqe));
  auto* sqe = reinterpret_cast<io_uring_sqe*>(ring(IORING_OFF_SQES, p.sq_entries * sizeof(io_uring_sqe)));
  memset(sqe, 0, sizeof(*sqe));
  sqe->opcode = IORING_OP_READ;
  sqe->fd = 0;
  sqe->addr = reinterpret_cast<uint64_t>(buffer);
  sqe->len = 4096;
  reinterpret_cast<unsigned*>(sq + p.sq_off.array)[0] = 0;
  __atomic_store_n(reinterpret_cast<unsigned*>(sq + p.sq_off.tail), 1u, __ATOMIC_RELEASE);
  long r = call(SYS_io_uring_enter, fd, 1, 1, IORING_ENTER_GETEVENTS);
  report("io_uring", r < 0 ? r : reinterpret_cast<io_uring_cqe*>(cq + p.cq_off.cqes)->res);
}

// libc's threads make internal calls.
void aio() {
  struct aiocb control = {};
  control.aio_buf = buffer;
  control.aio_nbytes = 4096;
  if (aio_read(&control) != 0) return report("aio_read", -errno);
  while (aio_error(&control) == EINPROGRESS)
    usleep(1000);
  const int error = aio_error(&control);
  report("aio_read", error != 0 ? -error : aio_return(&control));
}

}  // namespace

int main() {
  report("read", call(SYS_read, 0, address(buffer), 4096));
  report("pread", call(SYS_pread64, 0, address(buffer), 4096, 0));
  map();
  reopened();
  uring();
  aio();
  int out[2];
  if (pipe(out) == 0) report("sendfile", call(SYS_sendfile, out[1], 0, 0, 4096));
  if (pipe(out) == 0) report("splice", call(SYS_splice, 0, 0, out[1], 0, 4096, 0));
}
