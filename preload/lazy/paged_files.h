// Which files are mapped, and where: the pager's tables. The pager's thread alone changes them; find() and any() may be
// called by others, and by a fork's child that finds an entry half made.
#pragma once
#include <atomic>

#include "preload/lazy/pager.h"
#include "preload/lazy/ranges.h"

namespace larder {

struct PagedFiles {
  // The index of a file that has been mapped and is not known to be unmapped, or -1. Looks at every file.
  static int find(uint64_t dev, uint64_t inode);
  static bool any();

  // The same at once, for the pager's thread.
  static int known(uint64_t dev, uint64_t inode);

  static const PagedFile& get(uint32_t index);
  static bool is_used(uint32_t index);

  // The index of a file, now in the table; takes over or unmaps its map. -1: there is no memory for it.
  static int intern(const PagedFile& f);

  // Drops files that no range shows any more, each after `dropped(index)`.
  static void drop_unused(void (*dropped)(uint32_t index));

  // Forgets all ranges, and makes the tables consistent, before there is a pager's thread: in a fork's child they may
  // be the copy of a change half made.
  static void start();

  static RangeTable ranges;
};

}  // namespace larder
