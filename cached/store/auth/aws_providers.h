// AWS credentials that services hand out and that expire: web identity (EKS IRSA), credential_process, container (ECS,
// EKS Pod Identity), instance metadata (IMDSv2). profile_credentials.h has those that a profile names.
//
// A provider makes its first fetch in the background when it is constructed (instance metadata: before it returns,
// because only the answer tells whether the service exists), and fetches again 15 minutes before the keys expire; old
// keys are used as long as they last. Tests point providers at a server on loopback by the environment, as the AWS SDKs
// allow. Threads: any.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/auth/credentials.h"
#include "cached/store/auth/refreshing_credentials.h"

namespace larder {

// A null pointer: not configured.
std::unique_ptr<CredentialsProvider> web_identity_credentials(const Environment& env, const Profile& profile,
                                                              const std::string& region);
// EINVAL: AWS_CONTAINER_CREDENTIALS_FULL_URI names a host that may not see the token over plain http.
Result<std::unique_ptr<CredentialsProvider>> container_credentials(const Environment& env);
std::unique_ptr<CredentialsProvider> instance_credentials(const Environment& env);

// Only the fetches, for roles that are assumed with the fetched keys.
FetchCredentials process_fetch(const std::string& command);
Result<FetchCredentials> container_fetch(const Environment& env);  // null: not configured
FetchCredentials instance_fetch(const Environment& env);
std::string sts_endpoint(const Environment& env, const std::string& region);

// Parses a reply, which is untrusted. Exposed for tests.
Result<Credentials> parse_credentials_json(std::string_view text, const char* token_name);  // "Token" or "SessionToken"

}  // namespace larder
