#include "cached/base/log.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/sink.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"

namespace larder {
namespace {

// Writes a line at once or not at all: it never waits for whoever reads the log, and never throws. What could not be
// written is counted, and told by the next line that can be.
class LogSink final : public spdlog::sinks::sink {
 public:
  // Without a descriptor: stderr.
  explicit LogSink(Fd fd) : fd_(std::move(fd)) {}

  void log(const spdlog::details::log_msg& message) override {
    MutexLock lock(mutex_);
    if (lost_ > 0 && !tell_lost()) {
      ++lost_;
      return;
    }
    if (!write_line(message)) ++lost_;
  }
  void flush() override {}
  void set_pattern(const std::string& pattern) override {
    set_formatter(std::make_unique<spdlog::pattern_formatter>(pattern));
  }
  void set_formatter(std::unique_ptr<spdlog::formatter> formatter) override {
    MutexLock lock(mutex_);
    formatter_ = std::move(formatter);
  }

 private:
  bool tell_lost() REQUIRES(mutex_) {
    const std::string text = fmt::format("{} lines could not be written and are lost", lost_);
    const spdlog::details::log_msg message("larderd", spdlog::level::warn, text);
    if (!write_line(message)) return false;
    lost_ = 0;
    return true;
  }

  bool write_line(const spdlog::details::log_msg& message) REQUIRES(mutex_) {
    spdlog::memory_buf_t line;
    if (cut_) line.push_back('\n');
    formatter_->format(message, line);
    for (size_t at = 0; at < line.size();) {
      const ssize_t n = write_some(line.data() + at, std::min<size_t>(line.size() - at, PIPE_BUF));
      if (n <= 0) {
        cut_ = cut_ || at > 0;
        return false;
      }
      at += static_cast<size_t>(n);
    }
    cut_ = false;
    return true;
  }

  // POLLOUT of a pipe says that PIPE_BUF bytes fit.
  ssize_t write_some(const char* bytes, size_t count) const {
    struct pollfd ready = {fd_.valid() ? fd_.get() : STDERR_FILENO, POLLOUT, 0};
    if (::poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT)) return -1;
    return ::write(ready.fd, bytes, count);
  }

  const Fd fd_;
  Mutex mutex_;
  std::unique_ptr<spdlog::formatter> formatter_ GUARDED_BY(mutex_) = std::make_unique<spdlog::pattern_formatter>();
  uint64_t lost_ GUARDED_BY(mutex_) = 0;
  bool cut_ GUARDED_BY(mutex_) = false;  // the last line in the file has no end
};

// A disk that is full when larderd starts must not keep it from serving.
bool is_full(int code) {
  return code == ENOSPC || code == EDQUOT;
}

Result<Fd> open_log_file(const std::string& file) {
  std::error_code ignored;
  if (const auto folder = std::filesystem::path(file).parent_path(); !folder.empty())
    std::filesystem::create_directories(folder, ignored);
  Fd fd(::open(file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
  if (fd.valid() || is_full(errno)) return fd;
  const Error error = os_error("cannot write the log file " + file);
  return make_error(error.code, error.message + "; choose another with --log-file");
}

}  // namespace

Status set_up_log(const std::string& file, const std::string& level) {
  spdlog::level::level_enum parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off)
    return make_error(EINVAL, "unknown log_level \"" + level + "\"; use trace, debug, info, warn or error");
  Result<Fd> fd = file.empty() ? Result<Fd>(Fd()) : open_log_file(file);
  if (!fd) return fd.error();
  const bool instead = !file.empty() && !fd->valid();
  auto logger = std::make_shared<spdlog::logger>("larderd", std::make_shared<LogSink>(std::move(*fd)));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->set_level(parsed);
  spdlog::set_default_logger(logger);
  if (instead) spdlog::warn("the disk of the log file {} is full: this log goes to stderr", file);
  return {};
}

}  // namespace larder
