// One dataset as the daemon knows it, mounted or not. Shared by pointer; lives until the daemon ends (what is unmounted
// may still have files in the cache).
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"
#include "cached/catalog/catalog_version.h"
#include "cached/catalog/checksum_log.h"
#include "cached/config/config.h"
#include "cached/meta/meta.h"

namespace larder {

// XXH3-64 of name and source, never 0.
uint64_t dataset_id(const std::string& name, const std::string& source);

class CacheDir;

class Dataset {
 public:
  // Makes (or opens) the dataset's two folders: 0755, or 0750 and owned by the group.
  static Result<std::shared_ptr<Dataset>> open(const DatasetDef& def, const CacheDir& dir, Meter& meter);

  uint64_t id() const { return def.id; }
  // Descriptors of the folders; -1 never.
  int folder_fd() const { return folder.get(); }
  int chunks_fd() const { return chunks.get(); }
  // The folders in which whole objects lie: those that came at once, and those that came in chunks.
  std::array<int, 2> file_folders() const { return {folder.get(), chunks.get()}; }
  // A cache file of either folder, which `where` becomes; O_RDONLY. Invalid with errno if it cannot be opened.
  Fd open_file(const char* name, int* where = nullptr) const;
  std::string label() const { return def.name.empty() ? "(unknown dataset)" : def.name; }

  std::shared_ptr<CatalogVersion> version() const;
  void set_version(std::shared_ptr<CatalogVersion> v);

  // The store, or why there is none.
  Result<std::shared_ptr<Store>> store() const;
  void set_store(Result<std::shared_ptr<Store>> store);
  // A store that was replaced, once nothing uses it any more (a Store may not be destroyed by its own threads).
  void drop_retired_stores();

  void used_now();

  // What keeps the metadata from being followed, or "": programs are served all the same.
  std::string trouble() const;
  void set_trouble(std::string what);

  const DatasetDef def;
  const std::optional<gid_t> group;
  const Fd folder;
  const Fd chunks;   // chunks/<id>
  const Fd mirrors;  // its folder "m"
  const std::unique_ptr<ChecksumLog> sums;
  std::atomic<Fill> fill{Fill::kOff};
  std::atomic<Policy> policy{Policy::kKeep};
  std::atomic<uint64_t> quota{0};       // most bytes of files, chunks and reservations; 0: none
  std::atomic<int64_t> last_use_ns{0};  // CLOCK_REALTIME
  std::atomic<bool> verified{true};     // false: files of a former daemon that nobody has compared with their checksums

 private:
  struct Folders {
    Fd files, chunks, mirrors;
  };
  static Result<Folders> open_folders(const DatasetDef& def, std::optional<gid_t> group, const CacheDir& dir);
  Dataset(DatasetDef d, std::optional<gid_t> g, Folders f, std::unique_ptr<ChecksumLog> s)
      : def(std::move(d)),
        group(g),
        folder(std::move(f.files)),
        chunks(std::move(f.chunks)),
        mirrors(std::move(f.mirrors)),
        sums(std::move(s)) {}

  mutable Mutex mutex_;
  std::shared_ptr<CatalogVersion> version_ GUARDED_BY(mutex_);
  std::shared_ptr<Store> store_ GUARDED_BY(mutex_);
  Error store_error_ GUARDED_BY(mutex_);
  std::string trouble_ GUARDED_BY(mutex_);
  std::vector<std::shared_ptr<Store>> retired_ GUARDED_BY(mutex_);
};

// What a fetch needs to know of one file of a dataset version.
struct Object {
  std::shared_ptr<Dataset> dataset;
  std::string path;
  ObjectId oid{};
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  std::string etag;
};
Object object_at(std::shared_ptr<Dataset> dataset, const CatalogVersion& version, uint32_t entry);

}  // namespace larder
