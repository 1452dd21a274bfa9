// One lazy object on disk: handle, data file, chunk map (include/larder/chunks.h). The words are atomics: programs read
// them, and any thread of the daemon may (present()). ChunkStore changes PRESENT and generation with its lock held, and
// marks, which are hints, without.
#pragma once
#include <atomic>
#include <cstdlib>
#include <memory>

#include "cached/base/charge.h"
#include "cached/base/fd.h"
#include "cached/cache/budget.h"
#include "cached/catalog/dataset.h"
#include "cached/catalog/inode_table.h"
#include "larder/chunks.h"

namespace larder {

class LazyFile {
 public:
  // Makes handle, data and map in the dataset's folders. The handle is known in the inode table before it has its name.
  static Result<std::shared_ptr<LazyFile>> create(const Object& object, std::shared_ptr<Accounts> accounts,
                                                  uint32_t chunk_shift, int tmp_fd, InodeTableWriter& inodes,
                                                  Meter& meter);
  // What a former daemon left under this object id, with its absent chunks punched. Of one that was whole, the handle
  // and the map, for programs that have the handle open. EBADMSG, ENOENT: it is damaged or not ours.
  static Result<std::shared_ptr<LazyFile>> take_over(const std::shared_ptr<Dataset>& dataset,
                                                     std::shared_ptr<Accounts> accounts, ObjectId oid,
                                                     InodeTableWriter& inodes, Meter& meter);
  // For a handle whose object was whole and was evicted: the same handle with a new, empty data file and map.
  static Result<std::shared_ptr<LazyFile>> renew(const LazyFile& old, Meter& meter);
  // What the map of an object of this size takes on disk.
  static uint64_t map_bytes(uint64_t size, uint32_t chunk_shift);
  uint64_t map_on_disk() const;
  // Removes what is on disk. The handle stays in the inode table: who has it open gets ESTALE, not another object.
  void remove_files();

  const ChunkMap& map() const { return *static_cast<const ChunkMap*>(map_.data()); }
  uint64_t handle_inode() const { return map().handle_inode; }
  uint32_t chunk_count() const { return map().chunk_count; }
  bool present(uint32_t chunk) const { return word(chunk).load(std::memory_order_acquire) & kChunkPresent; }
  uint64_t chunk_offset(uint32_t chunk) const { return uint64_t{chunk} << map().chunk_shift; }
  uint64_t chunk_length(uint32_t chunk) const;
  uint64_t chunk_on_disk(uint32_t chunk) const;
  bool is_whole() const { return map().whole.load(std::memory_order_acquire) != 0; }

  void set_present(uint32_t chunk, uint64_t sum);
  // Of chunks that are all PRESENT, or of one that is not: stores ABSENT, then gives the memory back.
  void punch(uint32_t first, uint32_t count = 1);
  // How many from `chunk` on are PRESENT.
  uint32_t run_of_present(uint32_t chunk) const;
  void set_mark(uint32_t chunk, bool on);
  // XXH3-64 of the chunk as it arrived; 0: not known (taken over).
  uint64_t sum(uint32_t chunk) const { return sums_[chunk]; }

  int data_fd() const { return data_.get(); }
  uint64_t data_inode() const { return map().data_inode; }
  // The data file becomes chunks/<dataset>/<object id>: 0444, with the object's time. `whole` is set, the daemon's
  // descriptor closed.
  Status rename_to_whole();

  // Path and etag may be missing after take_over() until the catalog is there; nothing is fetched before.
  Object object;
  std::shared_ptr<Accounts> accounts;  // of its dataset
  std::atomic<int64_t> last_use_ns{0};

  // Guarded by ChunkStore's lock.
  uint32_t present_chunks = 0;
  uint32_t staged_chunks = 0;  // of them
  uint64_t present_bytes = 0;  // on disk
  uint32_t evict_cursor = 0;
  bool busy_completing = false;
  int wrong_wholes = 0;  // times that all chunks together were not what the store says
  std::atomic<bool> dropped{false};
  bool pinned = false;

 private:
  LazyFile() = default;
  Status make_files(int folder, uint64_t handle_inode, Meter& meter);
  Status open_files(int folder, uint64_t handle_inode, ObjectId oid, Meter& meter);
  Status open_data(uint64_t handle_inode, const ChunkMap& map);
  Status make_sums(uint64_t chunks);
  void punch_absent();
  void punch_bytes(uint32_t first, uint32_t count);
  std::atomic<uint32_t>& word(uint32_t chunk) const { return static_cast<ChunkMap*>(map_.data())->words[chunk]; }

  uint32_t shift_ = 0;
  Fd data_;
  Mapping map_;
  struct Free {
    void operator()(uint64_t* p) const { ::free(p); }
  };
  std::unique_ptr<uint64_t[], Free>
      sums_;  // of calloc: what is never there takes no memory, and most of a huge object is not
  Charge charge_;
};

}  // namespace larder
