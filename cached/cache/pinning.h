// Which paths are pinned, and how much may be. Not thread-safe: guarded by ObjectCache's lock.
#pragma once
#include <string>
#include <vector>

#include "cached/cache/chunk_holder.h"
#include "cached/cache/staging.h"

namespace larder {

class Pinning {
 public:
  Pinning(KnownDatasets& known, Budget& budget, Staging& staging) : known_(known), budget_(budget), staging_(staging) {}
  void hold_chunks(ChunkHolder* holder) { chunks_ = holder; }

  // See ObjectCache.
  Status pin(DatasetRecord& record, const std::vector<std::string>& paths);
  Result<size_t> unpin(DatasetRecord& record, const std::string& path);
  // The version, the quota or the pins changed: which entries are pinned now. What does not fit is not, and is logged.
  void follow(DatasetRecord& record);

 private:
  uint64_t beside_pins(uint64_t limit) const;
  uint64_t room_for_pins(const DatasetRecord& record) const;

  KnownDatasets& known_;
  Budget& budget_;
  Staging& staging_;
  ChunkHolder* chunks_ = nullptr;
};

}  // namespace larder
