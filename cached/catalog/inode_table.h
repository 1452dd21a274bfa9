// Writer of the inode table (include/larder/shm.h): from real inode numbers to what they stand for. Thread-safe.
// A table that a crash left is taken over in place; it grows by a new file that control then names.
#pragma once
#include <sys/stat.h>

#include <memory>

#include "cached/base/mutex.h"
#include "cached/catalog/cache_dir.h"
#include "cached/catalog/control_writer.h"

namespace larder {

class InodeTableWriter {
 public:
  static Result<std::unique_ptr<InodeTableWriter>> open(CacheDir& dir, ControlWriter& publisher, Meter& meter);

  // The number of one of the cache's files in the table.
  uint64_t key_of(const struct stat& st) const {
    return inode_key(dir_.control()->cache_dev, dir_.control()->chunks_dev, st.st_dev, st.st_ino);
  }
  // Makes real_inode known, or changes what it stands for. ENOSPC: the table could not grow.
  Status insert(uint64_t real_inode, uint64_t inode, uint64_t dataset_id, InodeKind kind);
  // Only when nobody can have the file open.
  void remove(uint64_t real_inode);
  uint32_t slot_count() const;
  // Bytes that the next insert() adds by making a larger table; 0: it does not.
  uint64_t growth_bytes() const;

 private:
  InodeTableWriter(CacheDir& dir, ControlWriter& publisher, Meter& meter)
      : dir_(dir), publisher_(publisher), meter_(meter) {}
  Status init() EXCLUDES(mutex_);
  Status take_over_locked(uint64_t id) REQUIRES(mutex_);
  Result<Mapping> make_file_locked(uint64_t id, uint32_t slots) REQUIRES(mutex_);
  Status grow_locked() REQUIRES(mutex_);
  void remove_others(uint64_t current);
  static void put(InodeTable* table, uint64_t real, uint64_t inode, uint64_t dataset_id, InodeKind kind);

  InodeTable* table_locked() const REQUIRES(mutex_) { return static_cast<InodeTable*>(map_.data()); }

  CacheDir& dir_;
  ControlWriter& publisher_;
  Meter& meter_;
  mutable Mutex mutex_;  // before ControlWriter's
  Charge charge_ GUARDED_BY(mutex_);
  Mapping map_ GUARDED_BY(mutex_);
  uint64_t used_ GUARDED_BY(mutex_) = 0;        // slots that are not empty
  uint64_t tombstones_ GUARDED_BY(mutex_) = 0;  // of them
};

}  // namespace larder
