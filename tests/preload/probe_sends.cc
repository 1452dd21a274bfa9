// Calls in which the kernel reads the program's memory, from a mapping whose pages nobody has touched. probe_sends
// FILE: one line a call, equal bare on a plain file and preloaded on a lazy one. FILE has 64 MiB.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <vector>

extern "C" {
ssize_t __write(int, const void*, size_t);
ssize_t __send(int, const void*, size_t, int);
ssize_t __pwrite64(int, const void*, size_t, off64_t);
}

namespace {

constexpr size_t kMiB = 1 << 20;
const char* file;
char* data;
size_t at = 0;
int out;

unsigned checksum(const char* p, size_t n) {
  unsigned h = 5381;
  for (size_t i = 0; i < n; ++i)
    h = h * 33 + static_cast<unsigned char>(p[i]);
  return h;
}

// Bytes of the mapping that no call has had before.
char* fresh(size_t n) {
  char* p = data + at;
  at += (n + 0xfffff) & ~size_t{0xfffff};
  return p;
}

struct iovec* fresh_parts(size_t each) {
  static struct iovec parts[3];
  for (auto& part : parts)
    part = {fresh(each), each};
  return parts;
}

// The result, and what has arrived in the file since.
void say(const char* what, ssize_t result) {
  const char* error = result < 0 ? strerrorname_np(errno) : "0";
  std::string arrived(8 * kMiB, 0);
  const ssize_t n = pread(out, arrived.data(), arrived.size(), 0);
  printf("%s = %zd %s, %zd bytes %08x at %ld\n", what, result, error, n,
         checksum(arrived.data(), n > 0 ? static_cast<size_t>(n) : 0), static_cast<long>(lseek(out, 0, SEEK_CUR)));
  (void)!ftruncate(out, 0);
  lseek(out, 0, SEEK_SET);
}
#define CALL(expr)                 \
  do {                             \
    errno = 0;                     \
    const ssize_t result = (expr); \
    say(#expr, result);            \
  } while (0)

void to_files() {
  constexpr size_t n = kMiB + 5;
  CALL(write(out, fresh(n), n));
  CALL(__write(out, fresh(n), n));
  CALL(pwrite(out, fresh(n), n, 10));
  CALL(pwrite64(out, fresh(n), n, 10));
  CALL(__pwrite64(out, fresh(n), n, 0));
  CALL(writev(out, fresh_parts(300'000), 3));
  CALL(pwritev(out, fresh_parts(300'000), 3, 7));
  CALL(pwritev64(out, fresh_parts(300'000), 3, 7));
  CALL(pwritev2(out, fresh_parts(300'000), 3, 7, 0));
  CALL(pwritev64v2(out, fresh_parts(300'000), 3, -1, 0));
  CALL(syscall(SYS_write, out, fresh(n), n));
  CALL(syscall(SYS_pwritev, out, fresh_parts(1000), 3, 7, 0));
  struct iovec mixed[3] = {{const_cast<char*>("head"), 4}, {fresh(1), 100'000}, {const_cast<char*>("tail"), 4}};
  CALL(writev(out, mixed, 3));
  static void* volatile bad = reinterpret_cast<char*>(8);
  CALL(write(out, bad, 100));
  CALL(write(out, fresh(1), 0));
}

void to_streams() {
  FILE* stream = fdopen(dup(out), "w");
  CALL(static_cast<ssize_t>(fwrite(fresh(1), 3, 333'333, stream)));
  CALL(static_cast<ssize_t>(fwrite_unlocked(fresh(1), 1, 999'999, stream)));
  CALL(static_cast<ssize_t>(fwrite(fresh(1), 0, 5, stream)));
  CALL(fflush(stream));
  fclose(stream);
}

// What comes out of a socket or pipe goes into the file, in the order in which it came.
struct Drain {
  int from;
  pthread_t thread;
  static void* run(void* self) {
    static char buffer[65536];
    for (ssize_t n; (n = read(static_cast<Drain*>(self)->from, buffer, sizeof(buffer))) > 0;)
      (void)!write(out, buffer, static_cast<size_t>(n));
    return nullptr;
  }
  explicit Drain(int fd) : from(fd) { pthread_create(&thread, nullptr, run, this); }
  ~Drain() {
    pthread_join(thread, nullptr);
    close(from);
  }
};

template <typename Send>
void to_socket(const char* name, Send send_it) {
  int ends[2];
  socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
  ssize_t result;
  int error;
  {
    Drain drain(ends[1]);
    errno = 0;
    result = send_it(ends[0]);
    error = errno;
    close(ends[0]);
  }
  errno = error;
  say(name, result);
}

void to_sockets() {
  constexpr size_t n = kMiB;
  to_socket("send", [](int fd) { return send(fd, fresh(n), n, 0); });
  to_socket("__send", [](int fd) { return __send(fd, fresh(n), n, 0); });
  to_socket("sendto", [](int fd) { return sendto(fd, fresh(n), n, 0, nullptr, 0); });
  struct msghdr message = {};
  message.msg_iovlen = 3;
  to_socket("sendmsg", [&](int fd) {
    message.msg_iov = fresh_parts(200'000);
    return sendmsg(fd, &message, 0);
  });
  to_socket("sendmmsg", [&](int fd) {
    struct mmsghdr several[1] = {};
    several[0].msg_hdr.msg_iov = fresh_parts(50'000);
    several[0].msg_hdr.msg_iovlen = 3;
    return static_cast<ssize_t>(sendmmsg(fd, several, 1, 0));
  });
  to_socket("write", [](int fd) { return write(fd, fresh(n), n); });
  int ends[2];
  (void)!pipe(ends);
  const struct iovec part = {fresh(1), 32'768};
  const ssize_t spliced = vmsplice(ends[1], &part, 1, 0);
  close(ends[1]);
  { Drain drain(ends[0]); }
  say("vmsplice", spliced);
}

void to_memory() {
  std::vector<char> copy(400'000);
  struct iovec to = {copy.data(), copy.size()}, from = {fresh(1), copy.size()};
  CALL(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
  printf("%08x\n", checksum(copy.data(), copy.size()));
  from = {fresh(1), copy.size()};
  CALL(process_vm_writev(getpid(), &from, 1, &to, 1, 0));
  printf("%08x\n", checksum(copy.data(), copy.size()));
  from = {fresh(1), copy.size()};
  CALL(syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0));
  CALL(syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 1));
  printf("%08x\n", checksum(copy.data(), copy.size()));
  CALL(mlock(fresh(1), 16'384));
}

}  // namespace

int main(int, char** argv) {
  file = argv[1];
  const int fd = open(file, O_RDONLY);
  data = static_cast<char*>(mmap(nullptr, 64 * kMiB, PROT_READ, MAP_SHARED, fd, 0));
  if (fd < 0 || data == MAP_FAILED) return perror(file), 1;
  out = memfd_create("out", 0);
  to_files();
  to_streams();
  to_sockets();
  to_memory();
  // Within a forked child, whose pager is another one.
  fflush(stdout);
  if (fork() == 0) {
    CALL(write(out, fresh(kMiB), kMiB));
    return 0;
  }
  wait(nullptr);
}
