#include "cached/keeper/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cached/keeper/log.h"
#include "larder/names.h"

namespace larder::keeper {
namespace {

constexpr int kBacklog = 4096;

int complain(const char* what, const char* path) {
  log("error", "larder-keeper: %s '%s': %s", what, path, strerror(errno));
  return -1;
}

bool make_folder(const char* path, bool is_private) {
  char folder[PATH_MAX];
  const char* slash = strrchr(path, '/');
  if (slash == nullptr || slash == path) return true;
  snprintf(folder, sizeof folder, "%.*s", static_cast<int>(slash - path), path);
  struct stat st;
  if (mkdir(folder, is_private ? 0700 : 0755) != 0 && errno != EEXIST) return complain("cannot make", folder) == 0;
  if (!is_private) return true;
  if (lstat(folder, &st) != 0) return complain("cannot stat", folder) == 0;
  if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0) return true;
  log("error", "%s is not a folder that only you can enter; remove it, or choose another with --socket", folder);
  return false;
}

// Held until the keeper ends. The one before removes its lock when it ends: the lock counts only if it has the name.
bool lock(const char* path) {
  char name[PATH_MAX];
  snprintf(name, sizeof name, "%s.lock", path);
  struct stat mine, named;
  int fd = -1;
  do {
    if (fd >= 0) close(fd);
    fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return complain("cannot make", name) == 0;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      char pid[16] = {};
      (void)!pread(fd, pid, sizeof pid - 1, 0);
      log("error", "socket %s is in use by the process %d; stop it, or choose another with --socket", path, atoi(pid));
      return false;
    }
    if (fstat(fd, &mine) != 0) return complain("cannot stat", name) == 0;
  } while (stat(name, &named) != 0 || named.st_ino != mine.st_ino || named.st_dev != mine.st_dev);
  char pid[16];
  const int n = snprintf(pid, sizeof pid, "%d\n", getpid());
  return ftruncate(fd, 0) == 0 && pwrite(fd, pid, static_cast<size_t>(n), 0) == n;
}

}  // namespace

int open_socket(const char* path, bool is_private) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address.sun_path) return errno = ENAMETOOLONG, complain("socket path", path);
  memcpy(address.sun_path, path, strlen(path));
  if (!make_folder(path, is_private) || !lock(path)) return -1;
  struct stat st;
  if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
    log("error", "%s exists and is not a socket; choose another with --socket", path);
    return -1;
  }
  unlink(path);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return complain("cannot bind socket", path);
  if (chmod(path, is_private ? 0600 : 0666) != 0 || listen(fd, kBacklog) != 0)
    return complain("cannot listen on socket", path);
  return fd;
}

void remove_socket(const char* path, bool is_private) {
  char name[PATH_MAX];
  snprintf(name, sizeof name, "%s%s", path, kMountsFileSuffix);
  if (is_private) unlink(name);
  unlink(path);
  snprintf(name, sizeof name, "%s.lock", path);
  unlink(name);
}

int open_notify(char* out, unsigned long size) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const int on = 1;
  socklen_t length = sizeof(sa_family_t);  // the kernel chooses an abstract name; whoever else sends there is not heard
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return complain("cannot make a socket for", "notifications");
  length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return complain("cannot name", "a socket");
  const int text = static_cast<int>(length - offsetof(sockaddr_un, sun_path)) - 1;
  snprintf(out, size, "@%.*s", text, address.sun_path + 1);
  return fd;
}

void notify(const char* text, unsigned long length, int fd) {
  const char* path = getenv("NOTIFY_SOCKET");
  sockaddr_un address = {};
  const size_t n = path != nullptr ? strlen(path) : 0;
  if (n < 2 || n >= sizeof address.sun_path) return;
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path, n);
  if (path[0] == '@') address.sun_path[0] = 0;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  iovec part = {const_cast<char*>(text), length};
  msghdr message = {};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + n);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  const int socket_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sendmsg(socket_fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  close(socket_fd);
}

}  // namespace larder::keeper
