// An object store: where the objects of a dataset are read from. s3://, bos://, http(s)://, file://.
//
// Threads: list(), head() and put() block and may be called from any thread. get() returns at once; its callbacks run
// on the store's own threads, one at a time for one request, on_done exactly once and last. A Store may be destroyed
// only when no request is under way. Errors carry the errno a program shall see (docs/semantics.md): ENOENT, EACCES,
// ESTALE (If-Match failed), EIO after retries; the message names store, key, HTTP status and request id, never a
// secret.
#pragma once
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/checksum/crc.h"
#include "larder/result.h"

namespace larder {

// One object, as a listing or a HEAD reports it.
struct ObjectInfo {
  std::string key;       // relative to the source's prefix, as stored (any bytes)
  uint64_t size = 0;     // bytes
  int64_t mtime_ns = 0;  // Last-Modified; 0: unknown
  // What the store calls this version: without quotes, at most 255 bytes; a weak ETag keeps its "W/". Stores without
  // ETags leave it empty, and some give one that never changes: size, mtime_ns and etag together name a version.
  std::string etag;
};

// The same without owning its texts, for passing millions.
struct ObjectView {
  std::string_view key;
  uint64_t size = 0;
  int64_t mtime_ns = 0;
  std::string_view etag;
  ObjectView() = default;
  ObjectView(std::string_view k, uint64_t s, int64_t m, std::string_view e) : key(k), size(s), mtime_ns(m), etag(e) {}
  ObjectView(const ObjectInfo& o) : ObjectView(o.key, o.size, o.mtime_ns, o.etag) {}
  operator ObjectInfo() const { return {std::string(key), size, mtime_ns, std::string(etag)}; }
};

// Codes of a GET whose bytes were delivered but do not match the store's checksum. Whoever can start over does, up to
// kMostGets times. They are no errnos, since a file system may return any of those; to a program they are EIO
// (to_errno()).
inline constexpr int kWrongBytes = -1;
// The checksum is an ETag of parts, and how large the parts were is a guess: the same bytes twice are right.
inline constexpr int kDoubtfulBytes = -2;
inline constexpr int kMostGets = 5;

struct GetRequest {
  std::string key;   // relative to the prefix
  std::string etag;  // as listed
  uint64_t offset = 0;
  uint64_t length = 0;       // bytes wanted from offset; 0 only for an empty object
  uint64_t object_size = 0;  // as listed; a reply that says otherwise is ESTALE
  bool demand = true;        // a program waits (as opposed to fill)
  // Bytes in order, without gaps. After a retry within the store, bytes that were delivered are not delivered again.
  // A returned error ends the request with that error.
  std::function<Status(std::span<const std::byte>)> on_data;
  std::function<void(Status)> on_done;
  // If given: set when a reply says that the etag is no sum of the bytes (SSE-KMS, SSE-C), or when its own checksum was
  // compared.
  std::shared_ptr<std::atomic<bool>> etag_is_no_sum{};
  // As listed; 0: unknown. Where the etag alone does not name the content, a reply with another Last-Modified is
  // ESTALE.
  int64_t mtime_ns = 0;
};

// Counters since start, for `larder status` and tests.
struct StoreCounters {
  uint64_t gets = 0;   // GET requests sent for object bodies (retries included)
  uint64_t lists = 0;  // list pages
  uint64_t retries = 0;
  uint64_t bytes = 0;      // body bytes received
  uint64_t errors = 0;     // requests that ended in an error
  uint64_t in_flight = 0;  // now
  uint64_t queued = 0;     // now, waiting for a slot
  uint64_t hedges = 0;     // second GETs for objects whose first was slow
  uint64_t limit = 0;      // requests at once that the store is given now; 0: it does not adapt
};

class StoreWriter;

class Store {
 public:
  virtual ~Store() = default;
  // Calls `page` with objects below the prefix, in byte order; stops at its first error. Twice: see distinct_keys.h.
  virtual Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) = 0;
  virtual Result<ObjectInfo> head(std::string_view key) = 0;
  virtual void get(GetRequest request) = 0;
  // A program waits now for GETs of this key that were asked for as fill: those that have not started go with demand.
  virtual void hurry(std::string_view key) = 0;
  // Are whole objects compared with their etag, when it is a sum of their bytes? (The option `verify`.)
  virtual bool verifies() const { return false; }
  // The CRC of this version, if the store has one and it shall be compared (the option `verify`): a HEAD. `done` is
  // called once, here or later on a thread of the store's.
  virtual void crc_of(const ObjectInfo&, std::function<void(std::optional<CrcSum>)> done) { done(std::nullopt); }
  // Do ranges of an object with this etag, fetched at different times, surely come from one version?
  virtual bool can_range(std::string_view etag) const { return !etag.empty(); }
  virtual StoreCounters counters() const = 0;
  // What writes into it (upload.h), owned by the store; null for a store that can only be read.
  virtual StoreWriter* writer() { return nullptr; }
};

// Options of a source, from the configuration, `larder format` or the environment. Unknown keys are an error that names
// them.
//   endpoint, region, addressing (auto|path|virtual), access_key, secret_key, session_token, anonymous (true|false),
//   ca_file, max_connections, max_bandwidth, max_requests_per_second, hedge_after_ms, connect_timeout_ms,
//   stall_timeout_ms, retries, verify (auto|always|never), list_order (auto|any), list_version (2|1), parallel_lists
//   (true|false), requester_pays (true|false), credentials_file (bos), refresh_interval (of the dataset, not the
//   store's business); their meaning: docs/object_stores.md
using StoreOptions = std::map<std::string, std::string>;

// A source URL split in parts: s3://bucket/prefix, file:///dir. `prefix` has no leading slash; it ends in '/' unless
// empty.
struct SourceUrl {
  std::string scheme;
  std::string bucket;  // file: empty
  std::string prefix;  // file: the absolute directory, no trailing slash
  std::string text() const;
};
Result<SourceUrl> parse_source(std::string_view text);

// Opens a source. Checks what can be checked without the network (URL, options, credentials present).
Result<std::unique_ptr<Store>> open_store(std::string_view source, const StoreOptions& options);

}  // namespace larder
