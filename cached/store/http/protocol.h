// What differs between object stores that speak HTTP: addresses, signatures, list pages, error bodies, checksums.
// HttpStore (http_store.h) does the rest.
//
// Threads: every function may be called from any thread; none blocks.
#pragma once
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/api/errors.h"
#include "cached/store/api/store.h"
#include "cached/store/checksum/crc.h"
#include "cached/store/checksum/digest.h"
#include "cached/store/http/engine.h"

namespace larder {

// One request to a store, before it is addressed and signed.
struct StoreCall {
  std::string method = "GET";
  std::string key;         // relative to the prefix
  bool bucket = false;     // the bucket itself (lists), not an object
  NameValues query;        // raw
  NameValues headers;      // lower-case names
  std::string_view body;   // whoever makes the call keeps it until the exchange has ended
  bool hash_body = false;  // sign its SHA-256 (S3): for requests whose body is an order, not data
  bool tell_checksum =
      false;  // a GET or HEAD of a whole object: the reply shall have its checksum, if the store has one
  std::chrono::milliseconds patience{0};  // see HttpRequest
};

struct ListPage {
  std::vector<ObjectInfo> objects;   // full keys, in the order of the store
  std::vector<std::string> folders;  // full prefixes, with the slash; only of a folder_call
  std::string next;                  // where the next page begins; empty: this was the last
};

// What the store says the bytes of the whole object hash to: either, both or nothing.
struct BodyChecksum {
  std::optional<CrcSum> crc;
  std::optional<Md5> md5;
  bool known() const { return crc || md5; }
};

// What an object's etag, as listed, holds for a GET.
struct ObjectVersion {
  std::string if_match;       // the strong ETag of this version; empty: it has none
  std::string weak;           // its weak one: may be compared, but If-Match never matches it
  BodyChecksum sum;           // of the whole object, if the listing knew it
  bool compare_date = false;  // all this may stay the same while the content changes: so must Last-Modified
};

class WriteProtocol;

class StoreProtocol {
 public:
  virtual ~StoreProtocol() = default;
  virtual std::string name(std::string_view key) const = 0;     // for messages: s3://bucket/prefix/key
  virtual std::string endpoint() const = 0;                     // for messages: scheme://host:port
  virtual const std::string& prefix() const = 0;                // of every key; empty or ends in '/'
  virtual Result<HttpRequest> sign(const StoreCall& call) = 0;  // EAGAIN: credentials are on their way
  virtual ServiceError service_error(const HttpReply& reply) const = 0;
  // Puts right what made the store refuse: wrong region or clock, expired credentials. `signer` is the request's
  // (HttpRequest::signer): what was repaired since it was signed counts, too. True: try again at once.
  virtual bool repair(const HttpReply& reply, const ServiceError& error, const void* signer) = 0;
  virtual std::string hint(int status, const ServiceError& error) const = 0;  // what the user can do; may be empty
  virtual StoreCall list_call(std::string_view next) const = 0;
  virtual Result<ListPage> parse_list(std::string_view body) const = 0;
  // A list of what is below `folder` (relative to the prefix); `split`: what lies in it, and its folders. Only if
  // lists_folders().
  StoreCall folder_call(std::string_view folder, bool split, std::string_view next) const;
  virtual bool lists_folders() const { return false; }
  // A list of one key: the first below `folder` after this full key. Only if lists_folders().
  virtual StoreCall first_after_call(std::string_view folder, std::string_view) const {
    return folder_call(folder, false, {});
  }
  virtual BodyChecksum checksum(const HttpReply& head) const = 0;  // of a whole object's GET, HEAD or PUT
  virtual bool gives_crcs() const { return false; }                // with every whole object, as far as one knows
  virtual bool head_tells_checksum() const { return false; }       // of a HEAD: one that is not in the list
  virtual bool etags_are_sums() const { return false; }  // as S3's are (etag_check.h), unless a reply says otherwise:
  virtual bool etag_is_sum(const HttpReply&) const { return etags_are_sums(); }
  virtual ObjectVersion version(std::string_view etag) const;
  virtual std::string etag(const HttpReply& head) const;            // as a listing would give it
  virtual const WriteProtocol* writing() const { return nullptr; }  // null: a store that is only read
  // 1,000 keys of 1 KiB, each byte as %XX, need 4 MiB.
  virtual size_t max_list_body() const { return 16 << 20; }
};

// "Wed, 12 Oct 2009 17:50:00 GMT" and "2009-10-12T17:50:00.000Z" as nanoseconds since the epoch; 0 if it is neither.
int64_t http_date_ns(std::string_view text);
int64_t iso_date_ns(std::string_view text);

// The server's clock - ours in seconds, by the reply's Date; a cache that kept the reply says for how long (Age).
std::optional<int64_t> clock_offset(const HttpReply& reply);

// Without the quotes and the weakness mark; at most 255 bytes.
std::string clean_etag(std::string_view text);
// The same, but a weak one keeps its "W/": ObjectInfo::etag.
std::string listed_etag(std::string_view text);
inline constexpr std::string_view kWeak = "W/";

}  // namespace larder
