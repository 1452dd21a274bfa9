#include "cached/server/listener.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>

#include "cached/base/files.h"

namespace larder {

static constexpr int kBacklog = 4096;

static Status check_private_folder(const std::string& folder) {
  struct stat st;
  if (::lstat(folder.c_str(), &st) != 0) return os_error("cannot stat " + folder);
  if (!S_ISDIR(st.st_mode) || st.st_uid != ::geteuid() || (st.st_mode & 077) != 0)
    return make_error(EACCES,
                      folder + " is not a folder that only you can enter; remove it, or choose another with --socket");
  return {};
}

static Result<Fd> open_lock(const std::string& name) {
  Fd fd(::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return os_error("cannot make " + name + " (choose another place with --socket)");
  return fd;
}

static Error in_use(const std::string& path, const std::string& lock_name) {
  Result<std::string> read = read_file(AT_FDCWD, lock_name, 64);
  std::string pid = read ? *read : "";
  while (!pid.empty() && pid.back() == '\n')
    pid.pop_back();
  return make_error(
      EBUSY, fmt::format("socket {} is in use by larderd with pid {}; stop it, or choose another with --socket", path,
                         shown(pid)));
}

Listener::~Listener() {
  if (!path_.empty()) ::unlink(path_.c_str());
  if (!lock_name_.empty()) ::unlink(lock_name_.c_str());
}

Status Listener::open(const std::string& path, bool is_private) {
  std::string folder = path.substr(0, path.rfind('/'));
  if (!folder.empty())
    if (Status s = make_dirs(folder, is_private ? 0700 : 0755); !s) return s;
  if (is_private)
    if (Status s = check_private_folder(folder); !s) return s;
  if (Status s = lock(path); !s) return s;
  return bind(path, is_private);
}

Status Listener::adopt(Fd socket, const std::string& path) {
  struct sockaddr_un address = {};
  socklen_t length = sizeof address;
  if (::getsockname(socket.get(), reinterpret_cast<struct sockaddr*>(&address), &length) != 0)
    return os_error("the listening socket that larderd was started with");
  const std::string bound(address.sun_path, strnlen(address.sun_path, sizeof address.sun_path));
  if (bound != path)
    return make_error(
        EINVAL, fmt::format("larderd was started with the socket {}, and its configuration says {}: make them the same",
                            bound, path));
  socket_ = std::move(socket);
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  if (::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK) != 0) return os_error("cannot use socket " + path);
  return {};
}

// Whoever holds the lock may remove a stale socket. The former daemon removes its lock when it ends, so the lock counts
// only if it still has the name.
Status Listener::lock(const std::string& path) {
  std::string name = path + ".lock";
  struct stat mine, named;
  do {
    Result<Fd> fd = open_lock(name);
    if (!fd) return fd.error();
    if (::flock(fd->get(), LOCK_EX | LOCK_NB) != 0) return in_use(path, name);
    lock_ = std::move(*fd);
    if (::fstat(lock_.get(), &mine) != 0) return os_error("cannot stat " + name);
  } while (::stat(name.c_str(), &named) != 0 || named.st_ino != mine.st_ino || named.st_dev != mine.st_dev);
  lock_name_ = name;
  std::string pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(lock_.get(), 0) != 0) return os_error("cannot write " + name);
  return pwrite_all(lock_.get(), pid.data(), pid.size(), 0);
}

Status Listener::bind(const std::string& path, bool is_private) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return make_error(EINVAL, "socket path " + path + " is too long");
  memcpy(address.sun_path, path.c_str(), path.size());
  socket_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_.valid()) return os_error("cannot make a socket");
  struct stat st;
  if (::lstat(path.c_str(), &st) == 0 && !S_ISSOCK(st.st_mode))
    return make_error(EEXIST, path + " exists and is not a socket; choose another with --socket");
  ::unlink(path.c_str());
  // The mode is right before anyone can connect: programs connect after listen().
  if (::bind(socket_.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof address) != 0)
    return os_error("cannot bind socket " + path);
  path_ = path;
  if (::chmod(path.c_str(), is_private ? 0600 : 0666) != 0) return os_error("cannot set the mode of " + path);
  if (::listen(socket_.get(), kBacklog) != 0) return os_error("cannot listen on " + path);
  return {};
}

Fd Listener::accept() {
  return Fd(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

}  // namespace larder
