// AWS credentials that expire and are fetched anew: web identity (EKS IRSA), credential_process, container (ECS, EKS
// Pod Identity), instance metadata (IMDSv2).
//
// Each makes its first fetch in the background when it is made (instance metadata: at once, because only the answer
// tells whether it is there), and again 15 minutes before they expire; the old ones are used as long as they
// last. Tests point them at a server on loopback by the environment, as the AWS SDKs allow.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/credentials.h"

namespace larder {

// A null pointer: not configured.
std::unique_ptr<CredentialsProvider> web_identity_credentials(const Environment& env, const Profile& profile,
                                                              const std::string& region);
std::unique_ptr<CredentialsProvider> process_credentials(const Profile& profile);
// EINVAL: AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that may not see the token over plain http.
Result<std::unique_ptr<CredentialsProvider>> container_credentials(const Environment& env);
std::unique_ptr<CredentialsProvider> instance_credentials(const Environment& env);

// Replies, exposed for tests: untrusted text.
Result<Credentials> parse_credentials_json(std::string_view text, const char* token_name);  // "Token" or "SessionToken"
Result<Credentials> parse_web_identity_xml(std::string_view text);

}  // namespace larder
