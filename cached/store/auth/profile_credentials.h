// Keys of a profile of the AWS tools' files: its own, those of its credential_process, or a role's that it assumes with
// the keys of source_profile or credential_source (STS AssumeRole). The files are read again whenever the keys are
// fetched.
//
// What is not known here (SSO, MFA) is an error that says so, never passed over: another source would give other
// rights.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/auth/credentials.h"

namespace larder {

// A null pointer: the profile names no keys. Its first fetch is made at once only where it asks nobody.
Result<std::unique_ptr<CredentialsProvider>> profile_credentials(const Environment& env, const Profile& profile,
                                                                 const std::string& region);

// The body of an STS reply to `action`: untrusted text.
Result<Credentials> parse_sts_xml(std::string_view text, const std::string& action);

}  // namespace larder
