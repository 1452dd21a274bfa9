// Credentials that sign requests (access key, secret key, perhaps a session token), and the chain that finds them.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/store/api/store.h"
#include "larder/result.h"

namespace larder {

struct Credentials {
  std::string access_key;
  std::string secret_key;
  std::string session_token;  // empty: long-lived keys
  int64_t expires_ns = 0;     // CLOCK_REALTIME; 0: never
};

// Threads: all members may be called from any thread. None blocks on the network, because a request is signed on the
// thread that moves all transfers.
class CredentialsProvider {
 public:
  virtual ~CredentialsProvider() = default;
  // The credentials to sign with now. Null: do not sign (anonymous). EAGAIN: the first fetch is under way, ask again.
  // EACCES: there are none; the message says why.
  virtual Result<std::shared_ptr<const Credentials>> current() = 0;
  // The store refused a request that `used` signed, as expired or as unknown. True: try again, since other credentials
  // are there, or may be once current() no longer returns EAGAIN.
  virtual bool refused(const Credentials* used, bool expired) = 0;
  // Why there are no newer credentials, or "".
  virtual std::string trouble() { return {}; }
};

std::unique_ptr<CredentialsProvider> fixed_credentials(std::optional<Credentials> credentials);

// The environment, as a function, so that tests need not change the process's own.
using Environment = std::function<std::optional<std::string>(const char* name)>;
Environment process_environment();

// The settings of one profile of ~/.aws/credentials and ~/.aws/config; the credentials file wins. The text is
// untrusted: lines that are not settings are ignored.
using Profile = std::map<std::string, std::string>;
Profile parse_profile(std::string_view text, std::string_view name, bool is_config);
Profile load_profile(const Environment& env);
std::string setting(const Profile& profile, const char* name);  // "": not there

// The keys that a profile itself contains. None: nullopt. EACCES: half a pair; the message names the place.
Result<std::optional<Credentials>> own_keys(const Profile& profile, const std::string& name);
Result<Credentials> environment_keys(const Environment& env);

// The chain for s3://: options, environment, web identity, a profile of the shared files (profile_credentials.h),
// container, instance metadata; see docs/object_stores.md. The error names every place that was tried.
Result<std::unique_ptr<CredentialsProvider>> aws_credentials(const StoreOptions& options, const Environment& env,
                                                             const Profile& profile, const std::string& region);

}  // namespace larder
