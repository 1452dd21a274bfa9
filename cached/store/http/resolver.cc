#include "cached/store/http/resolver.h"

#include <netdb.h>

#include <thread>

#include "cached/base/mutex.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;
using Answer = Result<std::vector<NetAddress>>;

Answer ask(const std::string& host, const std::string& port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  const int failure = getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> keep(found, &freeaddrinfo);
  if (failure != 0) return make_error(EHOSTUNREACH, "cannot resolve " + host + ": " + gai_strerror(failure));
  std::vector<NetAddress> out;
  for (addrinfo* a = found; a != nullptr; a = a->ai_next) {
    if (a->ai_addrlen > sizeof(sockaddr_storage)) continue;
    NetAddress& address = out.emplace_back();
    __builtin_memcpy(&address.data, a->ai_addr, a->ai_addrlen);
    address.size = a->ai_addrlen;
  }
  if (out.empty()) return make_error(EHOSTUNREACH, "cannot resolve " + host + ": no address");
  return out;
}

}  // namespace

struct Resolver::Shared {
  struct Entry {
    std::optional<Answer> answer;
    Clock::time_point until{};
  };
  explicit Shared(std::function<void()> waker) : wake(std::move(waker)) {}
  const std::function<void()> wake;
  Mutex mutex;
  std::map<std::string, Entry> entries GUARDED_BY(mutex);
};

Resolver::Resolver(std::function<void()> wake) : shared_(std::make_shared<Shared>(std::move(wake))) {}
Resolver::~Resolver() = default;

// RFC 6761: names below localhost are this machine, whatever a resolver says of them (libcurl does the same).
static bool is_localhost(std::string_view host) {
  return host == "localhost" || host.ends_with(".localhost");
}

std::optional<Answer> Resolver::lookup(const std::string& host, const std::string& port) {
  if (is_localhost(host)) {
    Answer here = ask("127.0.0.1", port, AI_NUMERICHOST | AI_NUMERICSERV);
    Answer there = ask("::1", port, AI_NUMERICHOST | AI_NUMERICSERV);
    if (here.ok() && there.ok()) here->push_back(there->front());
    return here;
  }
  const std::string name = host + " " + port;
  MutexLock lock(shared_->mutex);
  auto it = shared_->entries.find(name);
  if (it != shared_->entries.end()) {
    if (!it->second.answer) return std::nullopt;  // being asked
    const bool fresh = Clock::now() < it->second.until;
    Answer known = *it->second.answer;
    if (!fresh || !known.ok()) shared_->entries.erase(it);
    if (fresh) return known;
  }
  if (Answer numeric = ask(host, port, AI_NUMERICHOST | AI_NUMERICSERV); numeric.ok()) {
    shared_->entries[name] = {numeric, Clock::now() + kKeep};
    return numeric;
  }
  shared_->entries[name];
  // getaddrinfo may take half a minute and cannot be stopped: the thread owns what it touches.
  std::thread([shared = shared_, host, port, name] {
    Answer answer = ask(host, port, AI_NUMERICSERV | AI_ADDRCONFIG);
    {
      MutexLock inner(shared->mutex);
      shared->entries[name] = {std::move(answer), Clock::now() + kKeep};
    }
    shared->wake();
  }).detach();
  return std::nullopt;
}

}  // namespace larder
