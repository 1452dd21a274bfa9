// A dynamic program that enters the kernel by itself, as rustix and liburing do: raw_opens FILE prints what its openat gave.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

static long raw_openat(int dir, const char* path, int flags) {
#if defined(__x86_64__)
  long r;
  register long r10 __asm__("r10") = 0;
  __asm__ volatile("syscall" : "=a"(r) : "a"(SYS_openat), "D"(dir), "S"(path), "d"(flags), "r"(r10) : "rcx", "r11", "memory");
  return r;
#else
  register long x8 __asm__("x8") = SYS_openat;
  register long x0 __asm__("x0") = dir;
  register const char* x1 __asm__("x1") = path;
  register long x2 __asm__("x2") = flags;
  register long x3 __asm__("x3") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
  return x0;
#endif
}

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  long fd = raw_openat(AT_FDCWD, argv[1], O_RDONLY);
  FILE* f = fopen(argv[1], "r");
  printf("raw %s, libc %s\n", fd >= 0 ? "opened" : strerror((int)-fd), f != NULL ? "opened" : strerror(errno));
  return 0;
}
