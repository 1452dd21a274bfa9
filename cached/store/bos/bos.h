// bos://bucket/prefix: the protocol of Baidu object storage (bce-auth-v1, JSON, markers, CRC-32). Threads: any.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/api/source_meaning.h"
#include "cached/store/api/store.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/http/protocol.h"

namespace larder {

// Where the bucket is named: first label of the host, first segment of the path, or nowhere (a host that belongs to the
// bucket: BUCKET.REGION.bcebos.com given as the endpoint, a CDN domain).
enum class BosStyle { kVirtual, kPath, kOwnHost };

// `host` may have a port. auto: virtual for REGION.bcebos.com, path for everything else that does not name the bucket.
BosStyle bos_style(std::string_view addressing, std::string_view host, std::string_view bucket);

// Parses one page of a list, one error body. The text is untrusted.
Result<ListPage> parse_bos_list(std::string_view json);
ServiceError parse_bos_error(std::string_view json);

// "3632233909" as its four bytes, big-endian; nothing if it is not a 32-bit number.
std::optional<uint32_t> parse_crc32(std::string_view decimal);

Result<SourceMeaning> bos_meaning(const SourceUrl& source, const StoreOptions& options, const Environment& env);
Result<std::unique_ptr<Store>> open_bos(const SourceUrl& source, const StoreOptions& options, const Environment& env);

}  // namespace larder
