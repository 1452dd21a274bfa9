// The port for people and monitors (`metrics` of larder.toml, off unless set): /metrics for Prometheus, /healthz,
// /readyz, and a page that shows the node. It reads and never changes anything, whoever asks; what it shows must fit
// everybody who reaches the port.
//
// Threads: its own. `report` is called on them, several at once.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <nlohmann/json.hpp>

#include "larder/result.h"

namespace httplib {
class Server;
}

namespace larder {

class MetricsServer {
 public:
  // As `larder status --json`, less what only some may see.
  using Report = std::function<nlohmann::json()>;

  // `address`: "127.0.0.1:9568", "[::1]:9568"; port 0: any. EINVAL: no such address; EADDRINUSE.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& address, Report report);
  // Ends what runs.
  ~MetricsServer();

  int port() const { return port_; }

 private:
  explicit MetricsServer(Report report);
  void add_pages();

  const Report report_;
  const std::unique_ptr<httplib::Server> server_;
  int port_ = 0;
  std::thread thread_;
};

// "host:port" in its parts. EINVAL.
Result<std::pair<std::string, int>> parse_address(const std::string& text);

}  // namespace larder
