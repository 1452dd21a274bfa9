// Reads a chunk while it is evicted and fetched again in the middle of the kernel's copy: pages of the buffer are
// missing, and a userfaultfd handler has the chunk evicted at the first one and fetched again at the last one. Zeros of
// the hole in between must not be seen.
//
//   torn_read WAY FILE OFFSET BYTES EVICT FETCH     WAY: read, pread, readv. EVICT, FETCH: commands of sh. The bytes go
//                                                   to stdout.
//
// Needs a userfaultfd that serves the kernel: root, or vm.unprivileged_userfaultfd.
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string>
#include <thread>

namespace {

constexpr size_t kPage = 4096;

[[noreturn]] void die(const char* what) {
  perror(what);
  _exit(1);
}

// Two pages are missing: a third and two thirds through the buffer.
void resolve(int uffd, const char* const* commands) {
  for (int stop = 0; stop < 2; ++stop) {
    uffd_msg m;
    if (read(uffd, &m, sizeof m) != static_cast<ssize_t>(sizeof m)) die("uffd");
    if (system(commands[stop]) != 0) die(commands[stop]);
    uffdio_zeropage zero = {{m.arg.pagefault.address & ~(kPage - 1), kPage}, 0, 0};
    if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero) != 0) die("UFFDIO_ZEROPAGE");
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return fprintf(stderr, "torn_read WAY FILE OFFSET BYTES EVICT FETCH\n"), 2;
  sigset_t child;  // a signal would have a fault reported twice
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, nullptr);
  const std::string way = argv[1];
  const off_t offset = atoll(argv[3]);
  const size_t bytes = strtoull(argv[4], nullptr, 10) & ~(kPage - 1);
  const int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
  char first;
  if (fd < 0 || pread(fd, &first, 1, offset) != 1 || lseek(fd, offset, SEEK_SET) != offset) die(argv[2]);
  auto* buffer = static_cast<char*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0));
  const int uffd = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC));
  uffdio_api api = {UFFD_API, 0, 0};
  if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) != 0) die("userfaultfd");
  for (size_t at : {bytes / 3, bytes / 3 * 2}) {
    char* page = buffer + at / kPage * kPage;
    madvise(page, kPage, MADV_DONTNEED);
    uffdio_register r = {{reinterpret_cast<uint64_t>(page), kPage}, UFFDIO_REGISTER_MODE_MISSING, 0};
    if (ioctl(uffd, UFFDIO_REGISTER, &r) != 0) die("UFFDIO_REGISTER");
  }
  std::thread helper(resolve, uffd, argv + 5);
  struct iovec part = {buffer, bytes};
  const ssize_t n = way == "read"    ? read(fd, buffer, bytes)
                    : way == "pread" ? pread(fd, buffer, bytes, offset)
                                     : readv(fd, &part, 1);
  if (n != static_cast<ssize_t>(bytes)) die("read");
  helper.join();
  for (size_t done = 0; done < bytes;) {
    const ssize_t w = write(1, buffer + done, bytes - done);
    if (w <= 0) die("write");
    done += static_cast<size_t>(w);
  }
}
