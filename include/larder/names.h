// Every name in the cache directory, spelled once: larderd makes the files under these names, programs open them.
// include/larder/shm.h and include/larder/chunks.h say what the files hold; where the cache directory itself lies is
// not this header's concern.
//
// A function ..._name() gives the name of a file in its folder, a function ..._path() the path from the cache
// directory. Both return a terminated string by value: no heap, no errors, any thread, also in signal handlers.
#pragma once
#include <cstring>
#include <string_view>

#include "larder/hash.h"

namespace larder {

// ---- fixed names ----------------------------------------------------------------------------------------------------

inline constexpr char kControlFile[] = "control";
inline constexpr char kPresenceFile[] = "presence";
inline constexpr char kLockFile[] = "lock";
inline constexpr char kUnfinishedFolder[] = "tmp";  // what larderd is still making
inline constexpr char kChunksFolder[] = "chunks";   // the bytes of objects that come in chunks
inline constexpr char kNamespaceFolder[] = "ns";    // the catalog of mount points and of the folders above them
inline constexpr char kMirrorFolder[] = "m";        // of a dataset or the namespace: real, empty directories
inline constexpr char kLazyFolder[] = "l";          // of a dataset: include/larder/chunks.h
inline constexpr char kChecksumFile[] = "sums";     // of a dataset; larderd's alone
inline constexpr char kPinFile[] = "pins";          // of a dataset; larderd's alone

// Each is followed by 16 hex digits.
inline constexpr char kInodeTablePrefix[] = "inodes.";
inline constexpr char kCatalogPrefix[] = "catalog.";
inline constexpr char kResidencyPrefix[] = "residency.";

inline constexpr char kChunkMapSuffix[] = ".map";

// Of the socket's path, not in the cache directory: a copy of control, whose mounts a program knows while nobody
// answers it at the socket.
inline constexpr char kMountsFileSuffix[] = ".mounts";

// ---- composed names -------------------------------------------------------------------------------------------------

class CacheName {
 public:
  const char* c_str() const { return text_; }
  operator std::string_view() const { return {text_, size_}; }

  CacheName& add(const char* text) {
    const size_t n = std::strlen(text);
    std::memcpy(text_ + size_, text, n + 1);
    size_ += n;
    return *this;
  }
  CacheName& add(uint64_t number) {  // 16 hex digits
    hex16(number, text_ + size_);
    size_ += 16;
    return *this;
  }
  CacheName& add(ObjectId id) {  // 32 hex digits
    object_name(id, text_ + size_);
    size_ += 32;
    return *this;
  }

 private:
  char text_[64];  // the longest is that of an object that came in chunks: 7 + 16 + 1 + 32 bytes
  size_t size_ = 0;
};

inline CacheName inode_table_name(uint64_t id) {
  return CacheName().add(kInodeTablePrefix).add(id);
}
inline CacheName catalog_name(uint64_t version) {
  return CacheName().add(kCatalogPrefix).add(version);
}
inline CacheName residency_name(uint64_t version) {
  return CacheName().add(kResidencyPrefix).add(version);
}
inline CacheName mirror_name(uint64_t directory_hash) {
  return CacheName().add(directory_hash);
}
inline CacheName chunk_data_name(uint64_t handle_inode) {
  return CacheName().add(handle_inode);
}
inline CacheName chunk_map_name(uint64_t handle_inode) {
  return CacheName().add(handle_inode).add(kChunkMapSuffix);
}

// A catalog or a residency table of some version.
inline bool is_version_file(std::string_view name) {
  return name.starts_with(kCatalogPrefix) || name.starts_with(kResidencyPrefix);
}

// ---- paths from the cache directory ---------------------------------------------------------------------------------

// A dataset's folder; id 0 is the namespace's.
inline CacheName dataset_path(uint64_t dataset_id) {
  return dataset_id != 0 ? CacheName().add(dataset_id) : CacheName().add(kNamespaceFolder);
}
inline CacheName catalog_path(uint64_t dataset_id, uint64_t version) {
  return dataset_path(dataset_id).add("/").add(kCatalogPrefix).add(version);
}
inline CacheName residency_path(uint64_t dataset_id, uint64_t version) {
  return dataset_path(dataset_id).add("/").add(kResidencyPrefix).add(version);
}
inline CacheName mirror_path(uint64_t dataset_id, uint64_t directory_hash) {
  return dataset_path(dataset_id).add("/").add(kMirrorFolder).add("/").add(directory_hash);
}

// A whole object; the handle of a lazy one, its data and its chunk map. A dataset's id is never 0.
inline CacheName object_path(uint64_t dataset_id, ObjectId oid) {
  return CacheName().add(dataset_id).add("/").add(oid);
}
inline CacheName lazy_folder_path(uint64_t dataset_id) {
  return CacheName().add(dataset_id).add("/").add(kLazyFolder).add("/");
}
inline CacheName handle_path(uint64_t dataset_id, ObjectId oid) {
  return lazy_folder_path(dataset_id).add(oid);
}
inline CacheName chunks_path(uint64_t dataset_id) {
  return CacheName().add(kChunksFolder).add("/").add(dataset_id);
}
inline CacheName chunk_data_path(uint64_t dataset_id, uint64_t handle_inode) {
  return chunks_path(dataset_id).add("/").add(handle_inode);
}
// An object that came in chunks and has become whole.
inline CacheName whole_chunks_path(uint64_t dataset_id, ObjectId oid) {
  return chunks_path(dataset_id).add("/").add(oid);
}
inline CacheName chunk_map_path(uint64_t dataset_id, uint64_t handle_inode) {
  return lazy_folder_path(dataset_id).add(handle_inode).add(kChunkMapSuffix);
}

}  // namespace larder
