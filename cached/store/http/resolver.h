// Resolves names without blocking an event loop: numeric addresses at once, others by a thread each. Results are kept
// for a minute.
//
// Threads: lookup() from one thread. Other threads call `wake`, even after the Resolver is gone, so it must own what it
// uses.
#pragma once
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "larder/result.h"

namespace larder {

struct NetAddress {
  sockaddr_storage data{};
  socklen_t size = 0;
};

class Resolver {
 public:
  explicit Resolver(std::function<void()> wake);
  ~Resolver();
  // Nothing: not known yet; `wake` will be called. A failure is returned once; the next call asks again.
  std::optional<Result<std::vector<NetAddress>>> lookup(const std::string& host, const std::string& port);

 private:
  struct Shared;
  static constexpr std::chrono::seconds kKeep{60};
  std::shared_ptr<Shared> shared_;
};

}  // namespace larder
