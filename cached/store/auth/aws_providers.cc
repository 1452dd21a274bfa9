#include "cached/store/auth/aws_providers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"
#include "cached/store/auth/profile_credentials.h"
#include "cached/store/auth/refreshing_credentials.h"
#include "cached/store/http/fetch_text.h"
#include "cached/store/http/protocol.h"

namespace larder {
namespace {

constexpr size_t kMaxReply = 1 << 20;

std::unique_ptr<CredentialsProvider> refreshing(FetchCredentials fetch,
                                                std::shared_ptr<const Credentials> first = nullptr) {
  return std::make_unique<RefreshingCredentials>(std::move(fetch), std::move(first));
}

Result<std::string> read_token(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return make_error(EACCES, fmt::format("cannot read the token file {}", path));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
    text.pop_back();
  return text;
}

struct WebIdentity {
  std::string token_file, role, session, endpoint;
};

Result<Credentials> fetch_web_identity(const WebIdentity& who) {
  auto token = read_token(who.token_file);  // at every refresh: Kubernetes rotates it
  if (!token.ok()) return token.error();
  HttpOnce request;
  request.method = "POST";
  request.url = who.endpoint;
  request.headers = {"Content-Type: application/x-www-form-urlencoded"};
  request.body = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=" + percent_encode(who.role, false) +
                 "&RoleSessionName=" + percent_encode(who.session, false) +
                 "&WebIdentityToken=" + percent_encode(*token, false);
  request.timeout_ms = 10'000;
  request.direct = false;
  auto text = fetch_text(request, 3);
  if (!text.ok()) return text.error();
  return parse_sts_xml(*text, "AssumeRoleWithWebIdentity");
}

Result<Credentials> run_process(const std::string& command) {
  // The command is the user's own configuration, run as the AWS tools run it: by the shell.
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "re"), pclose);
  if (!pipe) return make_error(EACCES, "credential_process: cannot start the command of the AWS profile");
  std::string text;
  std::array<char, 4096> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    if (text.size() + n > kMaxReply) return make_error(EACCES, "credential_process: it wrote more than 1 MiB");
    text.append(buffer.data(), n);
  }
  auto parsed = parse_credentials_json(text, "SessionToken");
  if (!parsed.ok()) return make_error(EACCES, "credential_process: " + parsed.error().message);
  return parsed;
}

struct Container {
  std::string url, token, token_file;
};

Result<Credentials> fetch_container(const Container& where) {
  HttpOnce request;
  request.url = where.url;
  std::string token = where.token;
  if (!where.token_file.empty()) {
    auto text = read_token(where.token_file);
    if (!text.ok()) return text.error();
    token = *text;
  }
  if (token.find_first_of("\r\n") != std::string::npos)
    return make_error(EACCES, "the container authorization token has several lines");
  if (!token.empty()) request.headers.push_back("Authorization: " + token);
  auto text = fetch_text(request, 3);
  if (!text.ok()) return text.error();
  return parse_credentials_json(*text, "Token");
}

// https to anywhere; plain http only where nobody can listen.
bool may_see_token(const std::string& url) {
  if (url.starts_with("https://")) return true;
  if (!url.starts_with("http://")) return false;
  std::string_view host = std::string_view(url).substr(7);
  host = host.substr(0, host.find_first_of("/?#"));
  if (host.find('@') != std::string_view::npos) return false;
  if (host.starts_with('[')) {
    host = host.substr(0, host.find(']') + 1);
  } else {
    host = host.substr(0, host.find(':'));
  }
  for (std::string_view good :
       {"localhost", "127.0.0.1", "169.254.170.2", "169.254.170.23", "[::1]", "[fd00:ec2::23]"}) {
    if (host == good) return true;
  }
  return false;
}

Result<Credentials> fetch_instance(const std::string& endpoint, bool allow_v1) {
  HttpOnce ask;
  ask.method = "PUT";
  ask.url = endpoint + "/latest/api/token";
  ask.headers = {"x-aws-ec2-metadata-token-ttl-seconds: 21600"};
  ask.timeout_ms = 1'000;
  auto token = http_once(ask);
  std::vector<std::string> headers;
  if (token.ok() && token->status == 200) {
    headers = {"X-aws-ec2-metadata-token: " + printable(token->body, 1024)};
  } else if (!token.ok()) {
    return token.error();
  } else if (!allow_v1 || !(token->status == 403 || token->status == 404 || token->status == 405)) {
    return make_error(EACCES, fmt::format("{}: HTTP {}", ask.url, token->status));
  }
  HttpOnce get;
  get.url = endpoint + "/latest/meta-data/iam/security-credentials/";
  get.headers = headers;
  get.timeout_ms = 1'000;
  auto role = fetch_text(get, 1);
  if (!role.ok()) return role.error();
  get.url += percent_encode(role->substr(0, role->find('\n')), false);
  auto text = fetch_text(get, 2);
  if (!text.ok()) return text.error();
  return parse_credentials_json(*text, "Token");
}

}  // namespace

Result<Credentials> parse_credentials_json(std::string_view text, const char* token_name) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return make_error(EACCES, "the reply with credentials is no JSON object");
  auto text_of = [&](const char* name) {
    auto it = json.find(name);
    return it != json.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  Credentials out{text_of("AccessKeyId"), text_of("SecretAccessKey"), text_of(token_name),
                  iso_date_ns(text_of("Expiration"))};
  if (out.access_key.empty() || out.secret_key.empty()) {
    return make_error(EACCES, "the reply with credentials lacks AccessKeyId or SecretAccessKey");
  }
  return out;
}

std::unique_ptr<CredentialsProvider> web_identity_credentials(const Environment& env, const Profile& profile,
                                                              const std::string& region) {
  WebIdentity who;
  who.token_file = env("AWS_WEB_IDENTITY_TOKEN_FILE").value_or(setting(profile, "web_identity_token_file"));
  who.role = env("AWS_ROLE_ARN").value_or(setting(profile, "role_arn"));
  if (who.token_file.empty() || who.role.empty()) return nullptr;
  who.session = env("AWS_ROLE_SESSION_NAME").value_or(fmt::format("larder-{}", getpid()));
  who.endpoint = sts_endpoint(env, region);
  return refreshing([who] { return fetch_web_identity(who); });
}

std::string sts_endpoint(const Environment& env, const std::string& region) {
  const std::string suffix = region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  return env("AWS_ENDPOINT_URL_STS").value_or(fmt::format("https://sts.{}.{}/", region, suffix));
}

FetchCredentials process_fetch(const std::string& command) {
  return [command] { return run_process(command); };
}

Result<FetchCredentials> container_fetch(const Environment& env) {
  Container where;
  if (auto relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) {
    where.url = "http://169.254.170.2" + *relative;
  } else if (auto full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
    where.url = *full;
  } else {
    return FetchCredentials();
  }
  if (!may_see_token(where.url)) {
    return make_error(
        EINVAL, fmt::format("AWS_CONTAINER_CREDENTIALS_FULL_URI is '{}': it must be https, or http to a loopback or "
                            "container address",
                            printable(where.url)));
  }
  where.token_file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").value_or("");
  where.token = env("AWS_CONTAINER_AUTHORIZATION_TOKEN").value_or("");
  return FetchCredentials([where] { return fetch_container(where); });
}

Result<std::unique_ptr<CredentialsProvider>> container_credentials(const Environment& env) {
  auto fetch = container_fetch(env);
  if (!fetch.ok()) return fetch.error();
  return *fetch ? refreshing(std::move(*fetch)) : nullptr;
}

FetchCredentials instance_fetch(const Environment& env) {
  const std::string endpoint = env("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or("http://169.254.169.254");
  const bool allow_v1 = env("AWS_EC2_METADATA_V1_DISABLED").value_or("") != "true";
  return [endpoint, allow_v1] { return fetch_instance(endpoint, allow_v1); };
}

std::unique_ptr<CredentialsProvider> instance_credentials(const Environment& env) {
  if (env("AWS_EC2_METADATA_DISABLED").value_or("") == "true") return nullptr;
  FetchCredentials fetch = instance_fetch(env);
  auto first = fetch();  // one second at most where there is no such service
  if (!first.ok()) return nullptr;
  return refreshing(std::move(fetch), std::make_shared<const Credentials>(std::move(*first)));
}

}  // namespace larder
