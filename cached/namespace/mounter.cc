#include "cached/namespace/mounter.h"

#include <fmt/format.h>

#include "cached/base/files.h"
#include "cached/base/log.h"

namespace larder {

// A dataset may be unmounted by another between its load and its mount: it is loaded again, so often.
static constexpr int kMostAttempts = 10;

Result<std::shared_ptr<Dataset>> Mounter::dataset_for(const MountRequest& r, bool* registered) {
  std::string name = r.name;
  if (name.empty()) {
    Result<SourceUrl> url = parse_source(r.source);
    if (!url) return url.error();
    name = p_.definitions.name_for(url->text(), r.options);
  }
  Result<std::optional<DatasetDef>> def = p_.definitions.find(name);
  if (!def) return def.error();
  if (!*def && r.source.empty())
    return make_error(
        ENOENT,
        fmt::format("there is no dataset \"{}\"; register it with larder format, or mount a source", shown(name)));
  if (!*def) {
    Result<DatasetDef> made = p_.definitions.format(name, r.source, r.options, "");
    if (!made) return made.error();
    *registered = true;
    *def = *made;
  }
  return p_.registry.open(**def);
}

// An endpoint may be spelled in several ways.
bool Mounter::same_endpoint(const DatasetDef& def, const StoreOptions& options) const {
  if (!options.contains("endpoint")) return true;
  Result<SourceMeaning> ours = p_.definitions.meaning(def, {}), theirs = p_.definitions.meaning(def, options);
  return ours && theirs && ours->endpoint == theirs->endpoint;
}

// A request for a path that is mounted: the same source is that dataset, another one is an error.
Status Mounter::use_mounted(MountRequest& r) const {
  auto [there, rest] = p_.registry.at_path(r.path);
  if (!there.dataset || !rest.empty()) return {};
  const DatasetDef& def = there.dataset->def;
  bool same = !r.name.empty() && r.name == def.name;
  if (!r.source.empty()) {
    Result<SourceUrl> url = parse_source(r.source);
    if (!url) return url.error();
    same = url->text() == def.source && (r.name.empty() || same) && same_endpoint(def, r.options);
  }
  if (!same)
    return make_error(
        EEXIST, fmt::format("{} is mounted with {}; unmount it first, or choose another path", r.path, def.source));
  r.name = def.name;
  return {};
}

static void describe(const Dataset& d, const CatalogHeader& h, MountResult& result) {
  if (std::string trouble = d.trouble(); !trouble.empty())
    result.warnings.push_back("this node serves what it has: " + trouble);
  result.info = {h.version, h.published_ns, h.file_count, h.total_bytes, h.skipped};
  if (h.file_count == 0) result.warnings.push_back("there is no object below " + d.def.source + "; check the prefix");
  if (h.skipped != 0)
    result.warnings.push_back(
        fmt::format("{} objects have keys that no path can name; larder refresh lists them", h.skipped));
}

// The dataset gets a version, and its mount. ESTALE: another has unmounted it in between.
Status Mounter::try_mount(const std::shared_ptr<Dataset>& d, const MountRequest& r, const Progress& progress,
                          MountResult& result) {
  result.name = d->def.name;
  result.warnings.clear();
  if (Status loaded = p_.refresher.ensure_version(*d, r, progress, result.warnings); !loaded) return loaded;
  if (std::shared_ptr<CatalogVersion> v = d->version()) describe(*d, *v->catalog().header, result);
  return p_.registry.add_mount(r, d);
}

Result<MountResult> Mounter::mount(const MountRequest& request, const Progress& progress) {
  MountRequest r = request;
  Result<std::string> path = normal_mount_path(r.path);
  if (!path) return path.error();
  r.path = *path;
  if (Status s = use_mounted(r); !s) return s.error();
  bool registered = false;
  MountResult result;
  result.path = r.path;
  for (int attempt = 1;; ++attempt) {
    Result<std::shared_ptr<Dataset>> d = dataset_for(r, &registered);
    if (!d) return d.error();
    Status s = try_mount(*d, r, progress, result);
    if (s) {
      p_.cache.keep_quota(**d);
      break;
    }
    if (s.error().code == ESTALE && attempt < kMostAttempts) continue;
    if (!p_.registry.drop_unused(**d) || !registered) return s.error();
    p_.definitions.remove((*d)->def.name);
    p_.registry.forget(*d);
    return s.error();
  }
  spdlog::info("{} is mounted at {}: version {}, {} objects, {} bytes", result.name, r.path, result.info.version,
               result.info.objects, result.info.bytes);
  return result;
}

Status Mounter::umount(const std::string& path) {
  Result<std::string> normal = normal_mount_path(path);
  if (!normal) return normal.error();
  return p_.registry.remove_mount(*normal);
}

}  // namespace larder
