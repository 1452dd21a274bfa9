#include "cached/store/auth/profile_credentials.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <pugixml.hpp>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"
#include "cached/store/auth/aws_providers.h"
#include "cached/store/auth/refreshing_credentials.h"
#include "cached/store/auth/sigv4.h"
#include "cached/store/http/fetch_text.h"
#include "cached/store/http/protocol.h"

namespace larder {
namespace {

constexpr int kMaxRoles = 5;  // one assumed with the keys of another

std::string profile_name(const Environment& env) {
  return env("AWS_PROFILE").value_or("default");
}

Environment for_profile(const Environment& env, const std::string& name) {
  return [env, name](const char* variable) {
    return std::string_view(variable) == "AWS_PROFILE" ? std::optional(name) : env(variable);
  };
}

struct Role {
  std::string arn, session, external_id, duration, endpoint, region;
};

std::string form_of(const Role& role) {
  std::string out = "Action=AssumeRole&Version=2011-06-15&RoleArn=" + percent_encode(role.arn, false) +
                    "&RoleSessionName=" + percent_encode(role.session, false);
  if (!role.external_id.empty()) out += "&ExternalId=" + percent_encode(role.external_id, false);
  if (!role.duration.empty()) out += "&DurationSeconds=" + percent_encode(role.duration, false);
  return out;
}

// The role's keys, for somebody with these.
Result<Credentials> assume(const Role& role, const Credentials& who) {
  HttpOnce request;
  request.method = "POST";
  request.url = role.endpoint;
  request.body = form_of(role);
  request.timeout_ms = 10'000;
  request.direct = false;
  std::string_view rest = std::string_view(role.endpoint).substr(role.endpoint.find("://") + 3);
  const size_t slash = std::min(rest.find('/'), rest.size());
  const int64_t now = time(nullptr);
  SigningRequest sign;
  sign.method = "POST";
  sign.path = slash == rest.size() ? "/" : std::string(rest.substr(slash));
  sign.payload_hash = sha256_hex(request.body);
  sign.headers = {{"host", std::string(rest.substr(0, slash))},
                  {"content-type", "application/x-www-form-urlencoded"},
                  {"x-amz-date", amz_date(now)}};
  if (!who.session_token.empty()) sign.headers.emplace_back("x-amz-security-token", who.session_token);
  sign.headers.emplace_back("authorization", SigV4("sts").authorization(sign, who, role.region, now));
  for (size_t i = 1; i < sign.headers.size(); ++i)
    request.headers.push_back(sign.headers[i].first + ": " + sign.headers[i].second);
  auto text = fetch_text(request, 3);
  if (!text.ok())
    return make_error(EACCES, fmt::format("cannot assume the role {}: {}", printable(role.arn), text.error().message));
  return parse_sts_xml(*text, "AssumeRole");
}

Error not_known(const std::string& name, std::string_view what, std::string_view instead) {
  return make_error(EINVAL, fmt::format("the AWS profile '{}' has {}, which Larder does not know; {}", printable(name),
                                        what, instead));
}

Status only_known(const std::string& name, const Profile& profile) {
  if (profile.contains("mfa_serial"))
    return not_known(name, "mfa_serial", "nobody is there to type a code: use another role");
  if (profile.contains("sso_session") || profile.contains("sso_start_url"))
    return not_known(
        name, "sso_session",
        fmt::format("use credential_process = aws configure export-credentials --profile {} --format process",
                    printable(name)));
  return {};
}

Result<FetchCredentials> fetch_of(const Environment& env, const std::string& region, int roles);

Result<FetchCredentials> source_of(const Environment& env, const Profile& profile, const std::string& region,
                                   int roles) {
  const std::string name = profile_name(env), from = setting(profile, "source_profile"),
                    source = setting(profile, "credential_source");
  if (!from.empty() && from != name) return fetch_of(for_profile(env, from), region, roles + 1);
  if (!from.empty()) {
    return FetchCredentials([env, name]() -> Result<Credentials> {
      auto keys = own_keys(load_profile(env), name);
      if (!keys.ok()) return keys.error();
      if (!*keys)
        return make_error(
            EACCES, fmt::format("the AWS profile '{}' is its own source_profile and has no keys", printable(name)));
      return **keys;
    });
  }
  if (source == "Environment") return FetchCredentials([env] { return environment_keys(env); });
  if (source == "EcsContainer") return container_fetch(env);
  if (source == "Ec2InstanceMetadata") return instance_fetch(env);
  return make_error(
      EINVAL, fmt::format("the AWS profile '{}' has role_arn and {}; give source_profile, or credential_source = "
                          "Environment, EcsContainer or "
                          "Ec2InstanceMetadata",
                          printable(name),
                          source.empty() ? "nothing to assume it with" : "credential_source = " + printable(source)));
}

Result<FetchCredentials> role_fetch(const Environment& env, const Profile& profile, const std::string& region,
                                    int roles) {
  const std::string name = profile_name(env);
  if (roles >= kMaxRoles)
    return make_error(EINVAL, fmt::format("the AWS profile '{}': more than {} roles one after the other, or a circle",
                                          printable(name), kMaxRoles));
  Role role;
  role.arn = setting(profile, "role_arn");
  role.session = setting(profile, "role_session_name");
  if (role.session.empty()) role.session = fmt::format("larder-{}", getpid());
  role.external_id = setting(profile, "external_id");
  role.duration = setting(profile, "duration_seconds");
  role.region = region;
  role.endpoint = sts_endpoint(env, region);
  auto source = source_of(env, profile, region, roles);
  if (!source.ok()) return source;
  return FetchCredentials([role, source = std::move(*source)]() -> Result<Credentials> {
    auto who = source();
    if (!who.ok()) return who;
    return assume(role, *who);
  });
}

// Null: the profile names no keys.
Result<FetchCredentials> any_fetch(const Environment& env, const Profile& profile, const std::string& region,
                                   int roles) {
  const std::string name = profile_name(env);
  if (auto status = only_known(name, profile); !status.ok()) return status.error();
  if (profile.contains("role_arn")) return role_fetch(env, profile, region, roles);
  auto keys = own_keys(profile, name);
  if (!keys.ok()) return keys.error();
  if (*keys) {
    return FetchCredentials([env, name]() -> Result<Credentials> {
      auto now = own_keys(load_profile(env), name);
      if (!now.ok()) return now.error();
      if (!*now) return make_error(EACCES, fmt::format("the AWS profile '{}' has no keys any more", printable(name)));
      return **now;
    });
  }
  if (const std::string command = setting(profile, "credential_process"); !command.empty())
    return process_fetch(command);
  return FetchCredentials();
}

Result<FetchCredentials> fetch_of(const Environment& env, const std::string& region, int roles) {
  auto fetch = any_fetch(env, load_profile(env), region, roles);
  if (fetch.ok() && !*fetch)
    return make_error(EACCES, fmt::format("the AWS profile '{}', a source_profile, is not there or has no keys",
                                          printable(profile_name(env))));
  return fetch;
}

}  // namespace

Result<std::unique_ptr<CredentialsProvider>> profile_credentials(const Environment& env, const Profile& profile,
                                                                 const std::string& region) {
  auto fetch = any_fetch(env, profile, region, 0);
  if (!fetch.ok()) return fetch.error();
  if (!*fetch) return std::unique_ptr<CredentialsProvider>();
  std::shared_ptr<const Credentials> first;
  if (auto keys = own_keys(profile, profile_name(env)); !profile.contains("role_arn") && keys.ok() && *keys)
    first = std::make_shared<const Credentials>(**keys);
  return std::unique_ptr<CredentialsProvider>(
      std::make_unique<RefreshingCredentials>(std::move(*fetch), std::move(first)));
}

Result<Credentials> parse_sts_xml(std::string_view text, const std::string& action) {
  pugi::xml_document document;
  if (!document.load_buffer(text.data(), text.size()))
    return make_error(EACCES, "the reply of the token service is no XML");
  const auto node =
      document.child((action + "Response").c_str()).child((action + "Result").c_str()).child("Credentials");
  Credentials out{node.child_value("AccessKeyId"), node.child_value("SecretAccessKey"),
                  node.child_value("SessionToken"), iso_date_ns(node.child_value("Expiration"))};
  if (out.access_key.empty() || out.secret_key.empty())
    return make_error(EACCES, "the token service sent no credentials");
  return out;
}

}  // namespace larder
