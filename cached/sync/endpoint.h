// One end of a sync: a store or a directory. It owns its store; `files` and `writer` point into it.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "cached/store/api/store.h"
#include "cached/store/api/upload.h"
#include "cached/store/file/file.h"

namespace larder {

struct Endpoint {
  SourceUrl url;
  std::string server;  // of a store over HTTP: scheme://host, as its requests go there
  StoreOptions options;
  std::unique_ptr<Store> store;
  FileStore* files = nullptr;  // of a directory
  StoreWriter* writer = nullptr;

  std::string place() const { return server + " " + url.text(); }
  bool is_directory() const { return files != nullptr; }
  // Fills `out` with the object's bytes from `offset` on. Blocks; any thread. ESTALE: it is not the listed object.
  // `no_sum`: see GetRequest::etag_is_no_sum. Bytes that do not match the store's checksum are fetched again, and are
  // EIO in the end.
  Status read(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out,
              const std::shared_ptr<std::atomic<bool>>& no_sum = {});

 private:
  Status get(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out,
             std::shared_ptr<std::atomic<bool>> no_sum);
};

// `text`: a URL, or the path of a directory. A target's directory is made if it is missing (not with `dry`: `store`
// then stays empty), and symbolic links in it are not followed. EROFS: the target is a store that can only be read.
struct EndpointOptions {
  StoreOptions store;
  bool target = false;
  bool dry = false;
};
Result<Endpoint> open_endpoint(const std::string& text, const EndpointOptions& options);

// True if both are one service, opened by the same keys, which can copy by itself.
bool same_service(const Endpoint& a, const Endpoint& b);

// True if one lies within the other, so that a copy would find its own copies and --delete its own originals. A server
// has many names: where only those of the servers differ, an object is written below the target, looked for below the
// source and removed again (not with `dry`). Blocks.
Result<bool> overlap(const Endpoint& source, const Endpoint& target, bool dry);

}  // namespace larder
