// Progress of long work: a bar on a terminal, a plain line now and then elsewhere.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>

namespace larder::cli {

// The known facts about the work; a total of 0 is not known.
struct ProgressState {
  uint64_t done = 0;
  uint64_t total = 0;
  uint64_t bytes = 0;
  uint64_t total_bytes = 0;
  uint64_t failed = 0;
};

// The rate over the last seconds, not since the start, so that a change of speed shows.
class RateMeter {
 public:
  void add(double seconds, const ProgressState& state);
  double items_per_second() const;
  double bytes_per_second() const;
  // Seconds left, by bytes if their total is known, else by items; negative: not known.
  double seconds_left() const;

 private:
  struct Sample {
    double seconds;
    ProgressState state;
  };
  double per_second(uint64_t ProgressState::*field) const;
  std::deque<Sample> samples_;
};

// One line of at most `width` columns: label, bar (if the total is known), counts, rate, time left.
std::string render_progress(const std::string& label, const ProgressState& state, const RateMeter& meter, int width);

// Draws on stderr. finish() or the destructor ends the line.
class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void update(const ProgressState& state);
  void finish();

 private:
  double elapsed() const;
  std::string label_;
  bool terminal_;
  bool drawn_ = false;
  double last_line_ = 0;
  std::chrono::steady_clock::time_point start_;
  RateMeter meter_;
};

}  // namespace larder::cli
