// http(s)://host/directory: read-only files of any web server, listed by a manifest.
//
// The manifest is DIRECTORY/larder-manifest.jsonl: one JSON object a line, in any order.
//   {"path": "train/0001.jpg", "size": 110123, "etag": "5f2a-61b3", "crc32": "d87f7db5", "mtime":
//   "2026-01-02T03:04:05Z"}
// path (relative, not percent-encoded) and size are needed. etag: what the server sends, with or without quotes; used
// in If-Match (a weak one is compared only: servers refuse it). crc32 or md5, in hex: whole objects are compared with
// it. mtime: Last-Modified, which a reply must have if neither etag nor sum is given; 1970 without. Other members are
// passed over. An object is fetched again when its size, mtime, etag or sum differs.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/api/store.h"
#include "cached/store/http/protocol.h"

namespace larder {

inline constexpr std::string_view kManifestName = "larder-manifest.jsonl";

// Untrusted text. Errors name the line.
Result<ListPage> parse_manifest(std::string_view text);

// An object's etag in ObjectInfo is "SUM;ETAG", SUM being "crc32:HEX", "md5:HEX" or nothing; empty where there is
// neither.
ObjectVersion manifest_version(std::string_view etag);

Result<std::unique_ptr<Store>> open_manifest(const SourceUrl& source, const StoreOptions& options);

}  // namespace larder
