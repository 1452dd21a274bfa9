#include "cached/metrics/metrics_server.h"

#include <fmt/format.h>
#include <httplib.h>

#include <charconv>
#include <thread>

#include "cached/metrics/families.h"
#include "cached/metrics/status_page.h"

namespace larder {

using httplib::Request;
using httplib::Response;

static constexpr size_t kThreads = 2;
static constexpr size_t kMaxBody = 1024;  // no request has one
static constexpr time_t kPatience_s = 5;

Result<std::pair<std::string, int>> parse_address(const std::string& text) {
  const Error bad =
      make_error(EINVAL, fmt::format("metrics = \"{}\": give an address and a port, such as 127.0.0.1:9568", text));
  const size_t colon = text.rfind(':');
  if (colon == text.npos) return bad;
  std::string host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']'))
    host = host.substr(1, host.size() - 2);
  else if (host.find(':') != host.npos)
    return bad;
  int port = -1;
  const auto [end, error] = std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port < 0 || port > 65535 || host.empty()) return bad;
  return std::pair(host, port);
}

MetricsServer::MetricsServer(Report report)
    : report_(std::move(report)), server_(std::make_unique<httplib::Server>()) {}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& address, Report report) {
  auto at = parse_address(address);
  if (!at) return at.error();
  std::unique_ptr<MetricsServer> out(new MetricsServer(std::move(report)));
  out->add_pages();
  httplib::Server& server = *out->server_;
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  server.set_payload_max_length(kMaxBody);
  server.set_keep_alive_timeout(kPatience_s);
  server.set_read_timeout(kPatience_s);
  server.set_write_timeout(kPatience_s);
  errno = 0;
  out->port_ =
      at->second ? (server.bind_to_port(at->first, at->second) ? at->second : -1) : server.bind_to_any_port(at->first);
  if (out->port_ < 0) {
    const int code = errno ? errno : EINVAL;
    return make_error(code, fmt::format("metrics = \"{}\": cannot listen there: {}", address, strerror(code)));
  }
  out->thread_ = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running())  // stop() does nothing before
    std::this_thread::yield();
  return out;
}

MetricsServer::~MetricsServer() {
  server_->stop();
  if (thread_.joinable()) thread_.join();
}

void MetricsServer::add_pages() {
  server_->set_pre_routing_handler([](const Request& request, Response& response) {
    if (request.method == "GET" || request.method == "HEAD") return httplib::Server::HandlerResponse::Unhandled;
    response.status = 405;
    response.set_header("Allow", "GET, HEAD");
    return httplib::Server::HandlerResponse::Handled;
  });
  server_->Get("/metrics", [this](const Request&, Response& response) {
    response.set_content(prometheus_text(metric_families(report_())), "text/plain; version=0.0.4; charset=utf-8");
  });
  server_->Get("/healthz", [](const Request&, Response& response) { response.set_content("ok\n", "text/plain"); });
  server_->Get("/readyz", [this](const Request&, Response& response) {
    const size_t waiting = report_().value("waiting_mounts", nlohmann::json::array()).size();
    response.status = waiting ? 503 : 200;
    response.set_content(waiting ? fmt::format("{} mounts are not served yet\n", waiting) : "ok\n", "text/plain");
  });
  server_->Get("/status.json", [this](const Request&, Response& response) {
    response.set_header("Cache-Control", "no-store");
    response.set_content(report_().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), "application/json");
  });
  server_->Get("/", [](const Request&, Response& response) {
    response.set_header(
        "Content-Security-Policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'");
    response.set_header("X-Content-Type-Options", "nosniff");
    response.set_content(kStatusPage.data(), kStatusPage.size(), "text/html; charset=utf-8");
  });
}

}  // namespace larder
