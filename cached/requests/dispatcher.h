// Hands requests of the command line to the commands that answer them, on worker threads.
//
// Commands go in lanes with threads of their own, so that a store which hangs never delays a question, nor what an
// administrator does about it. What the threads of a lane cannot take waits; when as many wait, further requests are
// refused (EAGAIN).
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <string>

#include "cached/base/thread_pool.h"
#include "cached/requests/admin_call.h"

namespace larder {

enum class Lane {
  kQuick,    // never waits for a store, the metadata or the look-up of a group: not privileged
  kControl,  // never waits for a store or the metadata
  kStores,   // lists stores, asks the metadata
  kLong,     // reads much of the cache
};

struct AdminCommand {
  std::function<AdminAnswer(const AdminCall&)> run;
  bool privileged = false;  // for those who may administer alone (EPERM)
  Lane lane = Lane::kStores;
};

class Dispatcher {
 public:
  // Both functions are called on worker threads, several at once.
  Dispatcher(std::map<std::string, AdminCommand> commands, AdminCall::MayAdminister may_administer);
  ~Dispatcher() { stop(); }

  // On the server's thread: returns at once. The reply comes later, errors included.
  void handle(IncomingRequest request);
  // Cancels what runs and waits for it; what waits is dropped without a reply.
  void stop();
  // True while a command that is not quick runs.
  bool busy() const { return running_.load() > 0; }

 private:
  void run(const std::string& name, const AdminCommand& command, const AdminCall& call);

  const std::map<std::string, AdminCommand> commands_;
  const AdminCall::MayAdminister may_administer_;
  std::atomic<int> running_{0};
  std::atomic<bool> stopping_{false};
  ThreadPool lanes_[4] = {ThreadPool(1), ThreadPool(4), ThreadPool(16), ThreadPool(8)};  // by Lane
};

}  // namespace larder
