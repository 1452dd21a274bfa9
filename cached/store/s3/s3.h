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

Result<std::unique_ptr<Store>> open_s3(const SourceUrl& source, const StoreOptions& options, const Environment& env);

}  // namespace larder
