// Which files are mapped, and where: the pager's tables. The pager's thread alone changes them; find_paged_file() and
// any_paged_file() may be called by others, and by a fork's child that finds an entry half made.
#pragma once
#include <atomic>

#include "preload/lazy/pager.h"
#include "preload/lazy/ranges.h"

namespace larder {

inline constexpr uint32_t kPagedFiles = 4096;

struct PagedFiles {
  // The index of a file that has been mapped and is not known to be unmapped, or -1.
  static int find(uint64_t dev, uint64_t inode);
  static bool any();

  static const PagedFile& get(uint32_t index);
  static bool is_used(uint32_t index);

  // The index of a file, now in the table; takes over or unmaps its map. -1: the table is full.
  static int intern(const PagedFile& f);

  // Drops files that no range shows any more, each after `dropped(index)`.
  static void drop_unused(void (*dropped)(uint32_t index));

  static RangeTable ranges;
};

}  // namespace larder
