// A socket with a name, and the lock beside it that makes its daemon the only one. Not thread-safe.
#pragma once
#include <string>

#include "cached/base/fd.h"
#include "larder/result.h"

namespace larder {

class Listener {
 public:
  Listener() = default;
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  // Removes the socket and its lock, if open() made them.
  ~Listener();

  // Binds the socket: 0666 in a folder that is made, or (is_private) 0600 in a folder of 0700. A stale socket is
  // replaced. EBUSY: another daemon has it. EACCES: others can enter the private folder. EEXIST: the path is no socket.
  Status open(const std::string& path, bool is_private);
  // Takes a socket that somebody else has bound and keeps (systemd, the keeper). EINVAL: it is not bound to `path`.
  Status adopt(Fd socket, const std::string& path);
  int fd() const { return socket_.get(); }
  // The next connection, non-blocking; invalid with errno EAGAIN if there is none.
  Fd accept();

 private:
  Status lock(const std::string& path);
  Status bind(const std::string& path, bool is_private);

  Fd lock_, socket_;
  std::string path_, lock_name_;  // what is there and ours
};

}  // namespace larder
