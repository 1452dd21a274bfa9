#include "cached/store/web/manifest.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "cached/base/text.h"
#include "cached/store/api/options.h"
#include "cached/store/api/percent.h"
#include "cached/store/checksum/etag_check.h"
#include "cached/store/http/http_store.h"

namespace larder {
namespace {

using Json = nlohmann::json;

// 1.28 M files of ImageNet need 115 MB.
constexpr size_t kMaxManifest = size_t{512} << 20;
constexpr size_t kMaxEtag = 200;  // beside "md5:" and 32 digits in the 255 bytes of an etag

bool hex_digits(std::string_view text, size_t count) {
  return text.size() == count && text.find_first_not_of("0123456789abcdefABCDEF") == std::string_view::npos;
}

// A member that is a text; empty where there is none. False: it is something else.
bool text_member(const Json& line, const char* name, std::string& out) {
  auto it = line.find(name);
  if (it == line.end() || it->is_null()) return true;
  if (!it->is_string()) return false;
  out = it->get<std::string>();
  return true;
}

Status read_version(const Json& line, ObjectInfo& out) {
  std::string etag, md5, crc32;
  if (!text_member(line, "etag", etag) || !text_member(line, "md5", md5) || !text_member(line, "crc32", crc32))
    return make_error(EIO, "etag, md5 and crc32 must be texts");
  if (!md5.empty() && !hex_digits(md5, 32)) return make_error(EIO, "md5 must have 32 hex digits");
  if (!crc32.empty() && !hex_digits(crc32, 8)) return make_error(EIO, "crc32 must have 8 hex digits");
  if (etag.size() > kMaxEtag) return make_error(EIO, fmt::format("etag has more than {} bytes", kMaxEtag));
  const std::string sum = !md5.empty() ? "md5:" + md5 : !crc32.empty() ? "crc32:" + crc32 : "";
  etag = listed_etag(etag);
  if (!sum.empty() || !etag.empty()) out.etag = sum + ";" + etag;
  return {};
}

Result<ObjectInfo> parse_line(std::string_view text) {
  const Json line = Json::parse(text, nullptr, false);
  if (!line.is_object()) return make_error(EIO, "it is no JSON object");
  ObjectInfo out;
  std::string mtime;
  if (!text_member(line, "path", out.key) || out.key.empty() || out.key.front() == '/')
    return make_error(EIO, "path must be a text that does not begin with '/'");
  const auto size = line.find("size");
  if (size == line.end() || !size->is_number_unsigned() || size->get<uint64_t>() > uint64_t{1} << 62)
    return make_error(EIO, "size must be a number of bytes");
  out.size = size->get<uint64_t>();
  if (!text_member(line, "mtime", mtime)) return make_error(EIO, "mtime must be a text such as 2026-01-02T03:04:05Z");
  if (!mtime.empty()) out.mtime_ns = iso_date_ns(mtime);
  if (!mtime.empty() && out.mtime_ns == 0) return make_error(EIO, "mtime must be like 2026-01-02T03:04:05Z");
  if (auto status = read_version(line, out); !status.ok()) return status.error();
  return out;
}

class ManifestProtocol final : public StoreProtocol {
 public:
  ManifestProtocol(const SourceUrl& source, bool verify)
      : endpoint_(source.scheme + "://" + source.bucket), base_(source.text()), verify_(verify) {}

  std::string name(std::string_view key) const override { return base_ + std::string(key); }
  std::string endpoint() const override { return endpoint_; }
  const std::string& prefix() const override { return no_prefix_; }

  Result<HttpRequest> sign(const StoreCall& call) override {
    HttpRequest out;
    out.method = call.method;
    out.url = base_ + percent_encode(call.bucket ? kManifestName : std::string_view(call.key), true);
    for (auto& [name, value] : call.headers)
      out.headers.append(name).append(": ").append(value).append("\r\n");
    out.headers.append("User-Agent: larder\r\n");
    return out;
  }

  ServiceError service_error(const HttpReply&) const override { return {}; }
  bool repair(const HttpReply&, const ServiceError&, const void*) override { return false; }

  std::string hint(int status, const ServiceError&) const override {
    if (status == 404)
      return fmt::format("an http source needs {}{}, and the files that it lists", base_, kManifestName);
    if (status >= 300 && status < 400) return "redirects are not followed: give the address that they lead to";
    if (status == 401 || status == 403) return "http sources are read without credentials";
    return {};
  }

  StoreCall list_call(std::string_view) const override {
    StoreCall call;
    call.bucket = true;
    return call;
  }

  Result<ListPage> parse_list(std::string_view body) const override { return parse_manifest(body); }
  BodyChecksum checksum(const HttpReply&) const override { return {}; }

  ObjectVersion version(std::string_view etag) const override {
    ObjectVersion out = manifest_version(etag);
    if (!verify_) {
      out.sum = {};
      out.compare_date = out.if_match.empty();
    }
    return out;
  }

  std::string etag(const HttpReply& head) const override {
    const std::string_view text = head.header("etag");
    return text.empty() ? std::string() : ";" + listed_etag(text);
  }

  size_t max_list_body() const override { return kMaxManifest; }

 private:
  const std::string endpoint_, base_, no_prefix_;
  const bool verify_;
};

}  // namespace

ObjectVersion manifest_version(std::string_view etag) {
  const size_t end = std::min(etag.find(';'), etag.size());
  const std::string_view sum = etag.substr(0, end);
  ObjectVersion out;
  const std::string_view server = etag.substr(std::min(end + 1, etag.size()));
  if (server.starts_with(kWeak))
    out.weak = server.substr(kWeak.size());
  else
    out.if_match = server;
  if (sum.starts_with("md5:") && hex_digits(sum.substr(4), 32)) out.sum.md5 = md5_of_etag(sum.substr(4));
  if (uint32_t crc = 0; sum.starts_with("crc32:") && hex_digits(sum.substr(6), 8)) {
    std::from_chars(sum.data() + 6, sum.data() + sum.size(), crc, 16);
    out.sum.crc = {CrcKind::kCrc32, crc};
  }
  out.compare_date = out.if_match.empty() && !out.sum.known();
  return out;
}

Result<ListPage> parse_manifest(std::string_view text) {
  ListPage page;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto object = parse_line(line);
    if (!object.ok())
      return make_error(
          EIO, fmt::format("{} line {}: {}: {}", kManifestName, number, object.error().message, printable(line, 120)));
    page.objects.push_back(std::move(*object));
  }
  return page;
}

Result<std::unique_ptr<Store>> open_manifest(const SourceUrl& source, const StoreOptions& options) {
  auto settings = http_store_options(options, source.scheme == "https");
  if (!settings.ok()) return settings.error();
  const bool verify = option(options, "verify") != "never";
  settings->engine.ca_file = option(options, "ca_file");
  settings->verify_md5 = verify;  // who writes sums into a manifest wants them compared
  settings->any_order = true;
  return std::unique_ptr<Store>(
      std::make_unique<HttpStore>(std::make_unique<ManifestProtocol>(source, verify), *settings));
}

}  // namespace larder
