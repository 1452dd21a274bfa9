#include "cached/readahead.h"

#include <algorithm>

namespace larder {

static constexpr uint32_t kFirstWindow = 4;  // of a reader that starts at the beginning: most read on
static constexpr uint32_t kRunIsSequential = 2;  // neighbours in a row: one alone is often chance

Readahead::Stream* Readahead::find(uint32_t chunk) {
  for (Stream& s : streams_)
    if (s.next > 0 && chunk + 1 >= s.next && chunk <= std::max(s.end, s.next)) return &s;
  return nullptr;
}

Readahead::Stream& Readahead::oldest() {
  return *std::min_element(streams_.begin(), streams_.end(), [](const Stream& a, const Stream& b) { return a.last < b.last; });
}

Readahead::Plan Readahead::go_on(Stream& s, uint32_t next, uint32_t chunks, uint32_t longest) {
  Plan plan;
  s.next = next;
  uint32_t from = std::max(s.end, next);
  uint32_t until = static_cast<uint32_t>(std::min<uint64_t>(chunks, uint64_t{next} + std::min(s.window, longest)));
  if (until <= from) return plan;
  plan.first = from;
  plan.count = until - from;
  plan.mark = std::max(from, next + (until - next) / 2);
  if (plan.mark >= until) plan.mark = until - 1;
  s.end = until;
  return plan;
}

Readahead::Plan Readahead::asked(uint32_t first, uint32_t count, uint32_t chunks, uint32_t longest, Clock::time_point now) {
  Stream* s = find(first);
  if (!s) {
    s = &oldest();
    *s = Stream{0, 0, first == 0 ? kFirstWindow : 0, first == 0 ? kRunIsSequential : 0, now};
  } else if (first + count > s->next && ++s->run >= kRunIsSequential) {
    s->window = std::min(longest, std::max(kFirstWindow, s->window * 2));
  }
  s->last = now;
  return go_on(*s, std::max(s->next, first + count), chunks, longest);
}

Readahead::Plan Readahead::passed(uint32_t chunk, uint32_t chunks, uint32_t longest, Clock::time_point now) {
  Stream* s = find(chunk);
  if (!s) return {};
  s->window = std::min(longest, std::max(kFirstWindow, s->window * 2));
  s->last = now;
  return go_on(*s, std::max(s->next, chunk + 1), chunks, longest);
}

uint32_t Readahead::active(Clock::time_point now) const {
  return static_cast<uint32_t>(std::count_if(streams_.begin(), streams_.end(), [&](const Stream& s) { return s.next > 0 && now - s.last < std::chrono::seconds(1); }));
}

}  // namespace larder
