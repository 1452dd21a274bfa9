// Which addresses show which bytes of which file: a sorted table without a bound but memory. The pager's thread alone
// changes it; covers() may be called by any thread.
#pragma once
#include <stdint.h>
#include <string.h>

#include <atomic>

#include "preload/base/sys.h"

namespace larder {

struct MappedRange {
  uint64_t start, end;  // addresses, page aligned
  uint64_t offset;      // in the file, of start
  uint32_t file;
  uint32_t window;  // bytes shown at the last fault
  uint64_t next;    // where they ended: a fault there is a sequential reader's

  uint64_t file_offset(uint64_t address) const { return offset + (address - start); }
};

// The ranges lie in the middle of a buffer and make room at the nearer end: mappings come from high addresses
// downwards, and would otherwise move the whole table each.
class RangeTable {
 public:
  // Told of each range of a file that is there (+1) or not any more (-1).
  using Counted = void (*)(uint32_t file, int by);
  constexpr explicit RangeTable(Counted counted) : counted_(counted) {}

  MappedRange* find(uint64_t address) {
    const uint32_t i = after(address);
    return i > 0 && address < at(i - 1).end ? &at(i - 1) : nullptr;
  }

  // Adds a range and removes what was there before. False: there is no memory for it.
  bool insert(const MappedRange& r) { return erase(r.start, r.end) && open_gap(after(r.start), r); }

  // Removes [start, end). False: a range must become two, and there is no memory for it; the range then loses its upper
  // part as well, so that no wrong range stays.
  bool erase(uint64_t start, uint64_t end) {
    uint32_t i = after(start);
    if (i > 0 && at(i - 1).end > start) --i;
    while (i < count_ && at(i).start < end) {
      const MappedRange r = at(i);
      const MappedRange upper = {end, r.end, r.offset + (end - r.start), r.file, 0, 0};
      const bool has_upper = r.end > end;
      if (r.start < start) {
        const Change change(*this);
        at(i++).end = start;
      } else {
        close_gap(i);
      }
      if (has_upper) return open_gap(i, upper);
    }
    return true;
  }

  // [from, from + length) went to `to`.
  void move(uint64_t from, uint64_t to, uint64_t length) {
    if (MappedRange* r = find(from)) {
      MappedRange moved = {to, to + length, r->file_offset(from), r->file, 0, 0};
      erase(from, from + length);
      insert(moved);
    }
  }

  uint32_t size() const { return count_; }
  const MappedRange& operator[](uint32_t i) const { return ranges_[begin_ + i]; }
  // Tells nobody.
  void clear() {
    const Change change(*this);
    count_ = 0;
  }

  // Where the first of the table's addresses in [start, end) is, or 0. Any thread, also while the table changes.
  uint64_t first_in(uint64_t start, uint64_t end) const {
    for (;;) {
      const uint32_t stamp = stamp_.load(std::memory_order_acquire);
      uint64_t found = 0;
      const uint32_t n = count_, begin = begin_, capacity = capacity_;
      const MappedRange* ranges = ranges_;
      if ((stamp & 1) == 0 && n > 0 && begin + n <= capacity) found = first_of(ranges + begin, n, start, end);
      std::atomic_thread_fence(std::memory_order_acquire);
      if ((stamp & 1) == 0 && stamp_.load(std::memory_order_relaxed) == stamp) return found;
    }
  }

 private:
  static constexpr uint32_t kFirstCapacity = 1024;

  // Readers of other threads look again.
  class Change {
   public:
    explicit Change(RangeTable& table) : table_(table) {
      table_.stamp_.store(table_.stamp_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_release);
    }
    ~Change() { table_.stamp_.store(table_.stamp_.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
    Change(const Change&) = delete;
    Change& operator=(const Change&) = delete;

   private:
    RangeTable& table_;
  };

  MappedRange& at(uint32_t i) { return ranges_[begin_ + i]; }

  // Index of the first range that starts after the address.
  static uint32_t after_in(const MappedRange* ranges, uint32_t count, uint64_t address) {
    uint32_t low = 0, high = count;
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      if (ranges[middle].start <= address)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  static uint64_t first_of(const MappedRange* ranges, uint32_t count, uint64_t start, uint64_t end) {
    const uint32_t i = after_in(ranges, count, start);
    if (i > 0 && ranges[i - 1].end > start) return start;
    return i < count && ranges[i].start < end ? ranges[i].start : 0;
  }
  uint32_t after(uint64_t address) const { return after_in(ranges_ + begin_, count_, address); }

  // A larger buffer with the ranges in its middle. The old one stays mapped: a reader may be in it.
  bool grow() {
    const uint32_t capacity = capacity_ == 0 ? kFirstCapacity : capacity_ * 2;
    auto* fresh = static_cast<MappedRange*>(sys::mmap(nullptr, size_t{capacity} * sizeof(MappedRange),
                                                      PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (fresh == nullptr) return false;
    const uint32_t begin = (capacity - count_) / 2;
    if (count_ > 0) memcpy(fresh + begin, ranges_ + begin_, count_ * sizeof(MappedRange));
    const Change change(*this);
    ranges_ = fresh;
    capacity_ = capacity;
    begin_ = begin;
    return true;
  }

  bool open_gap(uint32_t where, const MappedRange& r) {
    const bool down = begin_ > 0 && (where <= count_ / 2 || begin_ + count_ == capacity_);
    if (!down && begin_ + count_ == capacity_) return grow() && open_gap(where, r);
    const Change change(*this);
    if (down) {
      memmove(&ranges_[begin_ - 1], &ranges_[begin_], where * sizeof(MappedRange));
      --begin_;
    } else {
      memmove(&at(where + 1), &at(where), (count_ - where) * sizeof(MappedRange));
    }
    at(where) = r;
    ++count_;
    counted_(r.file, 1);
    return true;
  }

  void close_gap(uint32_t where) {
    const Change change(*this);
    const uint32_t file = at(where).file;
    --count_;
    if (where < count_ / 2) {
      memmove(&ranges_[begin_ + 1], &ranges_[begin_], where * sizeof(MappedRange));
      ++begin_;
    } else {
      memmove(&at(where), &at(where + 1), (count_ - where) * sizeof(MappedRange));
    }
    counted_(file, -1);
  }

  Counted counted_;
  std::atomic<uint32_t> stamp_{0};
  MappedRange* ranges_ = nullptr;
  uint32_t capacity_ = 0, begin_ = 0, count_ = 0;
};

}  // namespace larder
