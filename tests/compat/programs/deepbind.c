// Loads a plugin with RTLD_DEEPBIND: its own calls go to libc, not to the preload.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#ifdef PLUGIN
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
int read_first(const char* path, char* out, int size);
int read_first(const char* path, char* out, int size) {
  int fd = open(path, O_RDONLY);
  if (fd < 0) return -errno;
  int n = (int)read(fd, out, (size_t)size);
  close(fd);
  return n;
}
#else
int main(int argc, char** argv) {
  for (int deep = 0; deep < 2; ++deep) {
    void* h = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL | (deep ? RTLD_DEEPBIND : 0));
    if (!h) return puts(dlerror()), 1;
    int (*read_first)(const char*, char*, int) = (int (*)(const char*, char*, int))dlsym(h, "read_first");
    char b[64];
    printf("%s %d\n", deep ? "deepbind" : "normal", read_first(argv[2], b, sizeof(b)));
    dlclose(h);
  }
  return argc == 0;
}
#endif
