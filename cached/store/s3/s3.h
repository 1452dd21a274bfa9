// s3://bucket/prefix: Amazon S3 and what speaks like it.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/api/endpoint.h"
#include "cached/store/api/store.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/http/protocol.h"

namespace larder {

// auto: path style for IP addresses, localhost and endpoints that are not Amazon's, and for dotted buckets over https
// (no certificate matches them); virtual style otherwise.
bool wants_path_style(std::string_view addressing, const EndpointAddress& address, std::string_view bucket);

// One page of ListObjectsV2, or of ListObjects (version 1), where the next page begins after NextMarker or, since
// without a delimiter there is none, after the last name of this one. Untrusted text.
// A page that is not the last one, of a store that knows ListObjects version 1 alone.
bool is_list_v1(std::string_view xml);
Result<ListPage> parse_list_v2(std::string_view xml);
Result<ListPage> parse_list_v1(std::string_view xml);
ServiceError parse_s3_error(std::string_view xml);

Result<std::unique_ptr<Store>> open_s3(const SourceUrl& source, const StoreOptions& options, const Environment& env);

}  // namespace larder
