#include "cached/store/auth/credentials.h"

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>

#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/auth/aws_providers.h"
#include "cached/store/auth/profile_credentials.h"

namespace larder {
namespace {

constexpr std::streamsize kMaxFile = 1 << 20;

class FixedCredentials final : public CredentialsProvider {
 public:
  explicit FixedCredentials(std::optional<Credentials> credentials) {
    if (credentials) credentials_ = std::make_shared<const Credentials>(std::move(*credentials));
  }
  Result<std::shared_ptr<const Credentials>> current() override { return credentials_; }
  bool refused(const Credentials*, bool) override { return false; }

 private:
  std::shared_ptr<const Credentials> credentials_;
};

// "[profile name]" in config (but "[default]"), "[name]" in credentials.
bool section_is(std::string_view section, std::string_view name, bool is_config) {
  section = trimmed(section);
  if (!is_config || (name == "default" && section == "default")) return section == name;
  if (!section.starts_with("profile")) return false;
  return trimmed(section.substr(7)) == name;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (!file) return text;
  text.resize(static_cast<size_t>(kMaxFile));
  file.read(text.data(), kMaxFile);
  text.resize(static_cast<size_t>(file.gcount()));
  return text;
}

std::string home(const Environment& env) {
  return env("HOME").value_or("");
}

// A pair of keys from a place; half a pair is an error that names the place.
Result<std::optional<Credentials>> pair_of(const std::string& access, const std::string& secret,
                                           const std::string& token, std::string_view place) {
  if (access.empty() && secret.empty()) return std::optional<Credentials>();
  if (access.empty() || secret.empty()) {
    return make_error(EACCES, fmt::format("{} give only half of a key pair ({} is missing)", place,
                                          access.empty() ? "the access key" : "the secret key"));
  }
  return std::optional<Credentials>(Credentials{access, secret, token, 0});
}

}  // namespace

std::unique_ptr<CredentialsProvider> fixed_credentials(std::optional<Credentials> credentials) {
  return std::make_unique<FixedCredentials>(std::move(credentials));
}

Environment process_environment() {
  return [](const char* name) -> std::optional<std::string> {
    const char* value = getenv(name);
    if (value == nullptr || *value == 0) return std::nullopt;
    return std::string(value);
  };
}

Profile parse_profile(std::string_view text, std::string_view name, bool is_config) {
  Profile out;
  bool inside = false;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view raw = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string_view line = trimmed(raw);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      inside = line.back() == ']' && section_is(line.substr(1, line.size() - 2), name, is_config);
      continue;
    }
    // An indented line belongs to a nested setting ("s3 =" and what follows it).
    const size_t equals = line.find('=');
    if (!inside || equals == std::string_view::npos || raw.front() == ' ' || raw.front() == '\t') continue;
    out[std::string(trimmed(line.substr(0, equals)))] = trimmed(line.substr(equals + 1));
  }
  return out;
}

Profile load_profile(const Environment& env) {
  const std::string name = env("AWS_PROFILE").value_or("default");
  const std::string config = env("AWS_CONFIG_FILE").value_or(home(env) + "/.aws/config");
  const std::string shared = env("AWS_SHARED_CREDENTIALS_FILE").value_or(home(env) + "/.aws/credentials");
  Profile out = parse_profile(read_file(config), name, true);
  for (auto& [key, value] : parse_profile(read_file(shared), name, false))
    out[key] = value;
  return out;
}

std::string setting(const Profile& profile, const char* name) {
  auto it = profile.find(name);
  return it == profile.end() ? std::string() : it->second;
}

Result<std::optional<Credentials>> own_keys(const Profile& profile, const std::string& name) {
  return pair_of(setting(profile, "aws_access_key_id"), setting(profile, "aws_secret_access_key"),
                 setting(profile, "aws_session_token"), fmt::format("the AWS profile '{}'", name));
}

static Result<std::optional<Credentials>> pair_of_environment(const Environment& env) {
  return pair_of(env("AWS_ACCESS_KEY_ID").value_or(""), env("AWS_SECRET_ACCESS_KEY").value_or(""),
                 env("AWS_SESSION_TOKEN").value_or(""), "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
}

Result<Credentials> environment_keys(const Environment& env) {
  auto pair = pair_of_environment(env);
  if (!pair.ok()) return pair.error();
  if (!*pair) return make_error(EACCES, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set");
  return **pair;
}

Result<std::unique_ptr<CredentialsProvider>> aws_credentials(const StoreOptions& options, const Environment& env,
                                                             const Profile& profile, const std::string& region) {
  auto anonymous = bool_option(options, "anonymous", false);
  if (!anonymous.ok()) return anonymous.error();
  if (*anonymous) return fixed_credentials(std::nullopt);

  const Result<std::optional<Credentials>> fixed[] = {
      pair_of(option(options, "access_key"), option(options, "secret_key"), option(options, "session_token"),
              "the store options access_key and secret_key"),
      pair_of_environment(env),
  };
  for (auto& pair : fixed) {
    if (!pair.ok()) return pair.error();
    if (*pair) return fixed_credentials(**pair);
  }
  if (auto provider = web_identity_credentials(env, profile, region)) return provider;
  auto named = profile_credentials(env, profile, region);
  if (!named.ok() || *named) return named;
  auto container = container_credentials(env);
  if (!container.ok()) return container.error();
  if (*container) return std::move(*container);
  if (auto provider = instance_credentials(env)) return provider;
  return make_error(
      EACCES,
      fmt::format("no credentials: looked at the store options access_key and secret_key, AWS_ACCESS_KEY_ID and "
                  "AWS_SECRET_ACCESS_KEY, AWS_WEB_IDENTITY_TOKEN_FILE, profile '{}' in ~/.aws/credentials and "
                  "~/.aws/config, the container and the instance metadata; for a public bucket set the store "
                  "option anonymous=true",
                  env("AWS_PROFILE").value_or("default")));
}

}  // namespace larder
