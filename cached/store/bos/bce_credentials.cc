#include "cached/store/bos/bce_credentials.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "cached/base/files.h"
#include "cached/base/mutex.h"
#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/http/http_headers.h"

namespace larder {
namespace {

constexpr std::streamsize kMaxFile = 1 << 20;
constexpr std::string_view kAroundSetting = " \t\r\"";

void read_setting(std::string_view line, Credentials& out) {
  const size_t equals = line.find('=');
  if (equals == std::string_view::npos) return;
  const std::string name = lower_case(trimmed(line.substr(0, equals), kAroundSetting));
  const std::string_view value = trimmed(line.substr(equals + 1), kAroundSetting);
  if (name == "ak" || name == "access_key") out.access_key = value;
  if (name == "sk" || name == "secret_key") out.secret_key = value;
  if (name == "sts" || name == "session_token") out.session_token = value;
}

// What tells one state of a file from another.
struct Stamp {
  uint64_t inode = 0;
  int64_t size = -1, mtime_ns = 0;
  bool operator==(const Stamp&) const = default;
};

Stamp stamp_of(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0) return {};
  return {st.st_ino, st.st_size, as_ns(st.st_mtim.tv_sec, st.st_mtim.tv_nsec)};
}

class FileCredentials final : public CredentialsProvider {
 public:
  explicit FileCredentials(std::string path) : path_(std::move(path)) {}

  Status load() {
    MutexLock lock(mutex_);
    return load_locked();
  }

  Result<std::shared_ptr<const Credentials>> current() override {
    MutexLock lock(mutex_);
    if (!(stamp_of(path_) == stamp_)) (void)load_locked();  // unreadable or half written: the last good keys stay
    return credentials_;
  }

  bool refused(const Credentials* used, bool) override {
    MutexLock lock(mutex_);
    (void)load_locked();
    return credentials_.get() != used;
  }

 private:
  Status load_locked() REQUIRES(mutex_) {
    stamp_ = stamp_of(path_);
    std::ifstream file(path_, std::ios::binary);
    if (!file) {
      const int why = errno;
      return make_error(EACCES, fmt::format("credentials file '{}': {}", printable(path_), strerror(why)));
    }
    std::string text(static_cast<size_t>(kMaxFile), '\0');
    file.read(text.data(), kMaxFile);
    text.resize(static_cast<size_t>(file.gcount()));
    auto read = parse_bce_credentials(text);
    if (!read.ok())
      return make_error(read.error().code,
                        fmt::format("credentials file '{}': {}", printable(path_), read.error().message));
    if (credentials_ && same(*credentials_, *read)) return {};
    credentials_ = std::make_shared<const Credentials>(std::move(*read));
    return {};
  }

  static bool same(const Credentials& a, const Credentials& b) {
    return a.access_key == b.access_key && a.secret_key == b.secret_key && a.session_token == b.session_token;
  }

  const std::string path_;
  Mutex mutex_;
  Stamp stamp_ GUARDED_BY(mutex_);
  std::shared_ptr<const Credentials> credentials_ GUARDED_BY(mutex_);
};

Result<std::unique_ptr<CredentialsProvider>> fixed_pair(std::string access, std::string secret, std::string token,
                                                        std::string_view place) {
  if (access.empty() && secret.empty()) return std::unique_ptr<CredentialsProvider>();
  if (access.empty() || secret.empty()) {
    return make_error(EACCES, fmt::format("{} give only half of a key pair ({} is missing)", place,
                                          access.empty() ? "the access key" : "the secret key"));
  }
  return fixed_credentials(Credentials{std::move(access), std::move(secret), std::move(token), 0});
}

}  // namespace

Result<Credentials> parse_bce_credentials(std::string_view text) {
  Credentials out;
  bool ours = true;  // before the first section
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end), kAroundSetting);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with('[')) {
      const std::string section = lower_case(line);
      ours = section == "[defaults]" || section == "[default]";
    } else if (ours && !line.starts_with('#') && !line.starts_with(';')) {
      read_setting(line, out);
    }
  }
  for (const std::string* part : {&out.access_key, &out.secret_key, &out.session_token}) {
    for (char c : *part) {
      // They become part of a header: what would end the line must not be in it.
      if (static_cast<unsigned char>(c) < 0x21 || c == 0x7f)
        return make_error(EACCES, "a key in it has a blank or a control character");
    }
  }
  if (out.access_key.empty() || out.secret_key.empty())
    return make_error(EACCES, fmt::format("it has no {} below [Defaults]", out.access_key.empty() ? "Ak" : "Sk"));
  return out;
}

Result<std::unique_ptr<CredentialsProvider>> bce_file_credentials(std::string path) {
  auto provider = std::make_unique<FileCredentials>(std::move(path));
  if (auto status = provider->load(); !status.ok()) return status.error();
  return std::unique_ptr<CredentialsProvider>(std::move(provider));
}

Result<std::unique_ptr<CredentialsProvider>> bce_credentials(const StoreOptions& options, const Environment& env) {
  auto anonymous = bool_option(options, "anonymous", false);
  if (!anonymous.ok()) return anonymous.error();
  if (*anonymous) return fixed_credentials(std::nullopt);
  auto given = fixed_pair(option(options, "access_key"), option(options, "secret_key"),
                          option(options, "session_token"), "the store options access_key and secret_key");
  if (!given.ok() || *given) return given;
  if (const std::string path = option(options, "credentials_file"); !path.empty()) return bce_file_credentials(path);
  auto variables = fixed_pair(env("BDCLOUD_ACCESS_KEY").value_or(""), env("BDCLOUD_SECRET_KEY").value_or(""),
                              env("BDCLOUD_SESSION_TOKEN").value_or(""), "BDCLOUD_ACCESS_KEY and BDCLOUD_SECRET_KEY");
  if (!variables.ok() || *variables) return variables;
  const std::string usual = env("HOME").value_or("") + "/.go-bcecli/credentials";
  if (stamp_of(usual).size >= 0) return bce_file_credentials(usual);
  return make_error(EACCES,
                    "no credentials: looked at the store options access_key, secret_key and credentials_file, "
                    "BDCLOUD_ACCESS_KEY and BDCLOUD_SECRET_KEY, and ~/.go-bcecli/credentials; for a public bucket set "
                    "the store option anonymous=true");
}

}  // namespace larder
