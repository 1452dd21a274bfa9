#include "cached/namespace/versions.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/directory_handles.h"
#include "cached/catalog/oid_name.h"
#include "larder/names.h"

namespace larder {

// Memory is set aside for so many entries on the metadata's word alone.
static constexpr uint64_t kMostExpected = 16'000'000;

Result<CatalogImage> Versions::build(Dataset& d, const VersionInfo& info) {
  CatalogBuilder builder(d.id());
  builder.expect(std::min<uint64_t>(info.objects, kMostExpected));
  Status loaded = p_.meta.load(d.def.name, info.version, [&](const ObjectView& o) { return builder.add(o); });
  if (!loaded) return loaded.error();
  return builder.finish(info.version, wall_ns());
}

Status Versions::may_take(const Dataset& d, uint64_t bytes) const {
  const uint64_t most = p_.cache.limits().cache_size;
  if (bytes <= most) return {};
  return make_error(ENOSPC, fmt::format("the catalog of {} takes more than the cache has, {} bytes; give a larger "
                                        "cache_size, or a longer prefix",
                                        d.label(), most));
}

Result<std::shared_ptr<CatalogVersion>> Versions::create(Dataset& d, CatalogImage&& image) {
  uint64_t bytes = version_bytes(image.view());
  if (!p_.cache.make_table_room(bytes))
    return make_error(
        ENOSPC,
        fmt::format("the catalog of {} takes {} bytes, and the cache has no room for it; give a larger cache_size",
                    d.label(), bytes));
  return CatalogVersion::create(d.folder_fd(), p_.dir.tmp_fd(), std::move(image), p_.meter);
}

// From the cache folder if it is there and good, else from the metadata.
Result<std::shared_ptr<CatalogVersion>> Versions::open_or_build(Dataset& d, const VersionInfo& info) {
  Result<std::shared_ptr<CatalogVersion>> v =
      CatalogVersion::open(d.folder_fd(), p_.dir.tmp_fd(), d.id(), info.version, p_.meter);
  if (v) return v;
  if (v.error().code != ENOENT) spdlog::warn("{}: {}; it is built again", d.label(), v.error().message);
  Result<CatalogImage> image = build(d, info);
  if (!image) return image.error();
  return create(d, std::move(*image));
}

Status Versions::load(Dataset& d, bool* found) {
  *found = true;
  if (d.version()) return {};
  Status s = load_current(d, found);
  if (s && (*found || !p_.definitions.has_copy(d.def.name))) return s;
  if (!s && !may_pass(s.error().code)) return s;
  if (s) {  // no version: a dataset that is new to the metadata, or metadata that was emptied
    Result<std::optional<DatasetDef>> def = p_.meta.get_dataset(d.def.name);
    if (!def || *def) return {};
    s = make_error(ENOENT, fmt::format("the metadata has lost it; larder format {} {} --restore publishes it again",
                                       d.def.name, d.def.source));
  }
  *found = true;
  return load_copy(d, s.error());
}

// What this node served last. `why` it must do, or what comes back if it cannot.
Status Versions::load_copy(Dataset& d, const Error& why) {
  const uint64_t newest = newest_catalog(d.folder_fd());
  if (newest == 0) return why;
  Result<std::shared_ptr<CatalogVersion>> v =
      CatalogVersion::open(d.folder_fd(), p_.dir.tmp_fd(), d.id(), newest, p_.meter);
  if (!v)
    return make_error(why.code,
                      fmt::format("{}; and this node's catalog cannot be used: {}", why.message, v.error().message));
  if (Status s = p_.cache.adopt(d, std::move(*v)); !s) return s;
  d.set_trouble(why.message);
  spdlog::warn("{}: version {} is served from what this node has: {}", d.label(), newest, why.message);
  return {};
}

Status Versions::load_current(Dataset& d, bool* found) {
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  *found = info->has_value();
  if (!*found) return {};
  Result<std::shared_ptr<CatalogVersion>> v = open_or_build(d, **info);
  if (!v) return v.error();
  return p_.cache.adopt(d, std::move(*v));
}

Status Versions::install(Dataset& d, CatalogImage&& image) {
  Result<std::shared_ptr<CatalogVersion>> next = create(d, std::move(image));
  if (!next) return next.error();
  std::shared_ptr<CatalogVersion> before = d.version();
  if (!before) return {};
  Result<std::shared_ptr<CatalogVersion>> old =
      p_.registry.switch_version(d, before, *next, ObjectCache::match(*before, **next));
  if (!old) return old.error();
  if (!*old) return {};
  p_.cache.remove_obsolete(d, **old);
  remove_others(d, (*next)->version());
  remove_mirrors(d.mirrors.get(), [&](uint64_t hash) { return (*next)->catalog().find_directory(hash) != kNoEntry; });
  return {};
}

Status Versions::catch_up(Dataset& d) {
  std::shared_ptr<CatalogVersion> current = d.version();
  if (!current) return {};
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  if (!*info || (*info)->version <= current->version()) return {};
  Result<CatalogImage> image = build(d, **info);
  if (!image) return image.error();
  if (Status s = install(d, std::move(*image)); !s) return s;
  spdlog::info("{}: version {} of another node: {} objects, {} bytes", d.label(), (*info)->version, (*info)->objects,
               (*info)->bytes);
  return {};
}

void Versions::remove_others(Dataset& d, uint64_t current) {
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    std::string_view n = name;
    if (is_version_file(n) && n != catalog_name(current) && n != residency_name(current))
      ::unlinkat(d.folder_fd(), name, 0);
  });
}

}  // namespace larder
