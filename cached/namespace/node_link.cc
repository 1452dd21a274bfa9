#include "cached/namespace/node_link.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "cached/base/log.h"

namespace larder {

using Clock = std::chrono::steady_clock;

static constexpr std::chrono::seconds kBusyPause{1};

std::string node_name(bool is_private) {
  if (const char* given = std::getenv("LARDER_NODE"); given && *given) return given;
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0 || host[0] == 0) return "unknown";
  return is_private ? fmt::format("{}/{}", host.data(), ::geteuid()) : host.data();
}

NodeLink::NodeLink(Meta& meta, Datasets& datasets, ObjectCache& cache, std::string node)
    : meta_(meta), datasets_(datasets), cache_(cache), node_(std::move(node)) {
  meta_.watch([inbox = inbox_](const std::string& name) {
    MutexLock lock(inbox->mutex);
    inbox->changed.insert(name);
    inbox->wake.notify_all();
  });
  thread_ = std::thread([this] { run(); });
}

NodeLink::~NodeLink() {
  stop();
}

void NodeLink::stop() {
  {
    MutexLock lock(inbox_->mutex);
    inbox_->stopping = true;
    inbox_->wake.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

bool NodeLink::wait_for_news(Clock::time_point next, std::set<std::string>* changed) {
  Inbox& inbox = *inbox_;
  changed->clear();
  MutexLock lock(inbox.mutex);
  while (!inbox.stopping && inbox.changed.empty())
    if (!inbox.wake.wait_until(inbox.mutex, next)) break;
  changed->swap(inbox.changed);
  return !inbox.stopping;
}

void NodeLink::run() {
  Clock::time_point next = Clock::now();
  std::set<std::string> changed, busy;  // busy: what is being listed here, and is looked at again afterwards
  while (wait_for_news(busy.empty() ? next : std::min(next, Clock::now() + kBusyPause), &changed)) {
    changed.merge(busy);
    busy.clear();
    for (const std::string& name : changed) {
      const Status followed = datasets_.follow(name);
      if (!followed && followed.error().code == EAGAIN)
        busy.insert(name);
      else
        note("new version of " + name, followed);
    }
    if (changed.size() > busy.size() ||
        Clock::now() >= next) {  // who loaded a version says so at once: it keeps that version
      beat();
      next = Clock::now() + std::chrono::seconds(kNodeHeartbeatSeconds);
    }
  }
}

void NodeLink::beat() {
  std::set<uint64_t> done;
  for (const Mount& m : datasets_.mounts()) {
    std::shared_ptr<CatalogVersion> version = m.dataset->version();
    if (!version || !done.insert(m.dataset->id()).second) continue;
    const ObjectCache::DatasetUsage used = cache_.usage_of(*m.dataset);
    const std::string& name = m.dataset->def.name;
    Status told = meta_.publish_node(name, {node_, version->version(), used.files, used.bytes, 0});
    if (!told && told.error().code == ENOENT)
      told = make_error(ENOENT, fmt::format("the metadata has lost it; it is served from here as it was; larder format "
                                            "{} {} --restore publishes it again",
                                            name, m.dataset->def.source));
    m.dataset->set_trouble(told ? "" : told.error().message);
    note("heartbeat for " + name, told);
  }
}

void NodeLink::note(const std::string& what, const Status& status) {
  const std::string text = status ? "" : status.error().message;
  std::string& before = troubles_[what];
  if (text == before) return;
  if (status)
    spdlog::info("{}: in order again", what);
  else
    spdlog::warn("{}: {}", what, text);
  before = text;
}

}  // namespace larder
