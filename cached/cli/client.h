// A client of larderd's socket: kAdmin requests, JSON both ways (docs/protocol.md). One connection a request.
#pragma once
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "larder/result.h"

namespace larder::cli {

using Json = nlohmann::json;

class Client {
 public:
  explicit Client(std::string socket) : socket_(std::move(socket)) {}

  // Sends a request and waits for its last reply; `progress` gets the object of every progress reply before. What comes
  // back is checked: a reply that is not one is EPROTO. An error of the daemon comes with its errno and its own line.
  // A daemon that is busy (EAGAIN) is asked again for up to a minute.
  // ECONNREFUSED: nobody listens there (also if there is no socket). ETIMEDOUT: no answer to an op that answers at
  // once.
  Result<Json> request(const Json& request, const std::function<void(const Json&)>& progress = {}) const;

  // True if a daemon answers. False only if nobody listens; any other trouble is an error.
  Result<bool> answers() const;

  const std::string& socket() const { return socket_; }

 private:
  Result<Json> request_once(const Json& request, const std::function<void(const Json&)>& progress) const;

  std::string socket_;
};

}  // namespace larder::cli
