#include "cached/cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "cached/base/units.h"
#include "cached/cli/report.h"

namespace larder::cli {
namespace {

constexpr double kWindowSeconds = 5;  // shorter shows every hiccup of a network, longer hides that it stopped
constexpr double kPlainSeconds = 5;   // between two lines of a log file
constexpr int kBarColumns = 24;

std::string bar(double fraction) {
  int full = static_cast<int>(std::lround(std::clamp(fraction, 0.0, 1.0) * kBarColumns));
  return "[" + std::string(full, '#') + std::string(kBarColumns - full, '.') + "]";
}

double fraction_of(const ProgressState& s) {
  if (s.total_bytes > 0) return static_cast<double>(s.bytes) / static_cast<double>(s.total_bytes);
  if (s.total > 0) return static_cast<double>(s.done) / static_cast<double>(s.total);
  return -1;
}

std::string count_of(const ProgressState& s) {
  if (s.total == 0) return format_count(s.done);
  return format_count(s.done) + "/" + format_count(s.total);
}

std::string rate_of(const RateMeter& meter) {
  if (meter.bytes_per_second() > 0) return format_bytes(meter.bytes_per_second()) + "/s";
  return format_count(static_cast<uint64_t>(std::llround(meter.items_per_second()))) + "/s";
}

int terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

bool is_terminal() {
  const char* term = getenv("TERM");
  return isatty(STDERR_FILENO) && term && std::string(term) != "dumb";
}

}  // namespace

void RateMeter::add(double seconds, const ProgressState& state) {
  samples_.push_back({seconds, state});
  while (samples_.size() > 2 && seconds - samples_[1].seconds >= kWindowSeconds)
    samples_.pop_front();
}

double RateMeter::per_second(uint64_t ProgressState::*field) const {
  if (samples_.size() < 2) return 0;
  double span = samples_.back().seconds - samples_.front().seconds;
  uint64_t from = samples_.front().state.*field, to = samples_.back().state.*field;
  return span > 0 && to > from ? static_cast<double>(to - from) / span : 0;
}

double RateMeter::items_per_second() const {
  return per_second(&ProgressState::done);
}
double RateMeter::bytes_per_second() const {
  return per_second(&ProgressState::bytes);
}

double RateMeter::seconds_left() const {
  if (samples_.empty()) return -1;
  const ProgressState& s = samples_.back().state;
  auto left = [](uint64_t done, uint64_t total, double rate) {
    if (done >= total) return 0.0;
    return rate > 0 ? static_cast<double>(total - done) / rate : -1.0;
  };
  if (s.total_bytes > 0) return left(s.bytes, s.total_bytes, bytes_per_second());
  return s.total > 0 ? left(s.done, s.total, items_per_second()) : -1;
}

std::string render_progress(const std::string& label, const ProgressState& state, const RateMeter& meter, int width) {
  std::string tail = count_of(state);
  if (state.bytes > 0) tail += "  " + format_bytes(static_cast<double>(state.bytes));
  if (state.failed > 0) tail += fmt::format("  {} failed", format_count(state.failed));
  if (meter.items_per_second() > 0 || meter.bytes_per_second() > 0) tail += "  " + rate_of(meter);
  if (double left = meter.seconds_left(); left > 0) tail += "  " + format_duration(left) + " left";
  std::string line = label + "  " + tail;
  double fraction = fraction_of(state);
  if (fraction >= 0 && static_cast<int>(line.size()) + kBarColumns + 8 <= width)
    line = fmt::format("{}  {} {:3.0f}%  {}", label, bar(fraction), std::clamp(fraction, 0.0, 1.0) * 100, tail);
  if (static_cast<int>(line.size()) > width) line.resize(static_cast<size_t>(std::max(width, 0)));
  return line;
}

Progress::Progress(std::string label)
    : label_(std::move(label)), terminal_(is_terminal()), start_(std::chrono::steady_clock::now()) {}

Progress::~Progress() {
  finish();
}

double Progress::elapsed() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Progress::update(const ProgressState& state) {
  double now = elapsed();
  meter_.add(now, state);
  if (terminal_) {
    print_err(fmt::format("\r{}\x1b[K", render_progress(label_, state, meter_, terminal_width() - 1)));
    drawn_ = true;
  } else if (now - last_line_ >= kPlainSeconds) {
    print_err(fmt::format("{}\n", render_progress(label_, state, meter_, 200)));
    last_line_ = now;
  }
}

void Progress::finish() {
  if (!drawn_) return;
  print_err("\n");
  drawn_ = false;
}

}  // namespace larder::cli
