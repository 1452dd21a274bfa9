// The whole files in the cache: their names, their residency words, their accounts. Files that were unlinked while a
// program had them open are zombies and count until the kernel grants a write lease (nobody_else_has).
// Not thread-safe: guarded by ObjectCache's lock.
#pragma once
#include <functional>
#include <list>

#include "cached/cache/object_writer.h"
#include "cached/cache/staging.h"
#include "cached/catalog/inode_table.h"

namespace larder {

class LazyFile;

class ResidentFiles {
 public:
  enum class Removed {
    kGone,   // it was not there
    kBusy,   // it is in use, and stays
    kFreed,  // its memory came free
    kZombie  // it has no name any more; its memory comes free when those who use it are done
  };
  ResidentFiles(InodeTableWriter& inodes, Budget& budget, Staging& staging)
      : inodes_(inodes), budget_(budget), staging_(staging) {}

  // An object's entry in the current version; kNoEntry: the version has another object there, or none.
  static uint32_t entry_of(const CatalogVersion* version, const Object& object);

  // The written and finished file gets its name and becomes resident. The room's reservation is not released.
  Status publish(DatasetRecord& record, CatalogVersion& version, uint32_t entry, const Object& object,
                 ObjectWriter& writer, bool staged);
  // The written and finished file stays without a name, as a zombie from the start: its descriptor, for programs. The
  // room's reservation is not released, its passing bytes go with the zombie.
  Result<std::shared_ptr<Fd>> pass(DatasetRecord& record, const Object& object, ObjectWriter& writer);
  // A lazy object whose chunks are all there, `bytes` on disk, becomes an ordinary file.
  Status publish_whole(DatasetRecord& record, CatalogVersion& version, uint32_t entry, LazyFile& file, uint64_t sum,
                       uint64_t bytes);

  // `before_unlink` runs when it is certain that the file goes: words change before names do.
  Removed remove_file(DatasetRecord& record, const char* name, bool even_if_used,
                      const std::function<void()>& before_unlink);
  // The same in one of the dataset's folders alone.
  Removed remove_file_of(DatasetRecord& record, int folder, const char* name, bool even_if_used,
                         const std::function<void()>& before_unlink);
  Removed remove_entry(DatasetRecord& record, CatalogVersion& version, uint32_t entry, bool even_if_used);
  // A resident file that somebody else removed, if it did.
  void forget(DatasetRecord& record, CatalogVersion& version, uint32_t entry);

  // Drops zombies that nobody uses any more.
  void poll_zombies();
  uint64_t zombie_bytes() const;

 private:
  struct Zombie {
    std::shared_ptr<Fd> fd;             // others have it while they hand it out
    uint64_t bytes, inode;              // its number in the inode table
    std::shared_ptr<Accounts> passing;  // of a file that never had a name
  };
  void set_resident(DatasetRecord& record, CatalogVersion& version, uint32_t entry);
  void compact_sums(DatasetRecord& record, const CatalogVersion& version);

  InodeTableWriter& inodes_;
  Budget& budget_;
  Staging& staging_;
  std::list<Zombie> zombies_;
};

}  // namespace larder
