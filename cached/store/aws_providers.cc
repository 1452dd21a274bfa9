#include "cached/store/aws_providers.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <pugixml.hpp>
#include <thread>

#include "cached/store/dialect.h"
#include "cached/store/errors.h"
#include "cached/store/percent.h"

namespace larder {
namespace {

using Fetch = std::function<Result<Credentials>()>;
constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kRefreshAhead = 15 * 60 * kSecond;  // botocore's advisory time
constexpr size_t kMaxReply = 1 << 20;

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return t.tv_sec * kSecond + t.tv_nsec;
}

// Keeps credentials fresh on its own thread.
class RefreshingCredentials final : public CredentialsProvider {
 public:
  RefreshingCredentials(Fetch fetch, std::shared_ptr<const Credentials> first)
      : fetch_(std::move(fetch)), credentials_(std::move(first)), wanted_(credentials_ == nullptr) {
    thread_ = std::thread([this] { run(); });
  }
  ~RefreshingCredentials() override {
    {
      std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Result<std::shared_ptr<const Credentials>> current() override {
    std::lock_guard lock(mutex_);
    if (credentials_) return credentials_;
    if (failure_.empty()) return make_error(EAGAIN, "credentials are being fetched");
    return make_error(EACCES, "cannot get credentials: " + failure_);
  }

  bool refresh_soon() override {
    {
      std::lock_guard lock(mutex_);
      wanted_ = true;
    }
    changed_.notify_all();
    return true;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      changed_.wait_for(lock, until_refresh(), [this] { return stop_ || wanted_; });
      if (stop_) return;
      wanted_ = false;
      lock.unlock();
      auto fresh = fetch_();
      lock.lock();
      accept(std::move(fresh));
    }
  }

  // Old credentials stay when a fetch fails: they may still be good, and the store says so if not.
  void accept(Result<Credentials> fresh) {
    if (fresh.ok()) {
      credentials_ = std::make_shared<const Credentials>(std::move(*fresh));
      failure_.clear();
      failures_ = 0;
    } else {
      failure_ = fresh.error().message;
      ++failures_;
    }
  }

  std::chrono::milliseconds until_refresh() const {
    if (failures_ > 0) return std::chrono::seconds(std::min(60, 1 << std::min(failures_, 6)));
    if (!credentials_ || credentials_->expires_ns == 0) return std::chrono::hours(24 * 365);
    const int64_t left = credentials_->expires_ns - now_ns();
    const int64_t wait = left > 2 * kRefreshAhead ? left - kRefreshAhead : left / 2;
    return std::chrono::milliseconds(std::max<int64_t>(wait / 1'000'000, 1000));
  }

  const Fetch fetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Credentials> credentials_;
  std::string failure_;
  int failures_ = 0;
  bool wanted_;
  bool stop_ = false;
  std::thread thread_;
};

std::unique_ptr<CredentialsProvider> refreshing(Fetch fetch, std::shared_ptr<const Credentials> first = nullptr) {
  return std::make_unique<RefreshingCredentials>(std::move(fetch), std::move(first));
}

struct Reply {
  long status = 0;
  std::string body;
};

struct HttpOnce {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;
  std::string body;
  long timeout_ms = 2'000;
  bool direct = true;  // metadata services are never behind a proxy
};

size_t collect(char* data, size_t size, size_t count, void* out) {
  auto& text = *static_cast<std::string*>(out);
  if (text.size() + size * count > kMaxReply) return 0;
  text.append(data, size * count);
  return size * count;
}

Result<Reply> http_once(const HttpOnce& request) {
  const std::unique_ptr<CURL, void (*)(CURL*)> easy(curl_easy_init(), curl_easy_cleanup);
  std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(nullptr, curl_slist_free_all);
  for (auto& line : request.headers) {
    curl_slist* longer = curl_slist_append(headers.get(), line.c_str());
    if (longer == nullptr) return make_error(ENOMEM, "out of memory");
    (void)headers.release();
    headers.reset(longer);
  }
  Reply reply;
  curl_easy_setopt(easy.get(), CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy.get(), CURLOPT_TIMEOUT_MS, request.timeout_ms);
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, &collect);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &reply.body);
  if (request.direct) curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  if (request.method != "GET") {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, request.body.data());
    curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) return make_error(EIO, fmt::format("{}: {}", request.url, curl_easy_strerror(code)));
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  return reply;
}

// Three tries; a reply of 200 or an error that names the place.
Result<std::string> fetch_text(const HttpOnce& request, int tries) {
  Error last;
  for (int i = 0; i < tries; ++i) {
    if (i > 0) std::this_thread::sleep_for(backoff(i, false));
    auto reply = http_once(request);
    if (!reply.ok()) {
      last = reply.error();
    } else if (reply->status == 200) {
      return std::move(reply->body);
    } else {
      last =
          make_error(EACCES, fmt::format("{}: HTTP {}: {}", request.url, reply->status, printable(reply->body, 200)));
      if (reply->status < 500 && reply->status != 429 && reply->status != 400) break;
    }
  }
  return last;
}

Result<std::string> read_token(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return make_error(EACCES, fmt::format("cannot read the token file {}", path));
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  return text;
}

std::string setting(const Profile& profile, const char* name) {
  auto it = profile.find(name);
  return it == profile.end() ? std::string() : it->second;
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
  return parse_web_identity_xml(*text);
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

Result<Credentials> parse_web_identity_xml(std::string_view text) {
  pugi::xml_document document;
  if (!document.load_buffer(text.data(), text.size()))
    return make_error(EACCES, "the reply of the token service is no XML");
  const auto node =
      document.child("AssumeRoleWithWebIdentityResponse").child("AssumeRoleWithWebIdentityResult").child("Credentials");
  Credentials out{node.child_value("AccessKeyId"), node.child_value("SecretAccessKey"),
                  node.child_value("SessionToken"), iso_date_ns(node.child_value("Expiration"))};
  if (out.access_key.empty() || out.secret_key.empty())
    return make_error(EACCES, "the token service sent no credentials");
  return out;
}

std::unique_ptr<CredentialsProvider> web_identity_credentials(const Environment& env, const Profile& profile,
                                                              const std::string& region) {
  WebIdentity who;
  who.token_file = env("AWS_WEB_IDENTITY_TOKEN_FILE").value_or(setting(profile, "web_identity_token_file"));
  who.role = env("AWS_ROLE_ARN").value_or(setting(profile, "role_arn"));
  if (who.token_file.empty() || who.role.empty()) return nullptr;
  who.session = env("AWS_ROLE_SESSION_NAME").value_or(fmt::format("larder-{}", getpid()));
  const std::string suffix = region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
  who.endpoint = env("AWS_ENDPOINT_URL_STS").value_or(fmt::format("https://sts.{}.{}/", region, suffix));
  return refreshing([who] { return fetch_web_identity(who); });
}

std::unique_ptr<CredentialsProvider> process_credentials(const Profile& profile) {
  const std::string command = setting(profile, "credential_process");
  if (command.empty()) return nullptr;
  return refreshing([command] { return run_process(command); });
}

Result<std::unique_ptr<CredentialsProvider>> container_credentials(const Environment& env) {
  Container where;
  if (auto relative = env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")) {
    where.url = "http://169.254.170.2" + *relative;
  } else if (auto full = env("AWS_CONTAINER_CREDENTIALS_FULL_URI")) {
    where.url = *full;
  } else {
    return std::unique_ptr<CredentialsProvider>();
  }
  if (!may_see_token(where.url)) {
    return make_error(
        EINVAL, fmt::format("AWS_CONTAINER_CREDENTIALS_FULL_URI is '{}': it must be https, or http to a loopback or "
                            "container address",
                            printable(where.url)));
  }
  where.token_file = env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").value_or("");
  where.token = env("AWS_CONTAINER_AUTHORIZATION_TOKEN").value_or("");
  return refreshing([where] { return fetch_container(where); });
}

std::unique_ptr<CredentialsProvider> instance_credentials(const Environment& env) {
  if (env("AWS_EC2_METADATA_DISABLED").value_or("") == "true") return nullptr;
  const std::string endpoint = env("AWS_EC2_METADATA_SERVICE_ENDPOINT").value_or("http://169.254.169.254");
  const bool allow_v1 = env("AWS_EC2_METADATA_V1_DISABLED").value_or("") != "true";
  Fetch fetch = [endpoint, allow_v1] { return fetch_instance(endpoint, allow_v1); };
  auto first = fetch();  // one second at most where there is no such service
  if (!first.ok()) return nullptr;
  return refreshing(std::move(fetch), std::make_shared<const Credentials>(std::move(*first)));
}

}  // namespace larder
