#include "cached/keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <initializer_list>

#include "cached/keeper/frames.h"
#include "cached/keeper/log.h"
#include "cached/keeper/socket.h"

namespace larder::keeper {
namespace {

constexpr int64_t kProbeMs = 100;     // larderd's server reads in well under a millisecond
constexpr int64_t kSteadyMs = 2'000;  // who served for that long is started again at once
constexpr int64_t kFirstPauseMs = 50;
constexpr int64_t kLongestPauseMs = 400;       // of one that served: replaced within a second
constexpr int64_t kLongestFailureMs = 10'000;  // of one that cannot start
constexpr char kSocketDescriptor[] = "larder-socket";

// The name in "<before><name><after>"; false: that is not what the text is.
bool name_between(const char* text, const char* before, const char* after, char* name) {
  const size_t n = strlen(text), b = strlen(before), a = strlen(after);
  if (n <= b + a || n - b - a >= kNameBytes || strncmp(text, before, b) != 0 || strcmp(text + n - a, after) != 0)
    return false;
  memcpy(name, text + b, n - b - a);
  name[n - b - a] = 0;
  return true;
}

}  // namespace

// ---- start and end --------------------------------------------------------------------------------------------------

bool Keeper::open() {
  launch_.argv = options_.command;
  greeter_.may_launch = options_.is_private;
  stored_.adopt();
  listener_ = stored_.take(kSocketDescriptor);
  if (listener_ < 0) listener_ = open_socket(options_.socket, options_.is_private);
  if (listener_ < 0) return false;
  fcntl(listener_, F_SETFL, O_NONBLOCK);
  char text[96];
  notify(text,
         static_cast<unsigned long>(snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0", kSocketDescriptor)),
         listener_);
  sigset_t set;
  sigemptyset(&set);
  for (int sig : {SIGCHLD, SIGTERM, SIGINT, SIGHUP})
    sigaddset(&set, sig);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  for (int sig : {SIGPIPE, SIGXFSZ})
    signal(sig, SIG_IGN);
  signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  notify_ = open_notify(notify_address_, sizeof notify_address_);
  return signals_ >= 0 && notify_ >= 0;
}

int Keeper::run() {
  if (!open()) return 1;
  while (!finished_) {
    if (state_ == State::kWaiting && now_ms() >= start_at_) start();
    poll_once();
  }
  greeter_.drop_all();
  char text[96];  // the name goes: a successor binds a socket of its own
  notify(text, static_cast<unsigned long>(snprintf(text, sizeof text, "FDSTOREREMOVE=1\nFDNAME=%s", kSocketDescriptor)),
         -1);
  remove_socket(options_.socket, options_.is_private);
  return exit_status_;
}

// ---- larderd --------------------------------------------------------------------------------------------------------

void Keeper::start() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) return schedule(false);
  oom_kills_before_ = oom_kills();
  child_ = start_child(launch_, stored_, listener_, ends[1], notify_address_, history_);
  close(ends[1]);
  if (child_ < 0) {
    close(ends[0]);
    return schedule(false);
  }
  channel_ = ends[0];
  state_ = State::kStarting;
  idle_asked_ = stuck_ = false;
  probe_until_ = 0;
}

void Keeper::schedule(bool served) {
  const bool steady = served && now_ms() - served_since_ >= kSteadyMs;
  const int64_t longest = served ? kLongestPauseMs : kLongestFailureMs;
  pause_ms_ = steady ? 0 : pause_ms_ == 0 ? kFirstPauseMs : pause_ms_ * 2 < longest ? pause_ms_ * 2 : longest;
  start_at_ = now_ms() + (steady ? 0 : pause_ms_);
  state_ = State::kWaiting;
}

void Keeper::on_end(int status) {
  const pid_t pid = child_;
  const bool served = state_ == State::kServing || state_ == State::kStopping;
  child_ = -1;
  close(channel_);
  channel_ = -1;
  if (ending_) {
    finished_ = true;
    return;
  }
  if (!ever_served_) {  // larderd has said why
    exit_status_ = WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : 1;
    finished_ = true;
    return;
  }
  if (idle_asked_) {
    state_ = State::kIdle;
    pause_ms_ = 0;
    if (greeter_.held() > 0) schedule(true);
    return;
  }
  describe_end(status, oom_kills() > oom_kills_before_, history_.last_end, sizeof history_.last_end);
  ++history_.restarts;
  schedule(served);
  log("warn", "larderd (pid %d) %s; started again in %lld ms", pid, history_.last_end,
      static_cast<long long>(start_at_ - now_ms()));
  if (!served && options_.is_private) {  // clients learn that larderd cannot be had, and read its log
    greeter_.drop_all();
    state_ = State::kIdle;
  }
}

// ---- what happens ---------------------------------------------------------------------------------------------------

void Keeper::on_signals() {
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP && running()) kill(child_, SIGTERM);  // another larderd takes its place
    if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT) {
      ending_ = true;
      finished_ = !running();
      if (running()) kill(child_, SIGTERM), kill(child_, SIGCONT);
    }
  }
  int status = 0;
  if (running() && waitpid(child_, &status, WNOHANG) == child_) on_end(status);
}

void Keeper::on_notification() {
  for (;;) {
    char text[256], name[kNameBytes];
    int fds[kMostDescriptors], count = 0;
    pid_t pid = 0;
    const ssize_t n = receive_packet(notify_, text, sizeof text - 1, fds, &count, &pid);
    if (n < 0 && errno == EMSGSIZE) continue;
    if (n < 0) return;
    text[n] = 0;
    const bool ours = pid == child_ && pid > 0;
    if (ours && count == 1 && name_between(text, "FDSTORE=1\nFDNAME=", "\nFDPOLL=0", name)) {
      notify(text, static_cast<unsigned long>(n), fds[0]);
      if (!stored_.put(name, fds[0])) log("warn", "larder-keeper: no room for larderd's descriptor '%s'", name);
      continue;
    }
    for (int i = 0; i < count; ++i)
      close(fds[i]);
    if (!ours) continue;
    if (name_between(text, "FDSTOREREMOVE=1\nFDNAME=", "", name)) {
      stored_.remove(name);
      notify(text, static_cast<unsigned long>(n), -1);
    } else if (strcmp(text, "READY=1") == 0) {
      state_ = State::kServing;
      ever_served_ = true;
      served_since_ = now_ms();
      notify(text, static_cast<unsigned long>(n), -1);
    } else if (strcmp(text, "STOPPING=1") == 0 && state_ == State::kServing) {
      state_ = State::kStopping;
    }
  }
}

void Keeper::on_frame() {
  KeeperFrame frame;
  int fds[kMostDescriptors], count = 0;
  while (running()) {
    const ssize_t n = receive_packet(channel_, &frame, sizeof frame, fds, &count, nullptr);
    if (n < 0 && errno == EMSGSIZE) continue;
    if (n <= 0) return;
    const bool good = n == sizeof frame && frame.magic == kKeeperMagic;
    if (good && frame.op == KeeperOp::kGreeting && count <= static_cast<int>(kMaxHelloFds)) {
      greeter_.greeting.replace(frame, fds, count);
      continue;
    }
    for (int i = 0; i < count; ++i)
      close(fds[i]);
    if (good && frame.op == KeeperOp::kIdle) idle_asked_ = true;
    if (good && frame.op == KeeperOp::kEnd) ending_ = true;
  }
}

// True while larderd leaves what the keeper sends it unread.
bool Keeper::is_stuck() const {
  int unread = 0;
  return ioctl(channel_, SIOCOUTQ, &unread) == 0 && unread > 0;
}

// Somebody waits at the socket. While larderd serves, it is asked whether it reads, at most ten times a second.
void Keeper::on_listener() {
  if (state_ == State::kServing && stuck_) stuck_ = is_stuck();
  if (state_ == State::kServing && !stuck_) {
    KeeperFrame probe = {};
    probe.magic = kKeeperMagic;
    probe.op = KeeperOp::kProbe;
    send_packet(channel_, &probe, sizeof probe, nullptr, 0);
    probe_until_ = now_ms() + kProbeMs;
    return;
  }
  obey(greeter_.accept_all(listener_, running()));
}

void Keeper::check_probe() {
  if (probe_until_ == 0 || now_ms() < probe_until_) return;
  probe_until_ = 0;
  stuck_ = running() && is_stuck();
}

void Keeper::obey(const Order& order) {
  if (order.kind == Order::kEnd) finished_ = true;
  if (order.kind == Order::kLaunch) {
    stored_.put(kConfigDescriptor, order.fds[0]);
    for (int fd : {launch_.environment, launch_.log})
      if (fd >= 0) close(fd);
    launch_.environment = order.fds[1];
    launch_.log = order.fds[2];
    dup2(launch_.log, STDERR_FILENO);
  }
  if (order.kind != Order::kNone && state_ == State::kIdle) {
    state_ = State::kWaiting;
    if (start_at_ < now_ms()) start_at_ = now_ms();
  }
}

// ---- the loop -------------------------------------------------------------------------------------------------------

int Keeper::timeout() const {
  int64_t until = -1;
  if (state_ == State::kWaiting) until = start_at_;
  if (probe_until_ != 0 && (until < 0 || probe_until_ < until)) until = probe_until_;
  if (until < 0) return greeter_.held() > 0 ? 1000 : -1;
  const int64_t left = until - now_ms();
  return left < 0 ? 0 : static_cast<int>(left);
}

void Keeper::poll_once() {
  const bool listens = probe_until_ == 0 && !greeter_.is_full();
  struct pollfd fds[4 + kMostHeld] = {
      {signals_, POLLIN, 0}, {notify_, POLLIN, 0}, {channel_, POLLIN, 0}, {listens ? listener_ : -1, POLLIN, 0}};
  const auto held = static_cast<nfds_t>(greeter_.watch(fds + 4));
  if (poll(fds, 4 + held, timeout()) < 0) return;
  obey(greeter_.look_again(fds + 4, running()));
  on_notification();  // before the news of its end
  if (running()) on_frame();
  on_signals();
  check_probe();
  if (state_ == State::kServing && greeter_.held() > 0) greeter_.hand_over(channel_);
  if ((fds[3].revents & POLLIN) != 0 && !finished_) on_listener();
}

}  // namespace larder::keeper
