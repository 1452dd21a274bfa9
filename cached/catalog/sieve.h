// SIEVE over the entries of one catalog (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): a queue from the newest
// to the oldest, and a hand that goes from old to new. What was visited since the hand passed it stays where it is and
// loses its mark; what was not is the next to go. 8 bytes and 2 bits an entry of the catalog. Not thread-safe.
#pragma once
#include <cstdint>
#include <vector>

namespace larder {

class Sieve {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  explicit Sieve(uint32_t entries) : links_(entries), queued_(entries), visited_(entries) {}

  uint32_t size() const { return size_; }
  // As the newest, not visited. Nothing if it is there.
  void add(uint32_t entry);
  // Nothing if it is not there (both).
  void remove(uint32_t entry);
  void visit(uint32_t entry);
  // The next to go, or kNone if there is none. It stays until it is removed, but the hand has passed it: who cannot
  // remove it asks for another.
  uint32_t next();
  // The same order, marks and hand under other numbers: entry e becomes to[e], or goes if that is kNone.
  Sieve renumbered(const std::vector<uint32_t>& to, uint32_t entries) const;

 private:
  struct Links {
    uint32_t newer, older;
  };
  std::vector<Links> links_;
  std::vector<bool> queued_, visited_;
  uint32_t newest_ = kNone, oldest_ = kNone;
  uint32_t hand_ = kNone;  // looked at next; kNone: the oldest
  uint32_t size_ = 0;
};

}  // namespace larder
