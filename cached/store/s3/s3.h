// s3://bucket/prefix: Amazon S3 and what speaks like it.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/credentials.h"
#include "cached/store/dialect.h"
#include "cached/store/store.h"

namespace larder {

// Where requests go. Path style puts the bucket in the path, virtual style in the host.
struct S3Address {
  std::string scheme, host;  // host with :port unless it is the scheme's own
  bool path_style = false;
};

// "https://host[:port]" into scheme and host; EINVAL names what is wrong. A path of "/" is allowed.
Result<S3Address> parse_endpoint(std::string_view text);

// auto: path style for IP addresses, localhost and endpoints that are not Amazon's, and for dotted buckets over https
// (no certificate matches them); virtual style otherwise.
bool wants_path_style(std::string_view addressing, const S3Address& address, std::string_view bucket);

// One page of ListObjectsV2, or of ListObjects (version 1), where the next page begins after NextMarker or, since without a delimiter
// there is none, after the last name of this one. Untrusted text.
Result<ListPage> parse_list_v2(std::string_view xml);
Result<ListPage> parse_list_v1(std::string_view xml);
ServiceError parse_s3_error(std::string_view xml);

Result<std::unique_ptr<Store>> open_s3(const SourceUrl& source, const StoreOptions& options, const Environment& env);

}  // namespace larder
