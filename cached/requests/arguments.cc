#include "cached/requests/arguments.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cached/base/files.h"

namespace larder {

using nlohmann::json;

void Arguments::wrong(std::string message) {
  if (status_) status_ = make_error(EINVAL, std::move(message));
}

std::string Arguments::text(const char* key) {
  if (!args_.contains(key)) wrong(fmt::format("the request has no \"{}\"", key));
  return text_or_empty(key);
}

std::string Arguments::text_or_empty(const char* key) {
  auto it = args_.find(key);
  if (it == args_.end()) return "";
  if (it->is_string()) return it->get<std::string>();
  wrong(fmt::format("\"{}\" must be a string", key));
  return "";
}

bool Arguments::flag(const char* key, bool otherwise) {
  auto it = args_.find(key);
  if (it == args_.end()) return otherwise;
  if (it->is_boolean()) return it->get<bool>();
  wrong(fmt::format("\"{}\" must be true or false", key));
  return otherwise;
}

uint64_t Arguments::number(const char* key, uint64_t otherwise) {
  auto it = args_.find(key);
  if (it == args_.end() || it->is_null()) return otherwise;
  if (it->is_number_unsigned() && it->get<uint64_t>() > 0) return it->get<uint64_t>();
  wrong(fmt::format("\"{}\" must be a number above 0", key));
  return otherwise;
}

StoreOptions Arguments::texts(const char* key) {
  StoreOptions texts;
  auto it = args_.find(key);
  if (it == args_.end() || it->is_null()) return texts;
  if (!it->is_object()) wrong(fmt::format("\"{}\" must be an object", key));
  if (!it->is_object()) return texts;
  for (auto& [name, value] : it->items()) {
    if (value.is_string())
      texts[name] = value.get<std::string>();
    else
      wrong(fmt::format("{}: \"{}\" must be a string", key, shown(name)));
  }
  return texts;
}

std::vector<std::string> Arguments::paths() {
  std::vector<std::string> paths;
  if (auto it = args_.find("path"); it != args_.end() && it->is_string()) paths.push_back(it->get<std::string>());
  if (auto it = args_.find("paths"); it != args_.end() && it->is_array())
    for (const json& p : *it)
      if (p.is_string()) paths.push_back(p.get<std::string>());
  if (paths.empty()) wrong("the request has no \"path\" or \"paths\"");
  return paths;
}

}  // namespace larder
