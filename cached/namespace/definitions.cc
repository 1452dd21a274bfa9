#include "cached/namespace/definitions.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

StoreOptions without_secrets(StoreOptions options) {
  for (const char* key : {"access_key", "secret_key", "session_token"})
    options.erase(key);
  return options;
}

std::string name_for_source(const std::string& source, const StoreOptions& options) {
  auto endpoint = options.find("endpoint");
  std::string framed = source + '\0' + (endpoint == options.end() ? "" : endpoint->second);
  std::string name;
  for (char c : source) {
    bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
    if (good)
      name += c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  while (!name.empty() && (name.front() == '.' || name.front() == '_' || name.front() == '-'))
    name.erase(0, 1);
  if (name.size() > 44) name.resize(44);
  while (!name.empty() && name.back() == '-')
    name.pop_back();
  if (name.empty()) name = "source";
  return fmt::format("{}-{:016x}", name, XXH3_64bits(framed.data(), framed.size()));
}

// An engine of this machine alone is its own copy.
static std::string copies_file(const Config& c) {
  return c.meta.starts_with("local:") ? "" : c.state_dir + "/datasets.json";
}

Definitions::Definitions(const Config& config, const CacheDir& dir, Meta& meta, StoreOpener open_store)
    : config_(config), dir_(dir), meta_(meta), open_store_(std::move(open_store)), copies_(copies_file(config)) {}

Result<DatasetDef> Definitions::format(const std::string& name, const std::string& source, const StoreOptions& options,
                                       const std::string& group) {
  Result<SourceUrl> url = parse_source(source);
  if (!url) return url.error();
  DatasetDef def;
  def.name = name;
  def.source = url->text();
  def.id = dataset_id(name, def.source);
  def.options = without_secrets(options);
  def.group = group;
  if (Result<std::shared_ptr<Store>> store = open_store(def, options); !store) return store.error();
  if (Status s = meta_.put_dataset(def); !s) return s.error();
  return def;
}

StoreOptions Definitions::all_options(const DatasetDef& def, const StoreOptions& request_options) const {
  StoreOptions own = def.options;
  for (const auto& [key, value] : request_options)
    own[key] = value;
  return options_for(config_, def.source, own);
}

Result<std::shared_ptr<Store>> Definitions::open_store(const DatasetDef& def,
                                                       const StoreOptions& request_options) const {
  Result<std::unique_ptr<Store>> store = open_store_(def.source, all_options(def, request_options));
  if (!store) return store.error();
  return std::shared_ptr<Store>(std::move(*store));
}

Result<SourceMeaning> Definitions::meaning(const DatasetDef& def, const StoreOptions& request_options) const {
  return source_meaning(def.source, all_options(def, request_options), process_environment());
}

Result<SourceMeaning> Definitions::meaning_to(const std::map<std::string, std::string>& environment,
                                              const DatasetDef& def, const StoreOptions& request_options) const {
  const bool is_private = config_.is_private;
  const Environment env = [&environment, is_private](const char* name) -> std::optional<std::string> {
    auto it = environment.find(name);
    const bool told = it != environment.end() && !it->second.empty();
    if (is_private) return told ? std::optional(it->second) : std::nullopt;
    const bool endpoint = std::string_view(name).starts_with("AWS_ENDPOINT_URL");
    return told && endpoint ? std::optional(it->second) : process_environment()(name);
  };
  return source_meaning(def.source, all_options(def, request_options), env);
}

// A user's daemon has its endpoint from the environment it was started in; the next one may have another.
std::string Definitions::name_for(const std::string& source, const StoreOptions& request_options) const {
  DatasetDef def;
  def.source = source;
  StoreOptions options = request_options;
  Result<SourceMeaning> meant = meaning(def, request_options);
  const bool counts = config_.is_private || options.contains("endpoint");
  if (meant && meant->configured && counts) options["endpoint"] = meant->endpoint;
  return name_for_source(source, options);
}

uint64_t newest_catalog(int folder) {
  uint64_t newest = 0;
  (void)for_each_name(folder, [&](const char* name) {
    uint64_t v = 0;
    if (parse_numbered(name, kCatalogPrefix, &v)) newest = std::max(newest, v);
  });
  return newest;
}

// Only if there is a catalog to serve with it.
Result<DatasetDef> Definitions::copy_of(const std::string& name) const {
  std::optional<DatasetDef> copy = copies_.find(name);
  if (!copy) return make_error(ENOENT, "no copy");
  Result<Fd> folder = open_dir(dir_.fd(), dataset_path(copy->id).c_str());
  if (!folder) return folder.error();
  if (newest_catalog(folder->get()) == 0) return make_error(ENOENT, "no catalog");
  return *copy;
}

Result<std::optional<DatasetDef>> Definitions::find(const std::string& name) {
  Result<std::optional<DatasetDef>> def = meta_.get_dataset(name);
  if (def && *def) copies_.remember(**def);
  if ((def && *def) || (!def && !may_pass(def.error().code))) return def;
  Result<DatasetDef> copy = copy_of(name);
  return copy ? Result<std::optional<DatasetDef>>(std::optional(*copy)) : def;
}

Result<std::vector<DatasetDef>> Definitions::all() {
  Result<std::vector<DatasetDef>> defs = meta_.datasets();
  if (defs || !may_pass(defs.error().code)) return defs;
  spdlog::error("the metadata cannot be read now: {}", defs.error().message);
  return copies_.all();
}

void Definitions::remove(const std::string& name) {
  (void)meta_.remove_dataset(name);
  copies_.forget(name);
}

}  // namespace larder
