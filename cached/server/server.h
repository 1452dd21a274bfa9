// The socket: accepts, reads one request a connection, sends replies. One thread, epoll, nothing blocks it: a client
// that is slow, silent or sends garbage costs a descriptor until its deadline, and a reply that it does not take is
// dropped.
//
// A handler runs on the server's thread and must be quick; it answers through the Replier, now or later, from any
// thread.
#pragma once
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "cached/base/fd.h"
#include "larder/result.h"
#include "larder/wire.h"

namespace larder {

struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary
  bool in_group(gid_t g) const;
};

class Server;

// Answers one request. Thread-safe; may outlive the connection and the server.
class Replier {
 public:
  struct Packet {
    Reply header{};
    std::string payload;
    std::vector<std::shared_ptr<Fd>> fds;
    std::shared_ptr<Fd> reopen;  // sent as a fresh O_RDONLY descriptor of this file
  };
  Replier(Server* server, uint64_t connection, Op op) : server_(server), connection_(connection), op_(op) {}

  // The final reply of success, without descriptors or payload.
  void done();
  // The final reply of failure: an errno, never 0.
  void fail(int status);
  void text(int status, std::string payload, bool more = false);
  void descriptors(std::vector<std::shared_ptr<Fd>> fds, uint64_t generation);
  void fresh_descriptor(std::shared_ptr<Fd> file);
  // True once the client has gone (or the final reply was sent).
  bool gone() const { return gone_.load(); }
  // Called on the server's thread if the client goes before the final reply; at once if it has gone. One at a time.
  void when_gone(std::function<void()> callback);

 private:
  friend class Server;
  void send(Packet packet);
  void set_gone();

  Server* server_;
  const uint64_t connection_;
  const Op op_;
  std::atomic<bool> gone_{false};
  std::mutex mutex_;
  bool finished_ = false;
  std::function<void()> when_gone_;
};

struct IncomingRequest {
  Request header{};
  std::string payload;
  Peer peer;
  std::shared_ptr<Replier> reply;
};

class Server {
 public:
  struct Stamp {
    uint64_t generation, instance;
  };
  using Handler = std::function<void(IncomingRequest)>;

  // Binds the socket: 0666 in a folder that is made, or (is_private) 0600 in a folder of 0700. EBUSY: another daemon
  // has it.
  static Result<std::unique_ptr<Server>> listen(const std::string& path, bool is_private);
  ~Server();

  // Serves until stop(), SIGTERM or SIGINT (which must be blocked in every thread). `stamp` tells generation and
  // instance.
  Status run(Handler handler, std::function<Stamp()> stamp);
  void stop();

  size_t connections() const { return open_.load(); }
  // Since the last request that was not a question of the command line.
  std::chrono::steady_clock::time_point last_request() const;

 private:
  friend class Replier;
  using Clock = std::chrono::steady_clock;
  struct Connection {
    Fd fd;
    Peer peer;
    Clock::time_point deadline;
    std::shared_ptr<Replier> reply;  // null until the request was read
    std::deque<Replier::Packet> out;
    std::shared_ptr<Fd> opened;  // of the first packet's `reopen`
    bool last_queued = false;
    bool wants_write = false;
  };
  enum class Sent { kDone, kBlocked, kBroken };

  Server() = default;
  Status bind_socket(const std::string& path, bool is_private);
  Status lock_socket(const std::string& path);
  Status watch(int fd, uint64_t id, uint32_t events);
  void post(uint64_t connection, Replier::Packet packet);
  void accept_all();
  void add_connection(Fd fd);
  void pause_accepting();
  void on_event(uint64_t id, uint32_t events);
  void read_request(uint64_t id, Connection& c);
  void reject(uint64_t id, Connection& c, int status);
  void take_posted();
  void flush(uint64_t id, Connection& c);
  Sent send_packet(Connection& c, Replier::Packet& packet);
  void drop(uint64_t id);
  void check_deadlines();
  void retry_blocked();

  Fd lock_, listener_, epoll_, wake_, signals_;
  std::string path_, lock_name_;
  Handler handler_;
  std::function<Stamp()> stamp_;
  std::unordered_map<uint64_t, Connection> connections_;
  std::vector<uint64_t> blocked_;  // could not be sent for want of descriptors: tried again by time
  uint64_t next_id_ = 16;          // below: the server's own descriptors
  bool accepting_ = true;
  std::atomic<bool> stop_{false};
  std::atomic<size_t> open_{0};
  std::atomic<Clock::rep> last_request_{0};
  std::mutex posted_mutex_;
  std::vector<std::pair<uint64_t, Replier::Packet>> posted_;
};

}  // namespace larder
