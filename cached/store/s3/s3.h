// s3://bucket/prefix: Amazon S3 and what speaks like it.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/api/endpoint.h"
#include "cached/store/api/source_meaning.h"
#include "cached/store/api/store.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/http/protocol.h"

namespace larder {

// auto: path style for IP addresses, localhost and endpoints that are not Amazon's, and for dotted buckets over https
// (no certificate matches them); virtual style otherwise.
bool wants_path_style(std::string_view addressing, const EndpointAddress& address, std::string_view bucket);

// The account that an access key says: Amazon's keys hold its number, other keys stand for themselves. "": a session's
// key of another service, which changes while the account stays.
std::string account_of_key(std::string_view access_key, bool session);
Result<SourceMeaning> s3_meaning(const SourceUrl& source, const StoreOptions& options, const Environment& env);

Result<std::unique_ptr<Store>> open_s3(const SourceUrl& source, const StoreOptions& options, const Environment& env);

}  // namespace larder
