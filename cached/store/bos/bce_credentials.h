// The keys for bos://: options, BDCLOUD_* of the environment, a credentials file of bcecmd.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "cached/store/auth/credentials.h"

namespace larder {

// Parses a credentials file as `bcecmd -c` writes it ("[Defaults]", "Ak = ", "Sk = ", "Sts = "; also access_key,
// secret_key, session_token; case does not matter). The text is untrusted: other lines are ignored. EACCES: it has no
// key pair.
Result<Credentials> parse_bce_credentials(std::string_view text);

// Reads the file again when it changes (inode, size, modification time), and when the store refuses the keys. While the
// new content has no key pair (another process is writing it), the last good keys stay. EACCES: it has none now.
Result<std::unique_ptr<CredentialsProvider>> bce_file_credentials(std::string path);

// Options access_key, secret_key, session_token → option credentials_file → BDCLOUD_ACCESS_KEY, BDCLOUD_SECRET_KEY,
// BDCLOUD_SESSION_TOKEN → ~/.go-bcecli/credentials. Half a pair is an error that names its place.
Result<std::unique_ptr<CredentialsProvider>> bce_credentials(const StoreOptions& options, const Environment& env);

}  // namespace larder
