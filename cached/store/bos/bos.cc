#include "cached/store/bos/bos.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <ctime>
#include <nlohmann/json.hpp>

#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/api/percent.h"
#include "cached/store/bos/bce_auth.h"
#include "cached/store/bos/bce_credentials.h"
#include "cached/store/bos/bos_write.h"
#include "cached/store/http/http_store.h"
#include "cached/store/s3/s3.h"

namespace larder {
namespace {

using Json = nlohmann::json;

constexpr int64_t kSkewWorthFixing = 60;  // BOS tolerates 15 minutes

struct BosConfig {
  std::string bucket, prefix;
  std::string scheme, host;  // of the endpoint
  BosStyle style = BosStyle::kPath;
  bool verify = true;
};

std::string text_of(const Json& object, const char* name) {
  auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

class BosProtocol final : public StoreProtocol {
 public:
  BosProtocol(BosConfig config, std::unique_ptr<CredentialsProvider> credentials)
      : config_(std::move(config)), credentials_(std::move(credentials)) {}

  std::string name(std::string_view key) const override {
    return fmt::format("bos://{}/{}{}", config_.bucket, config_.prefix, key);
  }
  std::string endpoint() const override { return config_.scheme + "://" + config_.host; }
  const std::string& prefix() const override { return config_.prefix; }

  Result<HttpRequest> sign(const StoreCall& call) override {
    auto who = credentials_->current();
    if (!who.ok()) return who.error();
    const int64_t offset = clock_offset_.load(std::memory_order_relaxed);
    const int64_t now = time(nullptr) + offset;
    BceRequest request = addressed(call);
    if (*who) {
      request.headers.emplace_back("x-bce-date", bce_date(now));
      if (!(*who)->session_token.empty()) request.headers.emplace_back("x-bce-security-token", (*who)->session_token);
      request.headers.emplace_back("authorization", signer_.authorization(request, **who, now));
    }
    HttpRequest out = wire(request);
    out.signer = std::make_shared<const Signature>(Signature{std::move(*who), offset});
    return out;
  }

  ServiceError service_error(const HttpReply& reply) const override {
    ServiceError out = parse_bos_error(reply.body);
    if (out.code.empty()) out.code = code_of_status(reply.status);
    if (out.request_id.empty()) out.request_id = reply.header("x-bce-request-id");
    return out;
  }

  bool repair(const HttpReply& reply, const ServiceError& error, const void* signer) override {
    if (signer == nullptr || !may_be_signature(reply)) return false;
    const auto& signature = *static_cast<const Signature*>(signer);
    return repair_clock(reply, error, signature) || credentials_->refused(signature.credentials.get(), false);
  }

  std::string hint(int status, const ServiceError& error) const override {
    if (error.code == "NoSuchBucket")
      return fmt::format("check the bucket's name and its region (store option region; asked {})", endpoint());
    if (error.code == "InvalidAccessKeyId") return "check the access key";
    if (error.code == "SignatureDoesNotMatch") return "check the secret key";
    if (error.code == "RequestExpired") return "check this machine's clock";
    if (status == 301 || status == 302 || status == 307) return "set the store option region or endpoint";
    if (status == 403) return "these credentials may not do this";
    return {};
  }

  StoreCall list_call(std::string_view next) const override {
    StoreCall call;
    call.bucket = true;
    call.query = {{"maxKeys", "1000"}};
    if (!config_.prefix.empty()) call.query.emplace_back("prefix", config_.prefix);
    if (!next.empty()) call.query.emplace_back("marker", next);
    return call;
  }

  Result<ListPage> parse_list(std::string_view body) const override { return parse_bos_list(body); }

  const WriteProtocol* writing() const override { return &writing_; }

  BodyChecksum checksum(const HttpReply& head) const override {
    if (!config_.verify) return {};
    BodyChecksum out;
    if (auto value = parse_crc32(head.header("x-bce-content-crc32"))) out.crc = {CrcKind::kCrc32, *value};
    return out;
  }
  bool gives_crcs() const override { return config_.verify; }
  bool head_tells_checksum() const override { return true; }

 private:
  struct Signature {                                 // what a request was signed with: a repair compares
    std::shared_ptr<const Credentials> credentials;  // null: anonymous
    int64_t clock_offset = 0;
  };

  BceRequest addressed(const StoreCall& call) const {
    BceRequest out;
    out.method = call.method;
    out.query = call.query;
    out.path = "/";
    if (config_.style == BosStyle::kPath) out.path += config_.bucket;
    if (!call.bucket) {
      if (out.path.size() > 1) out.path.push_back('/');
      percent_append(out.path, config_.prefix, true);
      percent_append(out.path, call.key, true);
    }
    const bool in_host = config_.style == BosStyle::kVirtual;
    out.headers.emplace_back("host", in_host ? config_.bucket + "." + config_.host : config_.host);
    out.headers.insert(out.headers.end(), call.headers.begin(), call.headers.end());
    return out;
  }

  HttpRequest wire(const BceRequest& request) const {
    HttpRequest out;
    out.method = request.method;
    out.url = config_.scheme + "://" + request.headers.front().second + request.path;
    if (!request.query.empty()) out.url += "?" + bce_query(request.query);
    for (size_t i = 1; i < request.headers.size(); ++i) {  // libcurl sends host itself
      out.headers.append(request.headers[i].first).append(": ").append(request.headers[i].second).append("\r\n");
    }
    out.headers.append("User-Agent: larder\r\n");
    return out;
  }

  // HEAD has no body, and errors of the front end have none either (bce-sdk-go response.go).
  static std::string code_of_status(int status) {
    switch (status) {
      case 400:
        return "InvalidHTTPRequest";
      case 403:
        return "AccessDenied";
      case 404:
        return "NotFound";
      case 412:
        return "PreconditionFailed";
      case 500:
        return "InternalError";
      default:
        return {};
    }
  }

  // A wrong signature and a wrong clock are 400s, and a HEAD does not say which one it was.
  static bool may_be_signature(const HttpReply& reply) {
    return reply.status == 400 || reply.status == 401 || reply.status == 403;
  }

  bool repair_clock(const HttpReply& reply, const ServiceError& error, const Signature& signature) {
    const bool silent = reply.body.empty() && reply.header("age").empty();
    if (!silent && error.code != "RequestExpired" && error.code != "RequestTimeTooSkewed") return false;
    const auto offset = clock_offset(reply);
    if (!offset || std::abs(*offset - signature.clock_offset) < kSkewWorthFixing) return false;
    clock_offset_.store(*offset);
    return true;
  }

  const BosConfig config_;
  const std::unique_ptr<CredentialsProvider> credentials_;
  const BosWriting writing_;
  BceSigner signer_;
  std::atomic<int64_t> clock_offset_{0};  // the store's clock - ours, seconds
};

Result<ObjectInfo> parse_object(const Json& entry) {
  ObjectInfo out;
  if (entry.is_object()) out.key = text_of(entry, "key");
  if (out.key.empty()) return make_error(EIO, "the list has an object without a key");
  const auto size = entry.find("size");
  if (size == entry.end() || !size->is_number_unsigned() || size->get<uint64_t>() > uint64_t{1} << 62)
    return make_error(EIO, fmt::format("the list gives '{}' no valid size", printable(out.key)));
  out.size = size->get<uint64_t>();
  out.etag = listed_etag(text_of(entry, "eTag"));
  out.mtime_ns = iso_date_ns(text_of(entry, "lastModified"));
  return out;
}

std::string bos_region(const StoreOptions& options, const Environment& env) {
  const std::string configured = option(options, "region");
  return configured.empty() ? env("BDCLOUD_DEFAULT_REGION").value_or("bj") : configured;
}

Result<BosConfig> bos_config(const SourceUrl& source, const StoreOptions& options, const Environment& env) {
  const std::string region = bos_region(options, env);
  if (region.empty() || region.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos) {
    return make_error(
        EINVAL, fmt::format("region '{}' is no region of BOS; write bj, gz, su or another one", printable(region)));
  }
  auto addressing = choice_option(options, "addressing", {"auto", "path", "virtual"});
  if (!addressing.ok()) return addressing.error();
  auto address = parse_endpoint(option(options, "endpoint", fmt::format("https://{}.bcebos.com", region)));
  if (!address.ok()) return address.error();
  BosConfig out;
  out.bucket = source.bucket;
  out.prefix = source.prefix;
  out.scheme = address->scheme;
  out.host = address->host;
  out.style = bos_style(*addressing, out.host, out.bucket);
  out.verify = option(options, "verify") != "never";
  return out;
}

}  // namespace

BosStyle bos_style(std::string_view addressing, std::string_view host, std::string_view bucket) {
  if (addressing == "path") return BosStyle::kPath;
  if (addressing == "virtual") return BosStyle::kVirtual;
  const std::string_view name = host.substr(0, host.rfind(':'));
  if (name.ends_with(".cdn.bcebos.com")) return BosStyle::kOwnHost;
  if (!name.ends_with(".bcebos.com")) return BosStyle::kPath;
  const bool names_bucket = name.starts_with(bucket) && name.substr(bucket.size()).starts_with('.') &&
                            name.size() > bucket.size() + std::string_view(".bcebos.com").size();
  return names_bucket ? BosStyle::kOwnHost : BosStyle::kVirtual;
}

std::optional<uint32_t> parse_crc32(std::string_view decimal) {
  uint32_t value = 0;
  auto [end, failure] = std::from_chars(decimal.data(), decimal.data() + decimal.size(), value);
  if (failure != std::errc() || end != decimal.data() + decimal.size()) return std::nullopt;
  return value;
}

ServiceError parse_bos_error(std::string_view json) {
  ServiceError out;
  const Json body = Json::parse(json, nullptr, false);
  if (!body.is_object()) return out;
  out.code = text_of(body, "code");
  out.message = text_of(body, "message");
  out.request_id = text_of(body, "requestId");
  return out;
}

Result<ListPage> parse_bos_list(std::string_view json) {
  const Json body = Json::parse(json, nullptr, false);
  if (!body.is_object())
    return make_error(EIO, fmt::format("the list of objects is no JSON: {}", printable(json, 120)));
  const auto contents = body.find("contents");
  if (contents == body.end() || !contents->is_array())
    return make_error(EIO, fmt::format("the list of objects has no contents: {}", printable(json, 120)));
  ListPage page;
  for (const Json& entry : *contents) {
    auto object = parse_object(entry);
    if (!object.ok()) return object.error();
    page.objects.push_back(std::move(*object));
  }
  const auto truncated = body.find("isTruncated");
  if (truncated == body.end() || !truncated->is_boolean())
    return make_error(EIO, "the list of objects does not say whether it goes on");
  if (!truncated->get<bool>()) return page;
  page.next = text_of(body, "nextMarker");
  if (page.next.empty() && !page.objects.empty()) page.next = page.objects.back().key;
  if (page.next.empty()) return make_error(EIO, "the list of objects is truncated but has no marker");
  return page;
}

Result<SourceMeaning> bos_meaning(const SourceUrl& source, const StoreOptions& options, const Environment& env) {
  auto config = bos_config(source, options, env);
  if (!config.ok()) return config.error();
  SourceMeaning out;
  out.endpoint = config->scheme + "://" + config->host;
  std::transform(out.endpoint.begin(), out.endpoint.end(), out.endpoint.begin(),
                 [](unsigned char c) { return static_cast<char>(tolower(c)); });
  out.configured = !option(options, "endpoint").empty();
  out.region = bos_region(options, env);
  out.addressing = config->style == BosStyle::kPath ? "path" : "virtual";
  const std::string key = option(options, "access_key");
  if (!key.empty())
    out.account = option(options, "session_token").empty() ? key : "";
  else if (!env("BDCLOUD_SESSION_TOKEN"))
    out.account = env("BDCLOUD_ACCESS_KEY").value_or("");
  return out;
}

Result<std::unique_ptr<Store>> open_bos(const SourceUrl& source, const StoreOptions& options, const Environment& env) {
  auto config = bos_config(source, options, env);
  if (!config.ok()) return config.error();
  auto settings = http_store_options(options, config->scheme == "https");
  if (!settings.ok()) return settings.error();
  settings->engine.ca_file = option(options, "ca_file");
  auto credentials = bce_credentials(options, env);
  if (!credentials.ok())
    return make_error(credentials.error().code, source.text() + ": " + credentials.error().message);
  auto dialect = std::make_unique<BosProtocol>(std::move(*config), std::move(*credentials));
  return std::unique_ptr<Store>(std::make_unique<HttpStore>(std::move(dialect), *settings));
}

}  // namespace larder
