// The socket's server: accepts connections, reads one request from each, sends the replies.
//
// A client that waits for its reply, and understands it, gets a sign of life twice a second.
//
// One thread, epoll; nothing blocks it. A client that is slow, silent or sends garbage costs a descriptor until its
// deadline, and progress replies that it does not take are dropped. Connections have at most half of the descriptors
// that the process may have: the other half is for what they ask for. Further clients wait in the backlog, and those
// that connected and ask nothing go first. A handler runs on the server's thread and must be
// quick; it answers through the Replier (reply.h), now or later, from any thread.
//
// run() is one thread's; stop(), connections() and last_request() are for any thread.
#pragma once
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cached/base/fd.h"
#include "cached/server/connection.h"
#include "cached/server/keeper_link.h"
#include "cached/server/listener.h"
#include "cached/server/reply.h"
#include "larder/result.h"

namespace larder {

class Server {
 public:
  using Clock = std::chrono::steady_clock;
  using Stamp = ReplyStamp;
  using Handler = std::function<void(IncomingRequest)>;

  // Takes the socket, as Listener::open() says, or the one that larderd was started with, and their errors.
  static Result<std::unique_ptr<Server>> listen(const std::string& path, bool is_private, Fd inherited = {});
  // Repliers are told that their clients have gone.
  ~Server();

  // Also serves the connections that the keeper hands over; ends when the keeper does. Before run(); it outlives this.
  Status serve_for(KeeperLink& keeper);

  // Serves until stop(), SIGTERM or SIGINT (which must be blocked in every thread). `stamp` is asked for each reply.
  Status run(Handler handler, std::function<Stamp()> stamp);
  // What was posted before is sent before run() returns, as far as clients take it at once.
  void stop();

  size_t connections() const { return open_.load(); }
  // When the last well-formed request came; the server's start if none has.
  Clock::time_point last_request() const;

 private:
  Server() = default;
  Status watch(int fd, uint64_t id, uint32_t events);
  void watch_for(int fd, uint64_t id, uint32_t events);
  void accept_all();
  void take_from_keeper();
  void add_connection(Fd fd);
  bool drop_idle();
  void pause_accepting();
  void on_event(uint64_t id, uint32_t events);
  void read_request(uint64_t id, Connection& c);
  void take_posted();
  void send(uint64_t id, Connection& c);
  void drop(uint64_t id);
  void check_deadlines();
  void show_signs_of_life();
  void show_sign_of_life(uint64_t id);
  void retry_starved();

  Fd epoll_, signals_;
  KeeperLink* keeper_ = nullptr;
  std::unique_ptr<Outbox> outbox_;
  Handler handler_;
  std::function<Stamp()> stamp_;
  std::unordered_map<uint64_t, Connection> connections_;  // those below are the server's thread's
  std::vector<uint64_t> starved_;                         // could not send for want of descriptors: tried again by time
  uint64_t next_id_ = 16;                                 // below: the server's own descriptors
  bool accepting_ = true;
  size_t most_open_ = 0;
  Clock::time_point warned_{};
  std::atomic<bool> stop_{false};
  std::atomic<size_t> open_{0};
  std::atomic<Clock::rep> last_request_{0};
  Listener listener_;  // goes first: a client that is cut off must not find it again
};

}  // namespace larder
