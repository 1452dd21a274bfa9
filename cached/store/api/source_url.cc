#include <fmt/format.h>

#include <algorithm>

#include "cached/base/text.h"
#include "cached/store/api/endpoint.h"
#include "cached/store/api/store.h"

namespace larder {
namespace {

Error bad(std::string_view text, std::string_view why) {
  return make_error(EINVAL, fmt::format("source '{}': {}", printable(text), why));
}

bool bucket_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

Result<SourceUrl> parse_bucket(std::string_view text, std::string_view scheme, std::string_view rest) {
  SourceUrl out;
  out.scheme = scheme;
  const size_t slash = rest.find('/');
  out.bucket = rest.substr(0, slash);
  if (slash != std::string_view::npos) out.prefix = rest.substr(slash + 1);
  if (!out.prefix.empty() && out.prefix.back() != '/') out.prefix.push_back('/');
  // 3 to 63 today; 255 and capitals in old buckets of us-east-1.
  if (out.bucket.size() < 3 || out.bucket.size() > 255 ||
      !std::all_of(out.bucket.begin(), out.bucket.end(), bucket_char)) {
    return bad(text, fmt::format("'{}' is no bucket name (3 to 255 of a-z A-Z 0-9 - . _); write {}://bucket/prefix",
                                 printable(out.bucket), scheme));
  }
  return out;
}

Result<SourceUrl> parse_bos(std::string_view text, std::string_view rest) {
  auto out = parse_bucket(text, "bos", rest);
  if (!out.ok()) return out;
  const std::string& bucket = out->bucket;
  const bool fits = bucket.size() <= 63 && bucket.front() != '-' && bucket.back() != '-' &&
                    bucket.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
  if (!fits) return bad(text, fmt::format("'{}' is no bucket name of BOS (3 to 63 of a-z 0-9 -)", printable(bucket)));
  return out;
}

// The path stays as it stands in the URL, percent-encoded.
Result<SourceUrl> parse_web(std::string_view text, std::string_view scheme, std::string_view rest) {
  const size_t slash = std::min(rest.find('/'), rest.size());
  auto address = parse_endpoint(std::string(scheme) + "://" + std::string(rest.substr(0, slash)));
  if (!address.ok()) return bad(text, "write http://host:port/directory or https://host/directory, without a user");
  SourceUrl out;
  out.scheme = scheme;
  out.bucket = address->host;
  out.prefix = rest.substr(std::min(slash + 1, rest.size()));
  auto stays = [](char c) { return c > 0x20 && c < 0x7f && c != '?' && c != '#' && c != '"'; };
  if (!std::all_of(out.prefix.begin(), out.prefix.end(), stays))
    return bad(text, "the path must be percent-encoded, without '?' and '#'");
  if (!out.prefix.empty() && out.prefix.back() != '/') out.prefix.push_back('/');
  return out;
}

// Lexical: "//" and "." go, ".." is refused (what it means depends on symlinks).
Result<SourceUrl> parse_file(std::string_view text, std::string_view rest) {
  if (!rest.starts_with('/')) return bad(text, "write file:///absolute/directory");
  SourceUrl out;
  out.scheme = "file";
  while (!rest.empty()) {
    rest.remove_prefix(std::min(rest.find_first_not_of('/'), rest.size()));
    const std::string_view part = rest.substr(0, rest.find('/'));
    rest.remove_prefix(part.size());
    if (part.empty() || part == ".") continue;
    if (part == "..") return bad(text, "'..' is not allowed; write the directory itself");
    out.prefix.append("/").append(part);
  }
  if (out.prefix.empty()) out.prefix = "/";
  return out;
}

}  // namespace

std::string SourceUrl::text() const {
  return scheme == "file" ? "file://" + prefix : scheme + "://" + bucket + "/" + prefix;
}

Result<SourceUrl> parse_source(std::string_view text) {
  const size_t colon = text.find("://");
  if (colon == std::string_view::npos)
    return bad(text, "write s3://bucket/prefix, bos://bucket/prefix or file:///directory");
  if (text.find('\0') != std::string_view::npos) return bad(text, "it contains a NUL byte");
  const std::string_view scheme = text.substr(0, colon), rest = text.substr(colon + 3);
  if (scheme == "s3") return parse_bucket(text, scheme, rest);
  if (scheme == "bos") return parse_bos(text, rest);
  if (scheme == "http" || scheme == "https") return parse_web(text, scheme, rest);
  if (scheme == "file") return parse_file(text, rest);
  return bad(text, fmt::format("unknown scheme '{}'; known are s3, bos, http, https and file", printable(scheme)));
}

}  // namespace larder
