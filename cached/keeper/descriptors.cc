#include "cached/keeper/descriptors.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace larder::keeper {

static constexpr int kFirst = 3;  // SD_LISTEN_FDS_START

void Descriptors::adopt() {
  const char* pid = getenv("LISTEN_PID");
  const char* number = getenv("LISTEN_FDS");
  const char* names = getenv("LISTEN_FDNAMES");
  const int n = pid && number && names && atoi(pid) == getpid() ? atoi(number) : 0;
  for (int fd = kFirst; fd < kFirst + n && fd < kFirst + kMostStored; ++fd) {
    const size_t length = strcspn(names, ":");
    char name[kNameBytes] = {};
    memcpy(name, names, length < sizeof name ? length : sizeof name - 1);
    names += length + (names[length] == ':');
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) == 0) put(name, fd);
  }
  unsetenv("LISTEN_PID");
  unsetenv("LISTEN_FDS");
  unsetenv("LISTEN_FDNAMES");
}

int Descriptors::find(const char* name) const {
  for (int i = 0; i < count_; ++i)
    if (strcmp(stored_[i].name, name) == 0) return i;
  return -1;
}

bool Descriptors::put(const char* name, int fd) {
  const size_t length = strlen(name);
  const bool good = length > 0 && length < kNameBytes && strpbrk(name, ":\n") == nullptr;
  if (good) remove(name);
  if (!good || count_ == kMostStored) {
    close(fd);
    return false;
  }
  memcpy(stored_[count_].name, name, length + 1);
  stored_[count_++].fd = fd;
  return true;
}

int Descriptors::take(const char* name) {
  const int i = find(name);
  if (i < 0) return -1;
  const int fd = stored_[i].fd;
  stored_[i] = stored_[--count_];
  return fd;
}

void Descriptors::remove(const char* name) {
  const int fd = take(name);
  if (fd >= 0) close(fd);
}

}  // namespace larder::keeper
