#include "cached/cli/mount_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "cached/config/config.h"

namespace larder::cli {
namespace {

constexpr const char* kExample = "write SRC=PATH, such as s3://bucket/prefix=/data/imagenet";

Error bad_mount(std::string_view text, std::string_view why) {
  return make_error(EINVAL, fmt::format("--mount '{}' {}: {}", text, why, kExample));
}

Result<MountSpec> finish(std::string_view source, std::string_view path) {
  auto normal = normal_mount_path(path);
  if (!normal) return normal.error();
  return MountSpec{std::string(source), *normal};
}

Result<MountSpec> split_url(std::string_view text) {
  size_t first = text.find("=/");
  if (first == std::string_view::npos) return bad_mount(text, "has no '=' followed by an absolute path");
  if (text.find("=/", first + 1) != std::string_view::npos)
    return make_error(EINVAL,
                      fmt::format("--mount '{}' can be split at more than one '=/': give the source a name with "
                                  "`larder format NAME SRC` and write NAME=PATH",
                                  text));
  return finish(text.substr(0, first), text.substr(first + 1));
}

}  // namespace

bool valid_name(std::string_view name) {
  auto ok = [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= 63 && std::isalnum(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(), ok);
}

Result<MountSpec> parse_mount(std::string_view text) {
  if (text.find("://") != std::string_view::npos && text.find("://") < text.find('=')) return split_url(text);
  size_t at = text.find('=');
  if (at == std::string_view::npos) return bad_mount(text, "has no '='");
  std::string_view source = text.substr(0, at);
  if (source.empty()) return bad_mount(text, "has no source");
  if (source[0] == '/' || source[0] == '.')
    return make_error(EINVAL, fmt::format("--mount source '{}' is a path: write file://{}", source,
                                          std::filesystem::absolute(source).lexically_normal().string()));
  if (!valid_name(source)) return bad_mount(text, "names neither a URL nor a dataset");
  return finish(source, text.substr(at + 1));
}

Result<std::map<std::string, std::string>> parse_options(const std::vector<std::string>& texts) {
  std::map<std::string, std::string> options;
  for (const std::string& text : texts) {
    size_t at = text.find('=');
    std::string key = text.substr(0, at);
    if (key == "secret_key" || key == "session_token" || key == "access_key")  // the value stays out of the message
      return make_error(EINVAL,
                        fmt::format("option '{}' does not belong on a command line, where others can read it: put it "
                                    "into the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                                    "AWS_SESSION_TOKEN; bos: BDCLOUD_ACCESS_KEY, BDCLOUD_SECRET_KEY, "
                                    "BDCLOUD_SESSION_TOKEN) or into larder.toml",
                                    key));
    if (at == std::string::npos || at == 0)
      return make_error(
          EINVAL, fmt::format("option '{}' is not KEY=VALUE: write, for example, endpoint=http://host:9000", text));
    options[key] = text.substr(at + 1);
  }
  return options;
}

}  // namespace larder::cli
