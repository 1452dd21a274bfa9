#include "cached/catalog/sieve.h"

namespace larder {

void Sieve::add(uint32_t entry) {
  if (entry >= links_.size() || queued_[entry]) return;
  links_[entry] = {kNone, newest_};
  if (newest_ != kNone)
    links_[newest_].newer = entry;
  else
    oldest_ = entry;
  newest_ = entry;
  queued_[entry] = true;
  visited_[entry] = false;
  ++size_;
}

void Sieve::remove(uint32_t entry) {
  if (entry >= links_.size() || !queued_[entry]) return;
  const auto [newer, older] = links_[entry];
  if (hand_ == entry) hand_ = newer;
  (newer != kNone ? links_[newer].older : newest_) = older;
  (older != kNone ? links_[older].newer : oldest_) = newer;
  queued_[entry] = false;
  --size_;
}

void Sieve::visit(uint32_t entry) {
  if (entry < links_.size() && queued_[entry]) visited_[entry] = true;
}

uint32_t Sieve::next() {
  if (size_ == 0) return kNone;
  uint32_t at = hand_ != kNone ? hand_ : oldest_;
  while (visited_[at]) {
    visited_[at] = false;
    at = links_[at].newer != kNone ? links_[at].newer : oldest_;
  }
  hand_ = links_[at].newer;
  return at;
}

Sieve Sieve::renumbered(const std::vector<uint32_t>& to, uint32_t entries) const {
  Sieve other(entries);
  bool passed = hand_ == kNone;  // the hand waits at the first that is still there, from its place on
  for (uint32_t e = oldest_; e != kNone; e = links_[e].newer) {
    passed |= e == hand_;
    const uint32_t mine = e < to.size() ? to[e] : kNone;
    if (mine == kNone) continue;
    other.add(mine);
    if (visited_[e]) other.visit(mine);
    if (passed && hand_ != kNone && other.hand_ == kNone) other.hand_ = mine;
  }
  return other;
}

}  // namespace larder
