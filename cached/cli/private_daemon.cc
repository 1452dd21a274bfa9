#include "cached/cli/private_daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <thread>

#include "cached/base/fd.h"
#include "cached/cli/elf_info.h"
#include "cached/cli/json_read.h"
#include "cached/cli/report.h"
#include "cached/cli/run.h"
#include "larder/hash.h"

namespace larder::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kStartSeconds = 60;      // a cache of a million files is taken over in a few
constexpr off_t kLogLimit = 16 << 20;  // a larger log starts anew with the next daemon
constexpr int kPollMs = 10;

int64_t realtime_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

// The daemon's configuration as TOML. JSON's way to write a text is TOML's, too.
std::string daemon_config(const SocketPath& socket, const DaemonOptions& o) {
  auto quoted = [](const std::string& s) { return Json(s).dump(-1, ' ', true, Json::error_handler_t::replace); };
  std::string toml = fmt::format("private = true\nsocket = {}\nlinger_s = {}\n", quoted(socket.path), o.linger_s);
  auto add = [&](const char* key, const std::string& value) {
    if (!value.empty()) toml += fmt::format("{} = {}\n", key, quoted(value));
  };
  add("cache_size", o.cache_size);
  add("cache_dir", o.cache_dir);
  add("meta", o.meta);
  return toml;
}

// A file in memory, so that nothing is left on disk and a password in a metadata URL is on no command line.
Result<Fd> file_in_memory(const char* name, const std::string& text) {
  Fd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid() || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return os_error("cannot create a file in memory");
  return fd;
}

void prepare_environment() {
  unsetenv("LD_PRELOAD");  // it holds liblarder.so where one run starts another
  unsetenv("LARDER_SOCKET");
}

// What larderd's environment would be if it were the caller's child.
Result<Fd> environment_file() {
  std::string texts;
  for (char** e = environ; *e; ++e) {
    const std::string_view text = *e;
    const std::string_view name = text.substr(0, text.find('='));
    if (name != "LD_PRELOAD" && name != "LARDER_SOCKET") texts.append(text).push_back('\0');
  }
  return file_in_memory("environment", texts);
}

struct Launch {
  std::string keeper, larderd, socket;
  int config_fd;
  int log_fd;
};

// In the process that becomes the keeper. Only returns to report errno. The configuration is passed on to larderd by
// its name (cached/home/descriptor_store.h).
int become_keeper(const Launch& launch) {
  constexpr int kPassed = 3;
  const char* argv[] = {launch.keeper.c_str(), "--socket", launch.socket.c_str(),
                        "--private",           "--",       launch.larderd.c_str(),
                        "--private",           nullptr};
  Fd null(open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (chdir("/") != 0 || dup2(null.get(), STDIN_FILENO) < 0 || dup2(launch.log_fd, STDOUT_FILENO) < 0 ||
      dup2(launch.log_fd, STDERR_FILENO) < 0)
    return errno;
  const int config = fcntl(launch.config_fd, F_DUPFD_CLOEXEC, kPassed + 1);
  if (config < 0 || dup2(config, kPassed) < 0) return errno;
  close_range(kPassed, ~0u, CLOSE_RANGE_CLOEXEC);
  if (fcntl(kPassed, F_SETFD, 0) != 0) return errno;
  setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
  setenv("LISTEN_FDS", "1", 1);
  setenv("LISTEN_FDNAMES", kConfigDescriptor, 1);
  unsetenv("NOTIFY_SOCKET");
  execv(argv[0], const_cast<char**>(argv));
  return errno;
}

struct Spawned {
  pid_t pid;
  int error;  // errno of the exec; 0 while it lives
};

// Starts the keeper as nobody's child: it is this process' grandchild, and its parent ends at once.
Result<pid_t> spawn(const Launch& launch) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return os_error("cannot create a pipe");
  Fd reader(ends[0]), writer(ends[1]);
  pid_t child = fork();
  if (child < 0) return os_error("cannot start a process");
  if (child == 0) {
    setsid();
    prepare_environment();
    pid_t daemon = fork();
    Spawned report{daemon > 0 ? daemon : getpid(), daemon < 0 ? errno : 0};
    if (daemon == 0) report.error = become_keeper(launch);
    ssize_t written = write(writer.get(), &report, sizeof report);
    _exit(written == sizeof report ? 0 : 1);
  }
  writer.reset();
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_t pid = 0;
  for (Spawned report{};
       read(reader.get(), &report, sizeof report) == sizeof report;) {  // ends when the exec closed the pipe
    if (report.error != 0)
      return make_error(report.error, fmt::format("cannot start '{}': {}", launch.keeper, strerror(report.error)));
    pid = report.pid;
  }
  return pid > 0 ? Result<pid_t>(pid) : make_error(ECHILD, fmt::format("cannot start '{}'", launch.keeper));
}

Fd open_pidfd(pid_t pid) {
  return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
}

// True if the process has ended; waits for at most `ms`.
bool ended(const Fd& pidfd, pid_t pid, int ms) {
  if (!pidfd.valid()) {  // a kernel without pidfd (before 5.3), or gone already
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    return kill(pid, 0) != 0;
  }
  pollfd p{pidfd.get(), POLLIN, 0};
  return poll(&p, 1, ms) > 0;
}

// A line of the log without the time and level in front ("2026-11-24T09:00:00Z error "), or without "larderd: ". Not by
// std::regex, which the compiler warns of under sanitizers.
std::string message_of(const std::string& line) {
  constexpr std::string_view kName = "larderd: ";
  if (line.compare(0, kName.size(), kName) == 0) return line.substr(kName.size());
  const bool stamped = line.size() > 10 && line[4] == '-' && line[7] == '-' && line[10] == 'T';
  const size_t level = stamped ? line.find(' ') : std::string::npos;
  const size_t text = level != std::string::npos ? line.find(' ', level + 1) : std::string::npos;
  return text != std::string::npos ? line.substr(text + 1) : line;
}

// The last line that the daemon wrote after `from`.
std::string last_line(const std::string& log, off_t from) {
  std::ifstream in(log);
  in.seekg(from);
  std::string line, last;
  while (std::getline(in, line))
    if (!line.empty()) last = line;
  return message_of(last);
}

// A larderd without a log is better than none.
Fd open_log(const std::string& path) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (fd.valid()) {
    if (lseek(fd.get(), 0, SEEK_END) > kLogLimit) (void)!ftruncate(fd.get(), 0);
    return fd;
  }
  warn(fmt::format("the log '{}' cannot be written, and what larderd says is lost: {}", path, strerror(errno)));
  return Fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
}

void stop(pid_t pid, const Fd& pidfd) {
  kill(pid, SIGTERM);
  if (!ended(pidfd, pid, 5000)) kill(pid, SIGKILL);
  ended(pidfd, pid, 1000);
}

Error did_not_start(const std::string& log, off_t from) {
  const std::string why = last_line(log, from);
  return make_error(ECHILD,
                    fmt::format("larderd did not start: {} (log: {})", why.empty() ? "it printed nothing" : why, log));
}

// The keeper holds what is asked until larderd serves, and ends, or drops it, if larderd cannot start.
Status wait_until_ready(const Client& client, pid_t pid, const std::string& log, off_t from) {
  Fd pidfd = pid > 0 ? open_pidfd(pid) : Fd();
  auto deadline = Clock::now() + std::chrono::seconds(kStartSeconds);
  while (Clock::now() < deadline) {
    auto there = client.answers();
    if (there && *there) return {};
    const bool dropped = !there && there.error().code == ECONNRESET;
    if (pid > 0 ? ended(pidfd, pid, dropped ? 1000 : kPollMs) : dropped) return did_not_start(log, from);
  }
  if (pid > 0) stop(pid, pidfd);
  return make_error(
      ETIMEDOUT,
      fmt::format("larderd did not answer at '{}' within {} s{}; its last output: {} (log: {})", client.socket(),
                  kStartSeconds, pid > 0 ? " and was stopped" : "", last_line(log, from), log));
}

bool made_since(const std::string& path, int64_t ns) {
  struct statx st {};
  if (statx(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &st) != 0 || !(st.stx_mask & STATX_BTIME))
    return false;
  return st.stx_btime.tv_sec * 1'000'000'000 + st.stx_btime.tv_nsec >= ns;
}

// A stamp of the kernel's coarse clock may lie one tick (4 ms) before ours.
constexpr int64_t kTickNs = 10'000'000;

}  // namespace

std::string own_folder() {
  std::error_code ec;
  return fs::read_symlink("/proc/self/exe", ec).parent_path().string();
}

Result<std::string> find_larderd() {
  std::string beside = own_folder() + "/larderd";
  if (access(beside.c_str(), X_OK) == 0) return beside;
  if (auto found = find_command("larderd"); found) return fs::absolute(*found).string();
  return make_error(ENOENT,
                    fmt::format("larderd is neither at '{}' nor in PATH: build or install it (make install)", beside));
}

Result<std::string> daemon_log_path(const SocketPath& socket) {
  auto folder = user_state_folder();
  if (!folder) return folder.error();
  if (socket.origin != SocketOrigin::kEnvironment) return *folder + "/larderd.log";
  char name[17];
  hex16(XXH3_64bits(socket.path.data(), socket.path.size()), name);
  return fmt::format("{}/larderd-{}.log", *folder, std::string_view(name, 8));
}

Result<std::string> find_keeper() {
  const std::string own = own_folder();
  for (const std::string& place : {own + "/larder-keeper", own + "/../lib/larder-keeper"})
    if (access(place.c_str(), X_OK) == 0) return place;
  return make_error(ENOENT,
                    fmt::format("larder-keeper is neither at '{}/larder-keeper' nor at '{}/../lib/larder-keeper': "
                                "build or install it (make install)",
                                own, own));
}

// Without the descriptors that it needs, a launch is EINVAL to a keeper that waits for one.
Result<Found> find_daemon(const Client& client) {
  auto status = client.ask_keeper(kLaunch, {});
  if (status) return *status == EINVAL ? Found::kIdleKeeper : Found::kRunning;
  return status.error().code == ECONNREFUSED ? Result<Found>(Found::kNobody) : status.error();
}

// Starts larderd by the keeper that is there, or with one. The keeper's pid; 0: it was there.
Result<pid_t> PrivateDaemon::launch(const SocketPath& socket, const DaemonOptions& options, Found found, int log) {
  auto program = find_larderd();
  auto keeper = find_keeper();
  if (!program || !keeper) return program ? keeper.error() : program.error();
  auto config = file_in_memory("larder.toml", daemon_config(socket, options));
  if (!config) return config.error();
  if (found == Found::kNobody) return spawn({*keeper, *program, socket.path, config->get(), log});
  auto environment = environment_file();
  if (!environment) return environment.error();
  auto status = Client(socket.path).ask_keeper(kLaunch, {config->get(), environment->get(), log});
  if (!status) return status.error();
  if (*status == 0 || *status == EALREADY) return pid_t{0};
  return make_error(*status,
                    fmt::format("the keeper at '{}' does not start larderd: {}", socket.path, strerror(*status)));
}

Result<PrivateDaemon> PrivateDaemon::ensure(const SocketPath& socket, const DaemonOptions& options) {
  PrivateDaemon daemon;
  daemon.start_ns_ = realtime_ns() - kTickNs;
  std::string folder = fs::path(socket.path).parent_path().string();
  if (access(folder.c_str(), F_OK) != 0) daemon.made_folder_ = folder;
  if (Status made = make_socket_folder(socket); !made) return made.error();
  Fd lock(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock.valid() || flock(lock.get(), LOCK_EX) != 0) return os_error(fmt::format("cannot lock '{}'", folder));
  Client client(socket.path);
  auto found = find_daemon(client);
  if (!found || *found == Found::kRunning) return found ? Result<PrivateDaemon>(PrivateDaemon()) : found.error();
  auto log = daemon_log_path(socket);
  if (!log) return log.error();
  auto log_fd = open_log(*log);
  off_t from = lseek(log_fd.get(), 0, SEEK_END);
  auto pid = launch(socket, options, *found, log_fd.get());
  if (!pid) return pid.error();
  Status ready = wait_until_ready(client, *pid, *log, from);
  if (ready)
    daemon.pid_ = *pid;
  else if (!daemon.made_folder_.empty())
    rmdir(daemon.made_folder_.c_str());
  return ready ? Result<PrivateDaemon>(daemon) : ready.error();
}

void PrivateDaemon::undo(const Client& client) {
  if (!started()) return;
  auto status = client.request({{"op", "status"}});
  if (!status || !list(*status, "mounts").empty() || truth(member(*status, "clients"), "present")) return;
  std::string cache = text(*status, "cache_dir");
  Fd pidfd = open_pidfd(pid_);
  (void)client.request({{"op", "shutdown"}});
  if (!ended(pidfd, pid_, 10'000)) stop(pid_, pidfd);
  std::error_code ec;
  if (!cache.empty() && made_since(cache, start_ns_)) fs::remove_all(cache, ec);
  if (!made_folder_.empty()) rmdir(made_folder_.c_str());
}

}  // namespace larder::cli
