#include "cached/catalog/inode_table.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "larder/names.h"

namespace larder {

static constexpr uint32_t kFirstSlots = 4096;  // 128 KiB: small caches stay small
static constexpr uint32_t kMaxSlots = 1u << 30;

Result<std::unique_ptr<InodeTableWriter>> InodeTableWriter::open(CacheDir& dir, ControlWriter& publisher,
                                                                 Meter& meter) {
  std::unique_ptr<InodeTableWriter> w(new InodeTableWriter(dir, publisher, meter));
  if (Status s = w->init(); !s) return s.error();
  return w;
}

Status InodeTableWriter::init() {
  MutexLock lock(mutex_);
  const uint64_t id = dir_.control()->inode_table;
  if (id != 0 && take_over_locked(id)) return {};
  Result<Mapping> map = make_file_locked(id + 1, kFirstSlots);
  if (!map) return map.error();
  map_ = std::move(*map);
  publisher_.publish_inode_table(id + 1);
  remove_others(id + 1);
  return {};
}

Status InodeTableWriter::take_over_locked(uint64_t id) {
  Fd fd(::openat(dir_.fd(), inode_table_name(id).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (!fd.valid() || ::fstat(fd.get(), &st) != 0) return os_error("no inode table");
  if (!S_ISREG(st.st_mode) || st.st_uid != ::geteuid() || st.st_size < static_cast<off_t>(sizeof(InodeTable)))
    return make_error(EBADMSG, "inode table is damaged");
  Result<Mapping> map = Mapping::map(fd.get(), static_cast<size_t>(st.st_size), true);
  if (!map) return map.error();
  auto* t = static_cast<InodeTable*>(map->data());
  uint32_t slots = t->slot_count;
  if (t->magic != kInodeTableMagic || t->format != kInodeTableFormat || slots == 0 || slots > kMaxSlots ||
      (slots & (slots - 1)) != 0 || static_cast<uint64_t>(st.st_size) != inode_table_bytes(slots))
    return make_error(EBADMSG, "inode table is damaged");
  for (uint32_t s = 0; s < slots; ++s) {
    uint64_t key = t->slots[s].real_inode.load(std::memory_order_relaxed);
    used_ += key != 0;
    tombstones_ += key == kTombstone;
  }
  if (used_ >= slots) {
    used_ = tombstones_ = 0;
    return make_error(EBADMSG, "inode table is damaged");
  }
  map_ = std::move(*map);
  charge_ = Charge(meter_, on_disk(inode_table_bytes(slots)));
  remove_others(id);
  return {};
}

Result<Mapping> InodeTableWriter::make_file_locked(uint64_t id, uint32_t slots) {
  Result<Fd> fd = unnamed_file(dir_.tmp_fd());
  if (!fd) return fd.error();
  uint64_t bytes = inode_table_bytes(slots);
  // Whole, not sparse: a program that probes a hole would allocate it, and get SIGBUS on a full file system.
  if (::fallocate(fd->get(), 0, 0, static_cast<off_t>(bytes)) != 0) return os_error("cannot allocate the inode table");
  Result<Mapping> map = Mapping::map(fd->get(), bytes, true);
  if (!map) return map;
  auto* t = static_cast<InodeTable*>(map->data());
  t->magic = kInodeTableMagic;
  t->format = kInodeTableFormat;
  t->slot_count = slots;
  if (::fchmod(fd->get(), 0644) != 0) return os_error("cannot set the mode of the inode table");
  if (Status s = link_file_over(fd->get(), dir_.tmp_fd(), dir_.fd(), std::string(inode_table_name(id))); !s)
    return s.error();
  charge_ = Charge(meter_, on_disk(bytes));
  return map;
}

void InodeTableWriter::remove_others(uint64_t current) {
  (void)for_each_name(dir_.fd(), [&](const char* name) {
    if (std::string_view(name).starts_with(kInodeTablePrefix) && inode_table_name(current) != std::string_view(name))
      ::unlinkat(dir_.fd(), name, 0);
  });
}

// Value first, key last, into an empty slot.
void InodeTableWriter::put(InodeTable* t, uint64_t real, uint64_t inode, uint64_t dataset_id, InodeKind kind) {
  uint32_t mask = t->slot_count - 1;
  uint32_t s = static_cast<uint32_t>(real) & mask;
  while (t->slots[s].real_inode.load(std::memory_order_relaxed) != 0)
    s = (s + 1) & mask;
  t->slots[s].inode = inode;
  t->slots[s].dataset_id = dataset_id;
  t->slots[s].kind = kind;
  t->slots[s].real_inode.store(real, std::memory_order_release);
}

Status InodeTableWriter::insert(uint64_t real, uint64_t inode, uint64_t dataset_id, InodeKind kind) {
  MutexLock lock(mutex_);
  auto* found = const_cast<InodeSlot*>(table_locked()->find(real, table_locked()->slot_count - 1));
  if (found) {  // taken over, or the kernel used the number again
    found->inode = inode;
    found->dataset_id = dataset_id;
    found->kind = kind;
    return {};
  }
  if ((used_ + 1) * 2 > table_locked()->slot_count)
    if (Status s = grow_locked(); !s) return s;
  put(table_locked(), real, inode, dataset_id, kind);
  ++used_;
  return {};
}

void InodeTableWriter::remove(uint64_t real) {
  MutexLock lock(mutex_);
  auto* found = const_cast<InodeSlot*>(table_locked()->find(real, table_locked()->slot_count - 1));
  if (!found) return;
  found->real_inode.store(kTombstone, std::memory_order_release);
  ++tombstones_;
}

// Twice as large, or the same size again if most of what fills it are tombstones.
Status InodeTableWriter::grow_locked() {
  uint64_t live = used_ - tombstones_;
  uint32_t slots = table_locked()->slot_count;
  if ((live + 1) * 4 > slots) slots *= 2;
  if (slots > kMaxSlots) return make_error(ENOSPC, "more cache files than the inode table can have");
  uint64_t id = dir_.control()->inode_table + 1;
  Charge before = std::move(charge_);
  Result<Mapping> map = make_file_locked(id, slots);
  if (!map) {
    charge_ = std::move(before);
    return map.error();
  }
  auto* to = static_cast<InodeTable*>(map->data());
  for (uint32_t s = 0; s < table_locked()->slot_count; ++s) {
    InodeSlot& slot = table_locked()->slots[s];
    uint64_t key = slot.real_inode.load(std::memory_order_relaxed);
    if (key != 0 && key != kTombstone) put(to, key, slot.inode, slot.dataset_id, slot.kind);
  }
  map_ = std::move(*map);
  used_ = live;
  tombstones_ = 0;
  publisher_.publish_inode_table(id);
  remove_others(id);
  return {};
}

uint64_t InodeTableWriter::growth_bytes() const {
  MutexLock lock(mutex_);
  bool grows =
      (used_ + 1) * 2 > table_locked()->slot_count && (used_ - tombstones_ + 1) * 4 > table_locked()->slot_count;
  return grows ? inode_table_bytes(table_locked()->slot_count) : 0;
}

uint32_t InodeTableWriter::slot_count() const {
  MutexLock lock(mutex_);
  return table_locked()->slot_count;
}

}  // namespace larder
