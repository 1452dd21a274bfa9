// A program without libc's dynamic symbols: the preload cannot reach it. Reads standard input; opens a path if it got one.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char** argv) {
  int fd = argc > 1 ? open(argv[1], O_RDONLY) : 0;
  if (fd < 0) return printf("%s\n", strerror(errno)), 1;
  unsigned char b[65536];
  uint64_t h = 1469598103934665603ULL;
  long total = 0;
  for (ssize_t n; (n = read(fd, b, sizeof(b))) > 0; total += n) {
    for (ssize_t i = 0; i < n; ++i) h = (h ^ b[i]) * 1099511628211ULL;
  }
  printf("%ld %llx\n", total, (unsigned long long)h);
  return 0;
}
