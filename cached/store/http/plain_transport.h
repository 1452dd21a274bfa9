// GETs of objects over plain HTTP/1.1: one epoll thread that reads a body directly into the memory that its HttpAttempt
// names.
//
// libcurl would read into a buffer of its own, deliver pieces of 16 KiB, and look at every connection whenever one has
// data. Measured with 64 connections, 110 KB an object, CPU of the whole larderd an
// object: 134 us with libcurl, 90 with this (docs/benchmarks.md); with https the difference is small, so https stays
// with libcurl, and so does every request but GETs of objects.
//
// MD5s (HttpAttempt::md5_input) are computed for several bodies at once, as soon as they fill the lanes (md5_batch.h).
// Until then, a body waits for others as long as there is other work, and then for a part of the time that its GET
// took.
#pragma once
#include <sys/epoll.h>

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "cached/base/fd.h"
#include "cached/store/checksum/md5_batch.h"
#include "cached/store/http/reply_reader.h"
#include "cached/store/http/resolver.h"
#include "cached/store/http/stall_watch.h"
#include "cached/store/http/transport_thread.h"
#include "cached/store/http/wire_request.h"

namespace larder {

class HttpEngine::PlainTransport final : public TransportThread {
 public:
  explicit PlainTransport(HttpEngine& engine);

 private:
  // One attempt under way.
  struct Transfer {
    Job job;
    HttpReply reply;
    ReplyReader reader;
    WireRequest wire;
    size_t sent = 0;        // of its text
    bool any_byte = false;  // of the reply
    bool slow_told = false;
    bool again_told = false;  // it was sent once more because a kept connection had been closed
    Clock::time_point started, last_activity;
    StallWatch stall{{}, 0, {}};
    std::chrono::microseconds first_byte{0};
  };
  using TransferPtr = std::unique_ptr<Transfer>;
  struct Connection {
    Fd fd;
    std::string authority;
    std::vector<NetAddress> others;  // tried if this address does not answer
    TransferPtr transfer;            // null: idle
    bool connecting = true;
    bool used = false;          // it carried a reply before
    Clock::time_point since{};  // connecting or idle since
  };
  // A whole body came; its MD5 is wanted.
  struct Finished {
    Job job;
    HttpReply reply;
  };

  void run() override;
  void interrupt() override;
  int wait_ms(Clock::time_point now) const;
  void start_ready();
  void start(Job job);
  void begin(TransferPtr transfer);
  void connect(TransferPtr transfer, std::vector<NetAddress> addresses);
  void begin_unresolved();
  void drop_unresolved(Clock::time_point now);
  void on_event(Connection& c, uint32_t events);
  void on_connected(Connection& c);
  void send_request(Connection& c);
  void receive(Connection& c);
  bool receive_head(Connection& c);
  bool receive_body(Connection& c);
  bool tell_body(Connection& c, std::span<const std::byte> bytes, bool all);
  Status take(Transfer& t, std::span<const std::byte> bytes);
  void lost(Connection& c, int error);
  void stopped(Connection& c);
  void complete(Connection& c);
  void fail(TransferPtr transfer, HttpReply::Transport how, std::string why);
  void end(TransferPtr transfer);
  void conclude_hashed(bool idle);
  void sweep(Clock::time_point now);
  void sweep_one(Connection& c, Clock::time_point now, std::chrono::milliseconds slow);
  void watch(Connection& c, uint32_t events, int operation);
  void drop(Connection& c);
  void abandon_all();

  const Fd epoll_;
  const std::shared_ptr<Fd> wake_;  // an eventfd; the resolver's threads have it, too
  Resolver resolver_;
  std::vector<char> scratch_;
  std::unordered_map<Connection*, std::unique_ptr<Connection>> connections_;
  std::vector<std::unique_ptr<Connection>> dead_;  // until the events of this turn are handled
  std::unordered_map<std::string, std::vector<Connection*>> idle_;
  std::vector<TransferPtr> unresolved_;
  Md5Batch<Finished> unhashed_;
  size_t turn_ = 0;  // which address of a name is next
  Clock::time_point last_sweep_{};
};

}  // namespace larder
