// ObjectCache: what passes through a cache in which everything is in use. Programs' files are served without a name,
// and chunks have a little room of their own, so that one reader who keeps files open does not keep others from
// reading.
#include "cached/base/files.h"
#include "cached/cache/object_cache.h"

namespace larder {

Result<Room> ObjectCache::admit_chunk(const Object& o, uint64_t bytes, bool demand) {
  MutexLock lock(mutex_);
  Result<Room> room = admit_locked(o, bytes, demand, true);
  DatasetRecord* r = known_.find(*o.dataset);
  if (room || room.error().code != EAGAIN || !r || !budget_.passing_chunk_fits(on_disk(bytes))) return room;
  return room_locked(*r, on_disk(bytes), Admission::Kind::kStaged, true);
}

Result<Room> ObjectCache::admit_passing(const Object& o) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(*o.dataset);
  if (!r) return make_error(ESTALE, "the dataset is not known any more");
  const uint64_t need = on_disk(o.size);
  files_.poll_zombies();
  if (!budget_.within_quota(*o.dataset, *r->accounts, need) || !budget_.passing_fits(*r->accounts, need))
    return make_error(EAGAIN, "everything in the cache is in use or pinned, and so is what may pass through it");
  Room room = room_locked(*r, need, Admission::Kind::kKept, false);
  room.passing_ = true;
  budget_.passing_came(*r->accounts, need);
  return room;
}

Result<std::shared_ptr<Fd>> ObjectCache::pass(const Object& o, ObjectWriter& writer, Room room) {
  MutexLock lock(mutex_);
  DatasetRecord* r = known_.find(*o.dataset);
  std::shared_ptr<CatalogVersion> v = o.dataset->version();
  if (!r || ResidentFiles::entry_of(v.get(), o) == kNoEntry) {
    release(room);
    return make_error(ESTALE, "the object changed while it was fetched");
  }
  Result<std::shared_ptr<Fd>> file = files_.pass(*r, o, writer);
  if (file) {
    room.passing_ = false;  // the zombie's from now on
    ++passed_;
  }
  release(room);
  return file;
}

}  // namespace larder
