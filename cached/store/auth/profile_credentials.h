// Keys of a profile in the AWS tools' files: its own, those of its credential_process, or those of a role that it
// assumes with the keys of source_profile or credential_source (STS AssumeRole). The files are read again at every
// fetch. Threads: any.
//
// A setting that is not supported (SSO, MFA) is an error that says so and is never ignored: another source would give
// other rights.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/auth/credentials.h"

namespace larder {

// Null: the profile names no keys. The first fetch happens before this returns only if it needs no service.
Result<std::unique_ptr<CredentialsProvider>> profile_credentials(const Environment& env, const Profile& profile,
                                                                 const std::string& region);

// Parses the body of an STS reply to `action`, which is untrusted.
Result<Credentials> parse_sts_xml(std::string_view text, const std::string& action);

}  // namespace larder
