#include "cached/namespace/datasets.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/directory_handles.h"
#include "cached/catalog/oid_name.h"
#include "cached/store/api/options.h"
#include "larder/names.h"

namespace larder {

using Clock = std::chrono::steady_clock;

// A listing costs the store many requests: after one, the next waits at least so long, and at least three times as long
// as the listing took.
static constexpr std::chrono::seconds kRefreshPause{2};
static constexpr std::chrono::seconds kRetryMounts{30};
static constexpr uint64_t kMostExpected =
    16'000'000;  // memory is set aside for so many entries on the metadata's word alone

// ---- names
// -----------------------------------------------------------------------------------------------------------

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

static std::string list_file(const Config& c) {
  if (!c.is_private) return c.state_dir + "/mounts.json";
  return fmt::format("{}/mounts-{:016x}.json", c.state_dir, XXH3_64bits(c.cache_dir.data(), c.cache_dir.size()));
}

// An engine of this machine alone is its own copy.
static std::string copies_file(const Config& c) {
  return c.meta.starts_with("local:") ? "" : c.state_dir + "/datasets.json";
}

static bool may_pass(int code) {
  return code == EIO || code == ETIMEDOUT || code == ECONNREFUSED || code == EHOSTUNREACH || code == ENETUNREACH ||
         code == EAGAIN || code == ECONNRESET;
}

Datasets::Datasets(Parts parts) : p_(std::move(parts)), list_(list_file(p_.config)), copies_(copies_file(p_.config)) {}

Datasets::~Datasets() {
  stop();
}

// ---- looking up
// ------------------------------------------------------------------------------------------------------

std::shared_ptr<Dataset> Datasets::find(uint64_t id) const {
  std::lock_guard lock(mutex_);
  auto it = datasets_.find(id);
  return it == datasets_.end() ? nullptr : it->second;
}

std::vector<Mount> Datasets::mounts() const {
  std::lock_guard lock(mutex_);
  return mounts_;
}

std::vector<std::shared_ptr<Dataset>> Datasets::all() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<Dataset>> all;
  for (auto& [id, d] : datasets_)
    all.push_back(d);
  return all;
}

std::pair<Mount, std::string> Datasets::at_path(const std::string& path) const {
  std::lock_guard lock(mutex_);
  const Mount* best = nullptr;
  for (const Mount& m : mounts_) {
    bool inside = path == m.path || (path.starts_with(m.path) && path[m.path.size()] == '/');
    if (inside && (!best || m.path.size() > best->path.size())) best = &m;
  }
  if (!best) return {};
  return {*best, path.size() > best->path.size() ? path.substr(best->path.size() + 1) : ""};
}

// ---- registering
// -----------------------------------------------------------------------------------------------------

Result<DatasetDef> Datasets::format(const std::string& name, const std::string& source, const StoreOptions& options,
                                    const std::string& group) {
  Result<SourceUrl> url = parse_source(source);
  if (!url) return url.error();
  DatasetDef def;
  def.name = name;
  def.source = url->text();
  def.id = dataset_id(name, def.source);
  def.options = without_secrets(options);
  def.group = group;
  if (Result<std::shared_ptr<Store>> store = store_for(def, options); !store) return store.error();
  if (Status s = p_.meta.put_dataset(def); !s) return s.error();
  return def;
}

Result<std::shared_ptr<Store>> Datasets::store_for(const DatasetDef& def, const StoreOptions& request_options) {
  StoreOptions own = def.options;
  for (const auto& [key, value] : request_options)
    own[key] = value;
  Result<std::unique_ptr<Store>> store = p_.open_store(def.source, options_for(p_.config, def.source, own));
  if (!store) return store.error();
  return std::shared_ptr<Store>(std::move(*store));
}

// The dataset in memory, with its folder; known to the cache.
Result<std::shared_ptr<Dataset>> Datasets::open_dataset(const DatasetDef& def) {
  std::lock_guard lock(mutex_);
  auto it = datasets_.find(def.id);
  if (it != datasets_.end() && it->second->def.name == def.name) return it->second;
  if (it != datasets_.end()) p_.cache.remove(*it->second);  // a leftover whose name was not known
  Result<std::shared_ptr<Dataset>> d = Dataset::open(def, p_.dir.fd(), p_.dir.tmp_fd(), p_.meter);
  if (!d) return d;
  (*d)->fill = p_.config.fill;
  (*d)->policy = p_.config.policy;
  adopt_mirrors((*d)->mirrors.get(), def.id, p_.inodes);
  p_.cache.add(*d);
  datasets_[def.id] = *d;
  return d;
}

// The newest version that has a catalog in a dataset's folder; 0: none.
static uint64_t newest_catalog(int folder) {
  uint64_t newest = 0;
  (void)for_each_name(folder, [&](const char* name) {
    uint64_t v = 0;
    if (parse_numbered(name, kCatalogPrefix, &v)) newest = std::max(newest, v);
  });
  return newest;
}

// Only if there is a catalog to serve with it.
Result<DatasetDef> Datasets::copy_of(const std::string& name) const {
  std::optional<DatasetDef> copy = copies_.find(name);
  if (!copy) return make_error(ENOENT, "no copy");
  Result<Fd> folder = open_dir(p_.dir.fd(), dataset_path(copy->id).c_str());
  if (!folder) return folder.error();
  if (newest_catalog(folder->get()) == 0) return make_error(ENOENT, "no catalog");
  return *copy;
}

// What the metadata says, or, if it is away or has lost the dataset, what it said before.
Result<std::optional<DatasetDef>> Datasets::definition(const std::string& name) {
  Result<std::optional<DatasetDef>> def = p_.meta.get_dataset(name);
  if (def && *def) copies_.remember(**def);
  if ((def && *def) || (!def && !may_pass(def.error().code))) return def;
  Result<DatasetDef> copy = copy_of(name);
  return copy ? Result<std::optional<DatasetDef>>(std::optional(*copy)) : def;
}

Result<std::shared_ptr<Dataset>> Datasets::dataset_for(const MountRequest& r, bool* registered) {
  std::string name = r.name;
  if (name.empty()) {
    Result<SourceUrl> url = parse_source(r.source);
    if (!url) return url.error();
    name = name_for_source(url->text(), r.options);
  }
  Result<std::optional<DatasetDef>> def = definition(name);
  if (!def) return def.error();
  if (!*def && r.source.empty())
    return make_error(
        ENOENT,
        fmt::format("there is no dataset \"{}\"; register it with larder format, or mount a source", shown(name)));
  if (!*def) {
    Result<DatasetDef> made = format(name, r.source, r.options, "");
    if (!made) return made.error();
    *registered = true;
    *def = *made;
  }
  Result<std::shared_ptr<Dataset>> d = open_dataset(**def);
  if (!d) return d;
  if (r.options.empty() && (*d)->store()) return d;  // it has one; keep its connections
  (*d)->set_store(store_for(**def, r.options));
  return d;
}

// A dataset that was registered for a mount that failed.
void Datasets::discard(const std::shared_ptr<Dataset>& d) {
  (void)p_.meta.remove_dataset(d->def.name);
  copies_.forget(d->def.name);
  std::lock_guard lock(mutex_);
  p_.cache.remove(*d);
  datasets_.erase(d->id());
  const CacheName folder = dataset_path(d->id());
  ::unlinkat(d->folder_fd(), kChecksumFile, 0);
  ::unlinkat(d->folder_fd(), kPinFile, 0);
  ::unlinkat(d->folder_fd(), kMirrorFolder, AT_REMOVEDIR);
  ::unlinkat(p_.dir.fd(), folder.c_str(), AT_REMOVEDIR);
}

// ---- versions
// --------------------------------------------------------------------------------------------------------

void Datasets::log_skipped(const Dataset& d, const SkippedKeys& skipped) {
  if (skipped.count == 0) return;
  std::string examples;
  for (size_t i = 0; i < std::min<size_t>(3, skipped.examples.size()); ++i)
    examples += (i ? ", \"" : "\"") + shown(skipped.examples[i], 100) + "\"";
  spdlog::warn("{}: {} objects have keys that no path can name, such as {}; larder refresh --json lists them",
               d.label(), skipped.count, examples);
}

Result<CatalogImage> Datasets::build_stored(Dataset& d, const VersionInfo& info) {
  CatalogBuilder builder(d.id());
  builder.expect(std::min<uint64_t>(info.objects, kMostExpected));
  Status loaded = p_.meta.load(d.def.name, info.version, [&](const ObjectView& o) { return builder.add(o); });
  if (!loaded) return loaded.error();
  return builder.finish(info.version, wall_ns());
}

Result<std::shared_ptr<CatalogVersion>> Datasets::create_version(Dataset& d, CatalogImage&& image) {
  uint64_t bytes = version_bytes(image.view());
  if (!p_.cache.make_table_room(bytes))
    return make_error(
        ENOSPC,
        fmt::format("the catalog of {} takes {} bytes, and the cache has no room for it; give a larger cache_size",
                    d.label(), bytes));
  return CatalogVersion::create(d.folder_fd(), p_.dir.tmp_fd(), std::move(image), p_.meter);
}

// From the cache folder if it is there and good, else from the metadata.
Result<std::shared_ptr<CatalogVersion>> Datasets::stored_version(Dataset& d, const VersionInfo& info) {
  Result<std::shared_ptr<CatalogVersion>> v =
      CatalogVersion::open(d.folder_fd(), p_.dir.tmp_fd(), d.id(), info.version, p_.meter);
  if (v) return v;
  if (v.error().code != ENOENT) spdlog::warn("{}: {}; it is built again", d.label(), v.error().message);
  Result<CatalogImage> image = build_stored(d, info);
  if (!image) return image.error();
  return create_version(d, std::move(*image));
}

// Makes a version present in memory: the metadata's current one, else what this node has. With the dataset's
// refresh_mutex held.
Status Datasets::load_stored(Dataset& d, bool* found) {
  *found = true;
  if (d.version()) return {};
  Status s = load_current(d, found);
  if (s && (*found || !copies_.find(d.def.name))) return s;
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
Status Datasets::load_copy(Dataset& d, const Error& why) {
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

Status Datasets::load_current(Dataset& d, bool* found) {
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  *found = info->has_value();
  if (!*found) return {};
  Result<std::shared_ptr<CatalogVersion>> v = stored_version(d, **info);
  if (!v) return v.error();
  return p_.cache.adopt(d, std::move(*v));
}

Result<Datasets::Listing> Datasets::list_source(Dataset& d, const Progress& progress) {
  Result<std::shared_ptr<Store>> store = d.store();
  if (!store) return store.error();
  Result<std::unique_ptr<VersionWriter>> writer = p_.meta.write_version(d.def.name);
  if (!writer) return writer.error();
  CatalogBuilder builder(d.id());
  uint64_t objects = 0, bytes = 0;
  Status listed = (*store)->list([&](std::vector<ObjectInfo>&& page) -> Status {
    if (stopping_ || (progress.cancelled && progress.cancelled()))
      return make_error(ECANCELED, "the listing was cancelled");
    for (const ObjectInfo& o : page) {
      if (Status s = builder.add(o); !s) return s;
      if (Status s = (*writer)->add(o); !s) return s;
      bytes += o.size;
    }
    objects += page.size();
    if (progress.report) progress.report(objects, 0, bytes, 0, 0);
    return {};
  });
  if (!listed) return listed.error();
  Result<CatalogImage> image = builder.finish(0, wall_ns());
  if (!image) return image.error();
  return Listing{std::move(*image), builder.skipped(), std::move(*writer)};
}

// What differs between two catalogs, by path.
static void compare(const Catalog* before, const Catalog& after, RefreshResult* r) {
  char path[4096];
  uint64_t same_path = 0;
  for (uint32_t i = 0; i < after.entry_count; ++i) {
    const CatalogEntry& e = after.entries[i];
    if (!e.is_file()) continue;
    long len = before ? after.path_of(i, path, sizeof path) : -1;
    uint32_t old = len < 0 ? kNoEntry : before->find(path, static_cast<size_t>(len));
    if (old == kNoEntry || !before->entries[old].is_file()) {
      ++r->added;
      continue;
    }
    ++same_path;
    r->changed += before->entries[old].oid != e.oid || before->entries[old].mtime_ns != e.mtime_ns;
  }
  r->removed = before ? before->header->file_count - same_path : 0;
}

// Folders made by markers alone come and go without a file changing.
static bool same_tree(const Catalog* before, const Catalog& after, const RefreshResult& r) {
  return before && r.added + r.changed + r.removed == 0 && before->entry_count == after.entry_count &&
         before->header->skipped == after.header->skipped;
}

Result<RefreshResult> Datasets::list_and_install(Dataset& d, const Progress& progress) {
  // What is listed is compared with the newest version, which may be another node's.
  if (Status s = catch_up(d); !s)
    spdlog::warn("{}: the stored version cannot be loaded: {}", d.label(), s.error().message);
  Result<Listing> listing = list_source(d, progress);
  if (!listing) return listing.error();
  RefreshResult r;
  r.skipped = listing->skipped;
  std::shared_ptr<CatalogVersion> current = d.version();
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  std::optional<CatalogImage> stored;
  if (!current && *info)
    if (Result<CatalogImage> built = build_stored(d, **info)) stored = std::move(*built);
  std::optional<Catalog> before;
  if (current)
    before = current->catalog();
  else if (stored)
    before = stored->view();
  compare(before ? &*before : nullptr, listing->image.view(), &r);
  if (*info && same_tree(before ? &*before : nullptr, listing->image.view(), r)) {
    r.info = **info;
    return r;
  }
  log_skipped(d, r.skipped);
  Result<VersionInfo> committed = listing->writer->commit(r.skipped.count);
  if (!committed) return committed.error();
  r.info = *committed;
  listing->image.header.version = committed->version;  // the header is not part of the checksum
  if (current)
    if (Status s = install(d, std::move(listing->image)); !s) return s.error();
  spdlog::info("{}: version {}: {} objects, {} bytes; {} added, {} changed, {} removed", d.label(), r.info.version,
               r.info.objects, r.info.bytes, r.added, r.changed, r.removed);
  return r;
}

// The new version of a mounted dataset reaches programs.
Status Datasets::install(Dataset& d, CatalogImage&& image) {
  Result<std::shared_ptr<CatalogVersion>> next = create_version(d, std::move(image));
  if (!next) return next.error();
  std::shared_ptr<CatalogVersion> before = d.version();
  std::vector<ObjectCache::Match> matches;
  if (before) matches = ObjectCache::match(*before, **next);
  std::shared_ptr<CatalogVersion> old;
  {
    std::lock_guard lock(mutex_);
    if (d.version() != before || !before) return {};  // unmounted meanwhile
    old = p_.cache.switch_version(d, *next, matches);
    if (Status s = publish_locked(); !s) return s;
  }
  p_.cache.remove_obsolete(d, *old);
  remove_old_versions(d, (*next)->version());
  remove_mirrors(d.mirrors.get(), [&](uint64_t hash) { return (*next)->catalog().find_directory(hash) != kNoEntry; });
  return {};
}

// ---- other nodes
// -----------------------------------------------------------------------------------------------------

std::shared_ptr<Dataset> Datasets::mounted(const std::string& name) const {
  for (const Mount& m : mounts())
    if (m.dataset->def.name == name && m.dataset->version()) return m.dataset;
  return nullptr;
}

// With refresh_mutex held. Numbers ascend and never come back, so a metadata that was emptied or set back is not
// followed.
Status Datasets::catch_up(Dataset& d) {
  std::shared_ptr<CatalogVersion> current = d.version();
  if (!current) return {};
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  if (!*info || (*info)->version <= current->version()) return {};
  Result<CatalogImage> image = build_stored(d, **info);
  if (!image) return image.error();
  if (Status s = install(d, std::move(*image)); !s) return s;
  spdlog::info("{}: version {} of another node: {} objects, {} bytes", d.label(), (*info)->version, (*info)->objects,
               (*info)->bytes);
  return {};
}

Status Datasets::follow(const std::string& name) {
  std::shared_ptr<Dataset> d = mounted(name);
  if (!d) return {};
  std::lock_guard one(d->refresh_mutex);
  return catch_up(*d);
}

// The objects of a catalog in the order of their keys. A folder without children was a marker.
static std::vector<ObjectInfo> objects_of(const CatalogVersion& version) {
  std::vector<ObjectInfo> out;
  const Catalog& c = version.catalog();
  for (uint32_t i = 1; i < c.entry_count; ++i) {
    const CatalogEntry& e = c.entries[i];
    if (e.is_file())
      out.push_back({version.path_of(i), e.size, e.mtime_ns, std::string(version.etag_of(i))});
    else if (e.dir.child_count == 0)
      out.push_back({version.path_of(i) + "/", 0, e.mtime_ns, ""});
  }
  std::sort(out.begin(), out.end(), [](const ObjectInfo& a, const ObjectInfo& b) { return a.key < b.key; });
  return out;
}

Result<VersionInfo> Datasets::restore(const std::string& name, const std::string& source) {
  std::shared_ptr<Dataset> d = mounted(name);
  if (!d)
    return make_error(ENOENT, fmt::format("dataset \"{}\" is not mounted here; restore it on a node that has it, or "
                                          "use larder format without --restore",
                                          shown(name)));
  Result<SourceUrl> url = parse_source(source);
  if (!url) return url.error();
  if (url->text() != d->def.source)
    return make_error(EEXIST, fmt::format("dataset \"{}\" is {} here, not {}; give that source", shown(name),
                                          d->def.source, shown(source)));
  std::lock_guard one(d->refresh_mutex);
  if (Status s = p_.meta.put_dataset(d->def); !s) return s.error();
  Result<std::unique_ptr<VersionWriter>> writer = p_.meta.write_version(name);
  if (!writer) return writer.error();
  for (const ObjectInfo& o : objects_of(*d->version()))
    if (Status s = (*writer)->add(o); !s) return s.error();
  Result<VersionInfo> info = (*writer)->commit(d->version()->catalog().header->skipped);
  if (!info) return info;
  spdlog::info("{}: published again as version {}: {} objects, {} bytes", d->label(), info->version, info->objects,
               info->bytes);
  if (Status s = catch_up(*d); !s) return s.error();
  return info;
}

// ---- versions
// --------------------------------------------------------------------------------------------------------

void Datasets::remove_old_versions(Dataset& d, uint64_t current) {
  (void)for_each_name(d.folder_fd(), [&](const char* name) {
    std::string_view n = name;
    if (is_version_file(n) && n != catalog_name(current) && n != residency_name(current))
      ::unlinkat(d.folder_fd(), name, 0);
  });
}

Result<RefreshResult> Datasets::refresh(const std::string& name, const Progress& progress) {
  Result<std::optional<DatasetDef>> def = p_.meta.get_dataset(name);
  if (!def) return def.error();
  if (!*def) {
    if (std::shared_ptr<Dataset> served = mounted(name))
      return make_error(ENOENT, fmt::format("the metadata has lost dataset \"{}\"; it is served from here as it was; "
                                            "larder format {} {} --restore publishes it again",
                                            shown(name), shown(name), served->def.source));
    return make_error(ENOENT, fmt::format("there is no dataset \"{}\"; larder status lists them", shown(name)));
  }
  Result<std::shared_ptr<Dataset>> d = open_dataset(**def);
  if (!d) return d.error();
  if (!(*d)->store()) (*d)->set_store(store_for(**def, {}));
  std::lock_guard one((*d)->refresh_mutex);
  return list_and_install(**d, progress);
}

// ---- mounting
// --------------------------------------------------------------------------------------------------------

static std::string joined(const std::string& what, const Error& e) {
  return what + ": " + e.message;
}

// Makes sure that the dataset has a version in memory; lists if there is none or if asked to.
Status Datasets::ready(const std::shared_ptr<Dataset>& d, const MountRequest& r, const Progress& progress,
                       MountResult& result) {
  std::lock_guard one(d->refresh_mutex);
  bool found = false;
  if (Status s = load_stored(*d, &found); !s) return s;
  if (!found || r.refresh) {
    Result<RefreshResult> listed = list_and_install(*d, progress);
    if (!listed && !found) return listed.error();
    if (!listed)
      result.warnings.push_back(
          joined("the stored version is used, because the source could not be listed", listed.error()));
    if (!found)
      if (Status s = load_stored(*d, &found); !s) return s;
  }
  if (std::string trouble = d->trouble(); !trouble.empty())
    result.warnings.push_back("this node serves what it has: " + trouble);
  const CatalogHeader& h = *d->version()->catalog().header;
  result.info = {h.version, h.published_ns, h.file_count, h.total_bytes, h.skipped};
  if (h.file_count == 0) result.warnings.push_back("there is no object below " + d->def.source + "; check the prefix");
  if (h.skipped != 0)
    result.warnings.push_back(
        fmt::format("{} objects have keys that no path can name; larder refresh lists them", h.skipped));
  return {};
}

Status Datasets::add_mount(const MountRequest& r, const std::shared_ptr<Dataset>& d) {
  std::lock_guard lock(mutex_);
  auto it = std::find_if(mounts_.begin(), mounts_.end(), [&](const Mount& m) { return m.path == r.path; });
  std::vector<Mount> before = mounts_;
  Mount mount{r.path, d, r.fallback, r.persist, r.from_config};
  if (it == mounts_.end()) {
    if (mounts_.size() >= kMaxMounts)
      return make_error(ENOSPC, fmt::format("there are {} mounts already; unmount one first", kMaxMounts));
    mounts_.push_back(mount);
  } else {
    if (it->dataset != d)
      return make_error(EEXIST,
                        fmt::format("{} is mounted with {}; unmount it first", r.path, it->dataset->def.source));
    mount.persist = mount.persist || it->persist;
    *it = mount;
  }
  if (r.fill) d->fill = *r.fill;
  p_.cache.configure(*d, r.policy, r.quota);
  Status s = publish_locked();
  if (s) s = save_locked();
  if (!s) {
    mounts_ = before;
    (void)publish_locked();
    return s;
  }
  d->used_now();
  return {};
}

// A request for a path that is mounted: the same source is that dataset, another one is an error.
Status Datasets::use_mounted(MountRequest& r) const {
  auto [there, rest] = at_path(r.path);
  if (!there.dataset || !rest.empty()) return {};
  const DatasetDef& def = there.dataset->def;
  bool same = !r.name.empty() && r.name == def.name;
  if (!r.source.empty()) {
    Result<SourceUrl> url = parse_source(r.source);
    if (!url) return url.error();
    same = url->text() == def.source && (r.name.empty() || same);
    if (auto it = r.options.find("endpoint"); it != r.options.end())
      same = same && def.options.contains("endpoint") && def.options.at("endpoint") == it->second;
  }
  if (!same)
    return make_error(
        EEXIST, fmt::format("{} is mounted with {}; unmount it first, or choose another path", r.path, def.source));
  r.name = def.name;
  return {};
}

Result<MountResult> Datasets::mount(const MountRequest& request, const Progress& progress) {
  MountRequest r = request;
  Result<std::string> path = normal_mount_path(r.path);
  if (!path) return path.error();
  r.path = *path;
  if (Status s = use_mounted(r); !s) return s.error();
  bool registered = false;
  Result<std::shared_ptr<Dataset>> d = dataset_for(r, &registered);
  if (!d) return d.error();
  MountResult result;
  result.name = (*d)->def.name;
  result.path = r.path;
  Status s = ready(*d, r, progress, result);
  if (s) s = add_mount(r, *d);
  if (s) {
    p_.cache.keep_quota(**d);
    spdlog::info("{} is mounted at {}: version {}, {} objects, {} bytes", (*d)->def.source, r.path, result.info.version,
                 result.info.objects, result.info.bytes);
    return result;
  }
  bool used = false;
  for (const Mount& m : mounts())
    used |= m.dataset == *d;
  if (!used) p_.cache.drop_version(**d);
  if (registered && !used) discard(*d);
  return s.error();
}

Status Datasets::umount(const std::string& path) {
  Result<std::string> normal = normal_mount_path(path);
  if (!normal) return normal.error();
  std::lock_guard lock(mutex_);
  auto it = std::find_if(mounts_.begin(), mounts_.end(), [&](const Mount& m) { return m.path == *normal; });
  bool waiting = std::erase_if(retry_, [&](const MountRequest& r) { return r.path == *normal; }) > 0;
  if (it == mounts_.end() && waiting) return save_locked();
  if (it == mounts_.end())
    return make_error(ENOENT, fmt::format("nothing is mounted at {}; larder status lists the mounts", *normal));
  std::shared_ptr<Dataset> d = it->dataset;
  mounts_.erase(it);
  if (Status s = publish_locked(); !s) return s;
  bool used = std::any_of(mounts_.begin(), mounts_.end(), [&](const Mount& m) { return m.dataset == d; });
  if (!used) {
    p_.filler.stop(*d);
    p_.cache.drop_version(*d);
  }
  spdlog::info("{} is unmounted", *normal);
  return save_locked();
}

Status Datasets::publish_locked() {
  std::vector<MountView> views;
  for (const Mount& m : mounts_)
    views.push_back(MountView{m.path, m.dataset->version(), m.dataset->id(), m.fallback, m.dataset->group});
  return p_.publisher.publish_mounts(std::move(views));
}

Status Datasets::save_locked() {
  std::vector<StoredMount> stored;
  for (const Mount& m : mounts_) {
    if (m.from_config) continue;
    stored.push_back({m.path, m.dataset->def.name, m.dataset->def.source, m.fallback, m.dataset->fill,
                      m.dataset->policy, m.dataset->quota, m.persist, p_.publisher.instance()});
  }
  for (const MountRequest& r : retry_) {
    if (r.from_config) continue;
    stored.push_back({r.path, r.name, r.source, r.fallback, r.fill.value_or(p_.config.fill),
                      r.policy.value_or(p_.config.policy), r.quota.value_or(0), r.persist, p_.publisher.instance()});
  }
  return list_.save(stored);
}

Status Datasets::forget_transient_mounts() {
  std::lock_guard lock(mutex_);
  std::erase_if(mounts_, [](const Mount& m) { return !m.persist && !m.from_config; });
  std::erase_if(retry_, [](const MountRequest& r) { return !r.persist && !r.from_config; });
  if (Status s = publish_locked(); !s) return s;
  return save_locked();
}

// ---- start
// -----------------------------------------------------------------------------------------------------------

Status Datasets::take_over_folders() {
  adopt_mirrors(p_.dir.namespace_mirrors_fd(), 0, p_.inodes);
  Result<std::vector<DatasetDef>> defs = p_.meta.datasets();
  if (!defs && !may_pass(defs.error().code)) return defs.error();
  if (!defs) {
    spdlog::error("the metadata cannot be read now: {}", defs.error().message);
    defs = copies_.all();
  }
  for (uint64_t id : p_.dir.dataset_folders()) {
    auto it = std::find_if(defs->begin(), defs->end(), [&](const DatasetDef& def) { return def.id == id; });
    DatasetDef def;
    if (it != defs->end()) def = *it;
    def.id = id;
    if (Result<std::shared_ptr<Dataset>> d = open_dataset(def); !d)
      spdlog::warn("cache folder {:016x} cannot be taken over: {}", id, d.error().message);
  }
  for (const std::string& name : p_.dir.unknown_names())
    spdlog::warn("{}/{} is not Larder's; left alone", p_.dir.path(), shown(name));
  return {};
}

Status Datasets::mount_stored(const std::vector<StoredMount>& stored) {
  for (const StoredMount& m : stored) {
    bool configured =
        std::any_of(p_.config.mounts.begin(), p_.config.mounts.end(), [&](auto& c) { return c.path == m.path; });
    if (configured || (!m.persist && m.instance != p_.publisher.instance())) continue;
    MountRequest r;
    r.path = m.path;
    r.name = m.dataset;
    r.source = m.source;
    r.fallback = m.fallback;
    r.fill = m.fill;
    r.policy = m.policy;
    r.quota = m.quota;
    r.persist = m.persist;
    Result<MountResult> mounted = mount(r, {});
    if (mounted) continue;
    spdlog::error("{} cannot be mounted at {} now: {}; tried again every {} s", m.source, m.path,
                  mounted.error().message, kRetryMounts.count());
    std::lock_guard lock(mutex_);
    retry_.push_back(r);
  }
  return {};
}

Status Datasets::mount_configured() {
  for (const MountConfig& m : p_.config.mounts) {
    MountRequest r;
    r.path = m.path;
    r.name = m.dataset;
    r.source = m.source;
    r.fallback = m.fallback;
    r.fill = m.fill.value_or(p_.config.fill);
    r.policy = m.policy.value_or(p_.config.policy);
    r.quota = m.quota ? m.quota->of(p_.cache.limits().cache_size) : 0;
    r.persist = false;
    r.from_config = true;
    Result<MountResult> mounted = mount(r, {});
    if (mounted) continue;
    Error e = make_error(mounted.error().code, fmt::format("mount of {}: {}", m.path, mounted.error().message));
    if (!may_pass(e.code)) return e;
    spdlog::error("{}; tried again every {} s", e.message, kRetryMounts.count());
    std::lock_guard lock(mutex_);
    retry_.push_back(r);
  }
  return {};
}

Status Datasets::start() {
  if (Status s = take_over_folders(); !s) return s;
  Result<std::vector<StoredMount>> stored = list_.load();
  if (!stored) return stored.error();
  if (Status s = mount_stored(*stored); !s) return s;
  if (Status s = mount_configured(); !s) return s;
  {
    std::lock_guard lock(mutex_);
    if (Status s = publish_locked(); !s) return s;  // also if nothing is mounted: control may still name what was
    for (const Mount& m : mounts_)
      remove_old_versions(*m.dataset, m.dataset->version()->version());
  }
  background_ = std::thread([this] { run_background(); });
  return {};
}

// ---- in the background
// -----------------------------------------------------------------------------------------------

void Datasets::refresh_soon(std::shared_ptr<Dataset> dataset, std::function<void(const Status&)> then) {
  {
    std::lock_guard lock(mutex_);
    if (!stopping_) {
      Pending& p = wanted_[dataset->id()];
      p.dataset = std::move(dataset);
      p.then.push_back(std::move(then));
      wake_.notify_all();
      return;
    }
  }
  then(make_error(ECANCELED, "larderd is ending"));
}

void Datasets::retry_mounts() {
  std::vector<MountRequest> todo;
  {
    std::lock_guard lock(mutex_);
    todo = retry_;
  }
  for (const MountRequest& r : todo) {
    Result<MountResult> mounted = stopping_ ? make_error(ECANCELED, "") : mount(r, {});
    if (!mounted) continue;
    std::lock_guard lock(mutex_);
    std::erase_if(retry_, [&](const MountRequest& x) { return x.path == r.path; });
  }
}

// refresh_interval: an option of the dataset (larder format) or of the configuration's [stores].
void Datasets::want_refreshes_locked() {
  for (const Mount& m : mounts_) {
    if (!m.dataset->version()) continue;
    Result<int64_t> seconds =
        seconds_option(options_for(p_.config, m.dataset->def.source, m.dataset->def.options), "refresh_interval", 0);
    if (!seconds || *seconds == 0) continue;
    auto [next, is_new] = next_refresh_.try_emplace(m.dataset->id(), Clock::now() + std::chrono::seconds(*seconds));
    if (is_new || Clock::now() < next->second) continue;
    next->second = Clock::now() + std::chrono::seconds(*seconds);
    wanted_[m.dataset->id()].dataset = m.dataset;
  }
}

void Datasets::run_background() {
  Clock::time_point next_retry = Clock::now() + kRetryMounts;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    want_refreshes_locked();
    auto due =
        std::find_if(wanted_.begin(), wanted_.end(), [&](auto& w) { return not_before_[w.first] <= Clock::now(); });
    if (due == wanted_.end()) {
      wake_.wait_for(lock, std::chrono::milliseconds(wanted_.empty() ? 1000 : 50));
      if (retry_.empty() || Clock::now() < next_retry) continue;
      lock.unlock();
      retry_mounts();
      next_retry = Clock::now() + kRetryMounts;
      lock.lock();
      continue;
    }
    Pending p = std::move(due->second);
    wanted_.erase(due);
    lock.unlock();
    Clock::time_point start = Clock::now();
    Status status;
    {
      std::lock_guard one(p.dataset->refresh_mutex);
      Result<RefreshResult> r = list_and_install(*p.dataset, {});
      if (!r) status = r.error();
    }
    if (status)
      status = make_error(ESTALE, "the object changed; the dataset was listed again");
    else
      spdlog::warn("{} could not be listed again: {}", p.dataset->label(), status.error().message);
    for (auto& then : p.then)
      then(status);
    lock.lock();
    not_before_[p.dataset->id()] = Clock::now() + std::max<Clock::duration>(kRefreshPause, 3 * (Clock::now() - start));
  }
}

void Datasets::stop() {
  std::map<uint64_t, Pending> left;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    left.swap(wanted_);
    wake_.notify_all();
  }
  if (background_.joinable()) background_.join();
  for (auto& [id, p] : left)
    for (auto& then : p.then)
      then(make_error(ECANCELED, "larderd is ending"));
}

}  // namespace larder
