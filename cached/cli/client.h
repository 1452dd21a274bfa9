// A client of larderd's socket: kAdmin requests, JSON both ways (docs/protocol.md). One connection a request.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "larder/keeper.h"
#include "larder/result.h"

namespace larder::cli {

using Json = nlohmann::json;

class Client {
 public:
  explicit Client(std::string socket) : socket_(std::move(socket)) {}

  // Sends a request and waits for its last reply; `progress` receives the object of every progress reply. A daemon that
  // is busy (EAGAIN) is asked again for up to a minute. Errors: the daemon's own errno and line; EPROTO for anything
  // that is not a reply; ECONNREFUSED if nobody listens, or there is no socket; ETIMEDOUT if an op that answers at once
  // does not.
  Result<Json> request(const Json& request, const std::function<void(const Json&)>& progress = {}) const;

  // True if a daemon answers. False if nobody listens; anything else is an error.
  Result<bool> answers() const;

  // Sends one of the requests that are a keeper's to answer (larder/keeper.h), with descriptors; the status of the
  // reply. Errors as of request().
  Result<int> ask_keeper(Op op, const std::vector<int>& fds) const;

  const std::string& socket() const { return socket_; }

 private:
  Result<Json> request_once(const Json& request, const std::function<void(const Json&)>& progress) const;

  std::string socket_;
};

}  // namespace larder::cli
