#include "cached/store/s3/s3.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <ctime>

#include "cached/base/mutex.h"
#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/api/percent.h"
#include "cached/store/auth/sigv4.h"
#include "cached/store/checksum/etag_check.h"
#include "cached/store/http/http_store.h"
#include "cached/store/s3/s3_replies.h"
#include "cached/store/s3/s3_write.h"

namespace larder {
namespace {

constexpr int64_t kSkewWorthFixing = 60;  // S3 tolerates 15 minutes
// What ListPage::next begins with: what follows is a key (version 1) or the store's own token (version 2). Lists of
// many folders go on while the store turns out to know version 1 alone.
constexpr std::string_view kMarker = "m", kToken = "t";
static_assert(kMarker.size() == kToken.size());

bool amazon_host(std::string_view host) {
  return host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn") || host.ends_with(".amazonaws.eu");
}

std::string region_suffix(std::string_view region) {
  if (region.starts_with("cn-")) return "amazonaws.com.cn";
  if (region.starts_with("eusc-")) return "amazonaws.eu";
  return "amazonaws.com";
}

std::string default_endpoint(std::string_view region) {
  return fmt::format("https://s3.{}.{}", region, region_suffix(region));
}

struct S3Config {
  std::string bucket, prefix, region, addressing;
  EndpointAddress address;
  bool own_endpoint = false;  // configured: a redirect may change the region, never the host
  bool requester_pays = false;
  bool list_v1 = false;
};

class S3Protocol final : public StoreProtocol {
 public:
  S3Protocol(S3Config config, std::unique_ptr<CredentialsProvider> credentials)
      : config_(std::move(config)),
        credentials_(std::move(credentials)),
        list_v1_(config_.list_v1),
        place_(std::make_shared<const Place>(Place{config_.address, config_.region})) {}

  std::string name(std::string_view key) const override {
    return fmt::format("s3://{}/{}{}", config_.bucket, config_.prefix, key);
  }
  std::string endpoint() const override {
    const auto at = place();
    return at->address.scheme + "://" + at->address.host;
  }
  const std::string& prefix() const override { return config_.prefix; }

  Result<HttpRequest> sign(const StoreCall& call) override {
    auto who = credentials_->current();
    if (!who.ok()) return who.error();
    const std::shared_ptr<const Place> at = place();
    const int64_t offset = clock_offset_.load(std::memory_order_relaxed);
    const int64_t now = time(nullptr) + offset;
    SigningRequest request = addressed(call, at->address);
    if (*who) {
      request.headers.emplace_back("x-amz-content-sha256", request.payload_hash);
      request.headers.emplace_back("x-amz-date", amz_date(now));
      if (!(*who)->session_token.empty()) request.headers.emplace_back("x-amz-security-token", (*who)->session_token);
      request.headers.emplace_back("authorization", signer_.authorization(request, **who, at->region, now));
    }
    HttpRequest out = wire(request, at->address);
    out.signer = std::make_shared<const Signature>(Signature{std::move(*who), offset, at->region});
    return out;
  }

  ServiceError service_error(const HttpReply& reply) const override {
    ServiceError out = parse_s3_error(reply.body);
    if (out.code.empty()) out.code = code_of_status(reply.status);
    if (auto region = reply.header("x-amz-bucket-region"); !region.empty()) out.region = region;
    if (out.request_id.empty()) out.request_id = reply.header("x-amz-request-id");
    return out;
  }

  bool repair(const HttpReply& reply, const ServiceError& error, const void* signer) override {
    if (signer == nullptr || reply.status == 503 || reply.status == 404) return false;
    const auto& signature = *static_cast<const Signature*>(signer);
    return repair_clock(reply, error, signature) || repair_credentials(error, signature) ||
           repair_region(reply, error, signature);
  }

  std::string hint(int status, const ServiceError& error) const override {
    if (error.code == "NoSuchBucket") return fmt::format("check the bucket's name and the endpoint ({})", endpoint());
    if (const std::string trouble = credentials_->trouble(); !trouble.empty() && status < 500)
      return "newer credentials: " + trouble;
    if (error.code == "ExpiredToken") return "the credentials have expired and no newer ones came";
    if (error.code == "InvalidAccessKeyId") return "check the access key";
    if (error.code == "SignatureDoesNotMatch") return "check the secret key";
    if (error.code == "InvalidObjectState") return "the object is archived; restore it first";
    if (status == 301 || status == 307 || error.code == "AuthorizationHeaderMalformed")
      return "set the store option region";
    if (status == 403) return "these credentials may not do this";
    return {};
  }

  StoreCall list_call(std::string_view next) const override {
    StoreCall call;
    call.bucket = true;
    // Stores that know version 1 alone do not all encode names, and some then lose the marker (Huawei OBS).
    const bool v1 = next.empty() ? list_v1_.load() : next.starts_with(kMarker);
    if (v1)
      call.query = {{"max-keys", "1000"}};
    else
      call.query = {{"list-type", "2"}, {"encoding-type", "url"}, {"max-keys", "1000"}};
    if (!config_.prefix.empty()) call.query.emplace_back("prefix", config_.prefix);
    if (!next.empty()) call.query.emplace_back(v1 ? "marker" : "continuation-token", next.substr(kMarker.size()));
    return call;
  }

  // A store that knows version 1 alone does not look at list-type=2. Its first page that is not the last one tells.
  Result<ListPage> parse_list(std::string_view body) const override {
    if (!list_v1_.load() && is_list_v1(body)) list_v1_.store(true);
    const bool v1 = list_v1_.load();
    auto page = v1 ? parse_list_v1(body) : parse_list_v2(body);
    if (page.ok() && !page->next.empty()) page->next.insert(0, v1 ? kMarker : kToken);
    return page;
  }
  bool lists_folders() const override { return true; }
  StoreCall first_after_call(std::string_view folder, std::string_view after) const override {
    StoreCall call = folder_call(folder, false, {});
    for (auto& [name, value] : call.query) {
      if (name == "max-keys") value = "1";
    }
    const bool v2 = std::ranges::any_of(call.query, [](auto& one) { return one.first == "list-type"; });
    call.query.emplace_back(v2 ? "start-after" : "marker", after);
    return call;
  }

  const WriteProtocol* writing() const override { return &writing_; }

  // The ETag is the MD5 of what was uploaded in one piece, unless KMS or a customer's key encrypted it.
  BodyChecksum checksum(const HttpReply& head) const override {
    BodyChecksum out;
    out.crc = crc_of(head);
    if (!out.crc && etag_is_sum(head)) out.md5 = md5_of_etag(clean_etag(head.header("etag")));
    return out;
  }
  bool head_tells_checksum() const override { return true; }
  bool etags_are_sums() const override { return true; }
  bool etag_is_sum(const HttpReply& reply) const override {
    const std::string_view encryption = reply.header("x-amz-server-side-encryption");
    return (encryption.empty() || encryption == "AES256") &&
           reply.header("x-amz-server-side-encryption-customer-algorithm").empty();
  }

 private:
  // Of the whole object: one of its parts' CRCs (COMPOSITE) is no CRC of its bytes. Amazon marks those with the number
  // of parts, "AAAAAA==-3", too; moto does not, so of an object in parts it must say FULL_OBJECT.
  static std::optional<CrcSum> crc_of(const HttpReply& head) {
    using enum CrcKind;
    const std::string_view type = head.header("x-amz-checksum-type");
    if (type == "COMPOSITE" || (type.empty() && head.header("etag").find('-') != std::string_view::npos))
      return std::nullopt;
    for (auto [name, kind] : {std::pair("x-amz-checksum-crc64nvme", kCrc64Nvme),
                              std::pair("x-amz-checksum-crc32c", kCrc32c), std::pair("x-amz-checksum-crc32", kCrc32)}) {
      const std::string bytes = from_base64(head.header(name));
      if (bytes.size() != static_cast<size_t>(crc_bytes(kind))) continue;
      uint64_t value = 0;
      for (char byte : bytes)
        value = value << 8 | static_cast<unsigned char>(byte);
      return CrcSum{kind, value};
    }
    return std::nullopt;
  }

  struct Place {  // where requests go
    EndpointAddress address;
    std::string region;
  };
  // What a request was signed with. Of many that are refused at once the first one repairs; the others see by this that
  // it was repaired since.
  struct Signature {
    std::shared_ptr<const Credentials> credentials;  // null: anonymous
    int64_t clock_offset = 0;
    std::string region;
  };
  std::shared_ptr<const Place> place() const {
    MutexLock lock(mutex_);
    return place_;
  }

  SigningRequest addressed(const StoreCall& call, const EndpointAddress& address) const {
    SigningRequest out;
    out.method = call.method;
    out.query = call.query;
    out.payload_hash = call.body.empty() ? std::string(kEmptySha256)
                       : call.hash_body  ? sha256_hex(call.body)
                                         : std::string(kUnsignedPayload);
    out.path.reserve(16 + config_.bucket.size() + config_.prefix.size() + call.key.size());
    out.path = "/";
    if (address.path_style) {
      percent_append(out.path, config_.bucket, true);
      if (!call.bucket) out.path += "/";
    }
    if (!call.bucket) {
      percent_append(out.path, config_.prefix, true);
      percent_append(out.path, call.key, true);
    }
    out.headers.reserve(call.headers.size() + 7);
    out.headers.emplace_back("host", address.path_style ? address.host : config_.bucket + "." + address.host);
    for (auto& header : call.headers)
      out.headers.push_back(header);
    // As boto3 does. Amazon has a CRC of every object that was uploaded since the end of 2024.
    if (call.tell_checksum) out.headers.emplace_back("x-amz-checksum-mode", "ENABLED");
    if (config_.requester_pays) out.headers.emplace_back("x-amz-request-payer", "requester");
    return out;
  }

  static HttpRequest wire(const SigningRequest& request, const EndpointAddress& address) {
    HttpRequest out;
    out.method = request.method;
    const std::string& host = request.headers.front().second;  // libcurl makes its line itself
    out.url.reserve(address.scheme.size() + host.size() + request.path.size() + 8);
    out.url.append(address.scheme).append("://").append(host).append(request.path);
    if (!request.query.empty()) out.url.append("?").append(canonical_query(request.query));
    out.headers.reserve(768);
    for (size_t i = 1; i < request.headers.size(); ++i)
      out.headers.append(request.headers[i].first).append(": ").append(request.headers[i].second).append("\r\n");
    out.headers.append("User-Agent: larder\r\n");
    return out;
  }

  static std::string code_of_status(int status) {  // HEAD has no body
    switch (status) {
      case 301:
        return "PermanentRedirect";
      case 403:
        return "AccessDenied";
      case 404:
        return "NotFound";
      case 412:
        return "PreconditionFailed";
      default:
        return {};
    }
  }

  bool repair_clock(const HttpReply& reply, const ServiceError& error, const Signature& signature) {
    if (error.code != "RequestTimeTooSkewed") return false;
    const auto offset = clock_offset(reply);
    if (!offset || std::abs(*offset - signature.clock_offset) < kSkewWorthFixing) return false;
    clock_offset_.store(*offset);
    return true;
  }

  bool repair_credentials(const ServiceError& error, const Signature& signature) {
    const bool expired =
        error.code == "ExpiredToken" || error.code == "ExpiredTokenException" || error.code == "TokenRefreshRequired";
    const bool unknown = error.code == "InvalidAccessKeyId" || error.code == "InvalidToken" ||
                         error.code == "InvalidClientTokenId" || error.code == "SignatureDoesNotMatch";
    return (expired || unknown) && credentials_->refused(signature.credentials.get(), expired);
  }

  bool repair_region(const HttpReply& reply, const ServiceError& error, const Signature& signature) {
    const bool redirect = reply.status == 301 || reply.status == 302 || reply.status == 307 || reply.status == 400;
    if (!redirect || error.region.empty() || error.region.size() > 64) return false;
    if (error.region.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) return false;
    if (signature.region == error.region) return false;
    MutexLock lock(mutex_);
    if (place_->region == error.region) return true;
    Place other{place_->address, error.region};
    if (!config_.own_endpoint) {
      if (auto address = parse_endpoint(default_endpoint(other.region)); address.ok()) {
        address->path_style = other.address.path_style;
        other.address = *address;
      }
    }
    place_ = std::make_shared<const Place>(std::move(other));
    return true;
  }

  const S3Config config_;
  const std::unique_ptr<CredentialsProvider> credentials_;
  const S3Writing writing_;
  SigV4 signer_;
  std::atomic<int64_t> clock_offset_{0};  // the store's clock - ours, seconds
  mutable std::atomic<bool> list_v1_;
  mutable Mutex mutex_;
  std::shared_ptr<const Place> place_ GUARDED_BY(mutex_);
};

std::string environment_region(const StoreOptions& options, const Environment& env, const Profile& profile) {
  const std::string configured = option(options, "region");
  if (!configured.empty()) return configured;
  if (auto region = env("AWS_REGION")) return *region;
  if (auto region = env("AWS_DEFAULT_REGION")) return *region;
  auto it = profile.find("region");
  return it != profile.end() && !it->second.empty() ? it->second : "us-east-1";
}

std::string configured_endpoint(const StoreOptions& options, const Environment& env, const Profile& profile) {
  const std::string configured = option(options, "endpoint");
  if (!configured.empty()) return configured;
  if (auto url = env("AWS_ENDPOINT_URL_S3")) return *url;
  if (auto url = env("AWS_ENDPOINT_URL")) return *url;
  auto it = profile.find("endpoint_url");
  return it == profile.end() ? std::string() : it->second;
}

Result<S3Config> s3_config(const SourceUrl& source, const StoreOptions& options, const Environment& env,
                           const Profile& profile) {
  S3Config out;
  out.bucket = source.bucket;
  out.prefix = source.prefix;
  out.region = environment_region(options, env, profile);
  if (out.region.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") !=
      std::string::npos) {
    return make_error(EINVAL, fmt::format("region '{}' is no region name", printable(out.region)));
  }
  auto addressing = choice_option(options, "addressing", {"auto", "path", "virtual"});
  auto version = choice_option(options, "list_version", {"2", "1"});
  if (!version.ok()) return version.error();
  out.list_v1 = *version == "1";
  auto pays = bool_option(options, "requester_pays", false);
  if (!addressing.ok()) return addressing.error();
  if (!pays.ok()) return pays.error();
  out.addressing = *addressing;
  out.requester_pays = *pays;
  const std::string endpoint = configured_endpoint(options, env, profile);
  out.own_endpoint = !endpoint.empty();
  auto address = parse_endpoint(endpoint.empty() ? default_endpoint(out.region) : endpoint);
  if (!address.ok()) return address.error();
  out.address = *address;
  out.address.path_style = wants_path_style(out.addressing, out.address, out.bucket);
  return out;
}

// With the option `profile`, that profile says who signs: as in the AWS tools, keys in the environment do not count
// then.
Environment with_profile(const StoreOptions& options, const Environment& env) {
  const std::string profile = option(options, "profile");
  if (profile.empty()) return env;
  return [profile, env](const char* name) -> std::optional<std::string> {
    const std::string_view wanted = name;
    if (wanted == "AWS_PROFILE") return profile;
    const bool keys =
        wanted == "AWS_ACCESS_KEY_ID" || wanted == "AWS_SECRET_ACCESS_KEY" || wanted == "AWS_SESSION_TOKEN";
    return keys ? std::nullopt : env(name);
  };
}

}  // namespace

bool wants_path_style(std::string_view addressing, const EndpointAddress& address, std::string_view bucket) {
  if (addressing == "path") return true;
  if (addressing == "virtual") return false;
  if (address.scheme == "https" && bucket.find('.') != std::string_view::npos) return true;
  return !amazon_host(std::string_view(address.host).substr(0, address.host.rfind(':')));
}

// The first ten characters after the prefix are base32; bits 1 to 40 of their first six bytes are the account's number.
std::string account_of_key(std::string_view key, bool session) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bool amazons = key.size() == 20 && (key.starts_with("AKIA") || key.starts_with("ASIA")) && key[4] >= 'Q' &&
                       key.substr(4).find_first_not_of(kDigits) == key.npos;
  if (!amazons) return session ? std::string() : std::string(key);
  uint64_t bits = 0;
  for (char c : key.substr(4, 10))
    bits = bits << 5 | kDigits.find(c);
  return fmt::format("{:012}", (bits >> 2 & 0x7fffffffff80) >> 7);
}

static std::string account_of(const StoreOptions& options, const Environment& env, const Profile& profile) {
  if (const std::string key = option(options, "access_key"); !key.empty())
    return account_of_key(key, !option(options, "session_token").empty());
  if (auto key = env("AWS_ACCESS_KEY_ID")) return account_of_key(*key, env("AWS_SESSION_TOKEN").has_value());
  if (auto role = env("AWS_ROLE_ARN")) return *role;
  for (const char* name : {"role_arn", "sso_account_id"})
    if (const std::string value = setting(profile, name); !value.empty()) return value;
  if (const std::string key = setting(profile, "aws_access_key_id"); !key.empty())
    return account_of_key(key, !setting(profile, "aws_session_token").empty());
  return env("AWS_PROFILE").value_or("");
}

Result<SourceMeaning> s3_meaning(const SourceUrl& source, const StoreOptions& options, const Environment& environment) {
  const Environment env = with_profile(options, environment);
  const Profile profile = load_profile(env);
  auto config = s3_config(source, options, env, profile);
  if (!config.ok()) return config.error();
  SourceMeaning out;
  out.endpoint = config->address.scheme + "://" + config->address.host;
  std::transform(out.endpoint.begin(), out.endpoint.end(), out.endpoint.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  out.configured = config->own_endpoint;
  out.region = config->region;
  out.addressing = config->address.path_style ? "path" : "virtual";
  const bool anonymous = bool_option(options, "anonymous", false).ok() && *bool_option(options, "anonymous", false);
  out.account = anonymous ? "" : account_of(options, env, profile);
  return out;
}

Result<std::unique_ptr<Store>> open_s3(const SourceUrl& source, const StoreOptions& options,
                                       const Environment& environment) {
  const Environment env = with_profile(options, environment);
  const Profile profile = load_profile(env);
  auto config = s3_config(source, options, env, profile);
  if (!config.ok()) return config.error();
  auto settings = http_store_options(options, config->address.scheme == "https");
  if (!settings.ok()) return settings.error();
  settings->engine.ca_file = option(options, "ca_file", env("AWS_CA_BUNDLE").value_or(""));
  auto credentials = aws_credentials(options, env, profile, config->region);
  if (!credentials.ok())
    return make_error(credentials.error().code, source.text() + ": " + credentials.error().message);
  auto dialect = std::make_unique<S3Protocol>(std::move(*config), std::move(*credentials));
  return std::unique_ptr<Store>(std::make_unique<HttpStore>(std::move(dialect), *settings));
}

}  // namespace larder
