#include "cached/namespace/definition_copies.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/meta/definition.h"

namespace larder {

using nlohmann::json;

static constexpr size_t kMaxFile = 16 << 20;

static bool same(const DatasetDef& a, const DatasetDef& b) {
  return a.name == b.name && a.id == b.id && a.source == b.source && a.options == b.options && a.group == b.group;
}

static std::string text_of(const json& entry, const char* key) {
  auto it = entry.find(key);
  return it != entry.end() && it->is_string() ? it->get<std::string>() : "";
}

static std::optional<DatasetDef> read_definition(const json& entry) {
  if (!entry.is_object()) return {};
  DatasetDef def;
  def.name = text_of(entry, "name");
  def.source = text_of(entry, "source");
  def.group = text_of(entry, "group");
  Result<StoreOptions> options = parse_options_text(def.name, text_of(entry, "options"));
  if (!options || !parse_hex(text_of(entry, "id"), 16, &def.id)) return {};
  def.options = std::move(*options);
  if (!check_definition(def)) return {};
  return def;
}

DefinitionCopies::DefinitionCopies(std::string file) : file_(std::move(file)) {
  MutexLock lock(mutex_);
  load_locked();
}

void DefinitionCopies::load_locked() {
  if (file_.empty()) return;
  Result<std::string> text = read_file(AT_FDCWD, file_, kMaxFile);
  if (!text && text.error().code == ENOENT) return;
  json root = text ? json::parse(*text, nullptr, false) : json();
  auto list = root.is_object() ? root.find("datasets") : root.end();
  if (!root.is_object() || list == root.end() || !list->is_array())
    return spdlog::warn("{} is damaged; it is written anew", file_);
  for (const json& entry : *list)
    if (std::optional<DatasetDef> def = read_definition(entry)) defs_[def->name] = *def;
}

void DefinitionCopies::save_locked() const {
  if (file_.empty()) return;
  json list = json::array();
  for (const auto& [name, def] : defs_)
    list.push_back({{"name", name},
                    {"id", fmt::format("{:016x}", def.id)},
                    {"source", def.source},
                    {"options", options_text(def.options)},
                    {"group", def.group}});
  const std::string text = json{{"datasets", list}}.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  if (Status s = replace_file(AT_FDCWD, file_, text, 0600); !s)
    spdlog::warn("a copy of the definitions cannot be kept: {}", s.error().message);
}

void DefinitionCopies::remember(const DatasetDef& def) {
  MutexLock lock(mutex_);
  auto it = defs_.find(def.name);
  if (file_.empty() || (it != defs_.end() && same(it->second, def))) return;
  defs_[def.name] = def;
  save_locked();
}

void DefinitionCopies::forget(const std::string& name) {
  MutexLock lock(mutex_);
  if (defs_.erase(name) > 0) save_locked();
}

std::optional<DatasetDef> DefinitionCopies::find(const std::string& name) const {
  MutexLock lock(mutex_);
  auto it = defs_.find(name);
  return it == defs_.end() ? std::optional<DatasetDef>() : it->second;
}

std::vector<DatasetDef> DefinitionCopies::all() const {
  MutexLock lock(mutex_);
  std::vector<DatasetDef> all;
  for (const auto& [name, def] : defs_)
    all.push_back(def);
  return all;
}

}  // namespace larder
