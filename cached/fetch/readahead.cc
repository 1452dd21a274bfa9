#include "cached/fetch/readahead.h"

#include <algorithm>

namespace larder {

static constexpr uint32_t kFirstGets = 4;  // of a window; also of a reader that starts at the beginning: most read on
static constexpr uint32_t kRunIsSequential = 2;  // requests in a row: one alone is often chance

Readahead::Stream* Readahead::find(uint32_t chunk) {
  for (Stream& s : streams_)
    if (s.next > 0 && chunk >= s.from && chunk <= std::max(s.end, s.next)) return &s;
  return nullptr;
}

Readahead::Stream& Readahead::oldest() {
  return *std::min_element(streams_.begin(), streams_.end(),
                           [](const Stream& a, const Stream& b) { return a.last < b.last; });
}

static uint64_t first_window(const Readahead::Limits& limits) {
  return uint64_t{kFirstGets} * limits.joined * limits.chunk_bytes;
}

void Readahead::grow(Stream& s, const Limits& limits) {
  s.window = std::min(limits.longest, std::max(first_window(limits), s.window * 2));
}

Readahead::Plan Readahead::go_on(Stream& s, uint32_t next, const Limits& limits) {
  Plan plan;
  s.next = next;
  if (s.window == 0) return plan;
  const uint64_t window = std::max<uint64_t>(1, std::min(s.window, limits.longest) / limits.chunk_bytes);
  uint64_t goal = next + window;
  if (window > limits.joined) goal = (goal + limits.joined - 1) / limits.joined * limits.joined;
  const uint32_t from = std::max(s.end, next), until = static_cast<uint32_t>(std::min<uint64_t>(limits.chunks, goal));
  if (until <= from) return plan;
  plan.first = from;
  plan.count = until - from;
  plan.mark = std::min(std::max(from, next + (until - next) / 2), until - 1);
  s.end = until;
  return plan;
}

Readahead::Plan Readahead::asked(uint32_t first, uint32_t count, bool coming, const Limits& limits,
                                 Clock::time_point now) {
  const uint32_t next = first + count;
  Stream* s = find(first);
  if (!s) {
    s = &oldest();
    const bool beginning = first == 0;
    *s = Stream{first, next, 0, beginning ? kRunIsSequential : 0, beginning ? first_window(limits) : 0, now};
  } else if (next > s->next) {
    if (++s->run >= kRunIsSequential && first >= s->end) grow(*s, limits);  // else at the mark
    s->from = first;
  }
  if (!coming && first < s->end) s->end = next;
  s->last = now;
  return go_on(*s, std::max(s->next, next), limits);
}

Readahead::Plan Readahead::passed(uint32_t chunk, const Limits& limits, Clock::time_point now) {
  Stream* s = find(chunk);
  if (!s) return {};
  grow(*s, limits);
  s->from = std::max(s->from, chunk);
  s->last = now;
  return go_on(*s, std::max(s->next, chunk + 1), limits);
}

uint32_t Readahead::active(Clock::time_point now) const {
  return static_cast<uint32_t>(std::count_if(streams_.begin(), streams_.end(), [&](const Stream& s) {
    return s.window > 0 && now - s.last < std::chrono::seconds(1);
  }));
}

}  // namespace larder
