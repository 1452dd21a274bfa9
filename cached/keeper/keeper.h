// The keeper: what outlives larderd. docs/operations.md ("The keeper") tells it in a page.
//
// It holds the listening socket and the descriptors that larderd stores, starts larderd, starts it again when it dies,
// and answers greetings while larderd does not. One thread; it never blocks but in poll(2).
#pragma once
#include <sys/types.h>

#include "cached/keeper/child.h"
#include "cached/keeper/greeter.h"

namespace larder::keeper {

struct Options {
  const char* socket = nullptr;
  bool is_private = false;
  char** command = nullptr;  // larderd and its arguments
};

class Keeper {
 public:
  explicit Keeper(const Options& options) : options_(options) {}

  // Until larderd ends for good, or SIGTERM. The exit status: larderd's, if it never came to serve, else 0.
  int run();

 private:
  enum class State {
    kIdle,      // no larderd; a client that wants more than a greeting starts it
    kWaiting,   // no larderd; it is started at start_at_
    kStarting,  // it does not serve yet
    kServing,
    kStopping,  // it ends, and does not accept any more
  };

  bool open();
  void poll_once();
  int timeout() const;
  void start();
  void obey(const Order& order);
  void on_signals();
  void on_notification();
  void on_frame();
  void on_listener();
  void check_probe();
  void on_end(int status);
  void schedule(bool served);
  bool is_stuck() const;
  bool running() const { return child_ > 0; }

  const Options options_;
  Launch launch_;
  Descriptors stored_;
  Greeter greeter_;
  History history_;
  State state_ = State::kWaiting;
  char notify_address_[120] = "";
  int listener_ = -1, notify_ = -1, signals_ = -1, channel_ = -1;
  pid_t child_ = -1;
  bool ending_ = false;      // the keeper ends when larderd has
  bool idle_asked_ = false;  // larderd said that it ends until somebody asks
  bool ever_served_ = false;
  bool finished_ = false;
  int exit_status_ = 0;
  int64_t start_at_ = 0;     // now_ms()
  int64_t probe_until_ = 0;  // larderd is to have read the probe by then; 0: none is under way
  bool stuck_ = false;       // it had not
  int64_t served_since_ = 0;
  int64_t pause_ms_ = 0;  // before the next start, after one death soon after another
  uint64_t oom_kills_before_ = 0;
};

}  // namespace larder::keeper
