#include "cached/meta/definition.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cached/base/text.h"

namespace larder {

bool valid_dataset_name(std::string_view name) {
  auto alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  if (name.empty() || name.size() > 63 || !alnum(name.front())) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return alnum(c) || c == '.' || c == '_' || c == '-'; });
}

Status check_definition(const DatasetDef& def) {
  if (!valid_dataset_name(def.name)) {
    return make_error(
        EINVAL,
        fmt::format("dataset name '{}': it must be 1 to 63 of a-z A-Z 0-9 . _ - and begin with a letter or digit",
                    printable(def.name, 80)));
  }
  if (def.id == 0) return make_error(EINVAL, "a dataset needs an id");
  for (const char* secret : {"secret_key", "session_token"}) {
    if (def.options.contains(secret))
      return make_error(EINVAL, fmt::format("option {} is a secret: it does not belong into metadata", secret));
  }
  return {};
}

std::string options_text(const StoreOptions& options) {
  return nlohmann::json(options).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<StoreOptions> parse_options_text(std::string_view dataset, std::string_view text) {
  StoreOptions out;
  const auto options = nlohmann::json::parse(text, nullptr, false);
  if (!options.is_object())
    return make_error(EIO,
                      fmt::format("metadata of dataset '{}': its options are no JSON object", printable(dataset, 80)));
  for (auto& [name, value] : options.items()) {
    if (!value.is_string())
      return make_error(EIO, fmt::format("metadata of dataset '{}': option '{}' is no text", printable(dataset, 80),
                                         printable(name, 80)));
    out[name] = value.get<std::string>();
  }
  return out;
}

Error no_dataset(std::string_view name) {
  return make_error(ENOENT, fmt::format("no dataset '{}'", printable(name, 80)));
}

Status list_nodes(Meta& meta, const std::string& name,
                  const std::function<void(const std::string& dataset, const NodeInfo& node)>& one) {
  std::vector<std::string> names = {name};
  if (name.empty()) {
    auto defs = meta.datasets();
    if (!defs) return defs.error();
    names.clear();
    for (const DatasetDef& def : *defs)
      names.push_back(def.name);
  }
  for (const std::string& dataset : names) {
    auto nodes = meta.nodes(dataset);
    if (!nodes && (name.empty() && nodes.error().code == ENOENT)) continue;  // removed meanwhile
    if (!nodes) return nodes.error();
    for (const NodeInfo& node : *nodes)
      one(dataset, node);
  }
  return {};
}

}  // namespace larder
