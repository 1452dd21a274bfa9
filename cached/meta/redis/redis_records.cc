#include "cached/meta/redis/redis_records.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/text.h"
#include "cached/meta/definition.h"
#include "cached/meta/redis/redis_values.h"

namespace larder {

Error newer_schema(const RedisUrl& url, std::string_view found) {
  return make_error(EPROTO, fmt::format("{} was written by a newer larder (schema {}, this one knows {}): use that "
                                        "version, or another Redis database or prefix",
                                        url.text(), printable(found, 20), kRedisSchema));
}

bool valid_node_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 &&
         std::all_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) > ' ' && c != 0x7f; });
}

Result<DatasetDef> parse_definition(const RedisUrl& url, std::string_view name, const RedisReply& flat) {
  auto wrong = [&](const char* what) {
    return make_error(
        EIO, fmt::format("metadata in Redis: dataset '{}': its {} is missing or wrong; `larder format` writes it anew",
                         printable(name, 80), what));
  };
  auto schema = number_field<int64_t>(flat, "schema");
  if (!schema) return wrong("schema");
  if (*schema > kRedisSchema) return newer_schema(url, std::to_string(*schema));
  const std::string *source = field(flat, "source"), *options = field(flat, "options"), *group = field(flat, "group");
  auto id = number_field(flat, "id");
  if (!id || *id == 0) return wrong("id");
  if (!source || source->size() > 4096) return wrong("source");
  if (!options || !group || group->size() > 255) return wrong("description");
  auto parsed = parse_options_text(name, *options);
  if (!parsed) return parsed.error();
  return DatasetDef{std::string(name), *id, *source, std::move(*parsed), *group};
}

std::optional<NodeInfo> parse_beat(std::string_view node, std::string_view text, int64_t now_ms) {
  uint64_t numbers[4];
  if (!valid_node_name(node)) return {};
  for (uint64_t& number : numbers) {
    auto one = whole_number(text.substr(0, text.find(' ')));
    if (!one) return {};
    number = *one;
    text.remove_prefix(std::min(text.size(), text.find(' ') + (text.find(' ') == std::string_view::npos ? 0 : 1)));
  }
  const int64_t left =
      std::clamp<int64_t>(static_cast<int64_t>(numbers[3]), 0, INT64_MAX / 2) - std::max<int64_t>(now_ms, 0);
  const auto age = static_cast<uint32_t>(std::clamp<int64_t>(kNodeExpirySeconds - left / 1000, 0, kNodeExpirySeconds));
  return NodeInfo{std::string(node), numbers[0], numbers[1], numbers[2], age};
}

}  // namespace larder
