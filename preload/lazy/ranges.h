// Which addresses show which bytes of which file: a sorted table. Only the pager's thread uses it.
#pragma once
#include <stdint.h>
#include <string.h>

namespace larder {

struct MappedRange {
  uint64_t start, end;  // addresses, page aligned
  uint64_t offset;      // in the file, of start
  uint32_t file;
  uint32_t window;  // bytes shown at the last fault
  uint64_t next;    // where they ended: a fault there is a sequential reader's

  uint64_t file_offset(uint64_t address) const { return offset + (address - start); }
};

class RangeTable {
 public:
  static constexpr uint32_t kCapacity = 16384;  // a quarter of the mappings that the kernel allows a process by default

  MappedRange* find(uint64_t address) {
    const uint32_t i = after(address);
    return i > 0 && address < ranges_[i - 1].end ? &ranges_[i - 1] : nullptr;
  }

  // Adds a range and removes what was there before. False: the table is full.
  bool insert(const MappedRange& r) {
    if (!erase(r.start, r.end) || count_ == kCapacity) return false;
    open_gap(after(r.start), r);
    return true;
  }

  // Removes [start, end). False: a range must become two, but the table is full; the range then loses its upper part as
  // well, so that no wrong range stays.
  bool erase(uint64_t start, uint64_t end) {
    uint32_t i = after(start);
    if (i > 0 && ranges_[i - 1].end > start) --i;
    bool whole = true;
    while (i < count_ && ranges_[i].start < end) {
      MappedRange& r = ranges_[i];
      const MappedRange upper = {end, r.end, r.offset + (end - r.start), r.file, 0, 0};
      const bool has_upper = r.end > end;
      if (r.start < start) {
        r.end = start;
        ++i;
      } else {
        close_gap(i);
      }
      if (!has_upper) continue;
      if (count_ == kCapacity)
        whole = false;
      else
        open_gap(i, upper);
      break;
    }
    return whole;
  }

  // [from, from + length) went to `to`.
  void move(uint64_t from, uint64_t to, uint64_t length) {
    if (MappedRange* r = find(from)) {
      MappedRange moved = {to, to + length, r->file_offset(from), r->file, 0, 0};
      erase(from, from + length);
      insert(moved);
    }
  }

  bool uses(uint32_t file) const {
    for (uint32_t i = 0; i < count_; ++i)
      if (ranges_[i].file == file) return true;
    return false;
  }

  uint32_t size() const { return count_; }
  const MappedRange& operator[](uint32_t i) const { return ranges_[i]; }
  void clear() { count_ = 0; }

 private:
  // Index of the first range that starts after the address.
  uint32_t after(uint64_t address) const {
    uint32_t low = 0, high = count_;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if (ranges_[middle].start <= address)
        low = middle + 1;
      else
        high = middle;
    }
    return low;
  }
  void open_gap(uint32_t at, const MappedRange& r) {
    memmove(&ranges_[at + 1], &ranges_[at], (count_ - at) * sizeof(MappedRange));
    ranges_[at] = r;
    ++count_;
  }
  void close_gap(uint32_t at) {
    --count_;
    memmove(&ranges_[at], &ranges_[at + 1], (count_ - at) * sizeof(MappedRange));
  }

  MappedRange ranges_[kCapacity + 1];
  uint32_t count_;
};

}  // namespace larder
