#include "cached/namespace/refresher.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/store/api/options.h"

namespace larder {

// A listing costs the store many requests: after one that nobody ordered, the next waits at least so long, and at least
// three times as long as the listing took.
static constexpr std::chrono::seconds kRefreshPause{2};

// ---- listing --------------------------------------------------------------------------------------------------------

Refresher::Line& Refresher::line_of(const Dataset& d) {
  MutexLock lock(mutex_);
  std::unique_ptr<Line>& line = lines_[d.id()];
  if (!line) line = std::make_unique<Line>();
  return *line;
}

Result<Refresher::Listing> Refresher::list_source(Dataset& d, Store& store, const Progress& progress) {
  Result<std::unique_ptr<VersionWriter>> writer = p_.meta.write_version(d.def.name);
  if (!writer) return writer.error();
  CatalogBuilder builder(d.id());
  uint64_t objects = 0, bytes = 0;
  ListedTwice twice;
  auto take = [&](std::vector<ObjectInfo>&& page) -> Status {
    if (stopping_ || (progress.cancelled && progress.cancelled()))
      return make_error(ECANCELED, "the listing was cancelled");
    for (const ObjectInfo& o : page) {
      if (Status s = builder.add(o); !s) return s;
      if (Status s = (*writer)->add(o); !s) return s;
      bytes += o.size;
    }
    objects += page.size();
    if (Status s = p_.versions.may_take(d, builder.bytes()); !s) return s;  // a list without an end must end
    if (progress.report) progress.report(objects, 0, bytes, 0, 0);
    return {};
  };
  if (Status listed = list_distinct(store, take, twice); !listed) return listed.error();
  Result<CatalogImage> image = builder.finish(0, wall_ns());
  if (!image) return image.error();
  return Listing{std::move(*image), builder.skipped(), std::move(twice), std::move(*writer)};
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
static bool same_folders(const Catalog& before, const Catalog& after) {
  char path[4096];
  for (uint32_t i = 0; i < after.entry_count; ++i) {
    if (after.entries[i].is_file()) continue;
    const long len = after.path_of(i, path, sizeof path);
    const uint32_t old = len < 0 ? kNoEntry : before.find(path, static_cast<size_t>(len));
    if (old == kNoEntry || before.entries[old].is_file()) return false;
  }
  return true;
}

static bool same_tree(const Catalog* before, const Catalog& after, const RefreshResult& r) {
  return before && r.added + r.changed + r.removed == 0 && before->entry_count == after.entry_count &&
         before->header->skipped == after.header->skipped && same_folders(*before, after);
}

static void log_skipped(const Dataset& d, const SkippedKeys& skipped) {
  if (skipped.count == 0) return;
  std::string examples;
  for (size_t i = 0; i < std::min<size_t>(3, skipped.examples.size()); ++i)
    examples += (i ? ", \"" : "\"") + shown(skipped.examples[i], 100) + "\"";
  spdlog::warn("{}: {} objects have keys that no path can name, such as {}; larder refresh --json lists them",
               d.label(), skipped.count, examples);
}

Result<RefreshResult> Refresher::list_and_install(Dataset& d, Store& store, const Progress& progress) {
  // What is listed is compared with the newest version, which may be another node's.
  if (Status s = p_.versions.catch_up(d); !s)
    spdlog::warn("{}: the stored version cannot be loaded: {}", d.label(), s.error().message);
  Result<Listing> listing = list_source(d, store, progress);
  if (!listing) return listing.error();
  return commit(d, std::move(*listing));
}

// A version for what was listed, unless it is what the newest version says already.
Result<RefreshResult> Refresher::commit(Dataset& d, Listing listing) {
  RefreshResult r;
  r.skipped = listing.skipped;
  r.twice = listing.twice;
  if (r.twice.count > 0) spdlog::warn("{}: {}", d.label(), r.twice.text());
  std::shared_ptr<CatalogVersion> current = d.version();
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  std::optional<CatalogImage> stored;
  if (!current && *info)
    if (Result<CatalogImage> built = p_.versions.build(d, **info)) stored = std::move(*built);
  std::optional<Catalog> before;
  if (current)
    before = current->catalog();
  else if (stored)
    before = stored->view();
  compare(before ? &*before : nullptr, listing.image.view(), &r);
  if (*info && same_tree(before ? &*before : nullptr, listing.image.view(), r)) {
    r.info = **info;
    return r;
  }
  log_skipped(d, r.skipped);
  Result<VersionInfo> committed = listing.writer->commit(r.skipped.count);
  if (!committed) return committed.error();
  r.info = *committed;
  listing.image.header.version = committed->version;  // the header is not part of the checksum
  if (current)
    if (Status s = p_.versions.install(d, std::move(listing.image)); !s) return s.error();
  spdlog::info("{}: version {}: {} objects, {} bytes; {} added, {} changed, {} removed", d.label(), r.info.version,
               r.info.objects, r.info.bytes, r.added, r.changed, r.removed);
  return r;
}

// The store that this daemon reads is the one that who asks means, or he is refused: never another store's bytes.
Status Refresher::same_meaning(Line& line, const Dataset& d, const SourceMeaning& wanted) const {
  if (!line.meaning || *line.meaning == wanted) return {};
  const std::string what = difference(*line.meaning, wanted);
  if (what.empty()) return {};
  return make_error(EBUSY, fmt::format("{} means another store than the one that this larderd (pid {}) reads: {}; end "
                                       "it with larder shutdown, or give LARDER_SOCKET another path for a larderd of "
                                       "its own",
                                       d.def.source, ::getpid(), what));
}

// A store that is there keeps its connections, unless a request brings other options. One that cannot be opened is the
// dataset's error to say, when somebody needs it: what is cached is served all the same.
Status Refresher::connect(Line& line, Dataset& d, const MountRequest& r) {
  Result<SourceMeaning> ours = p_.definitions.meaning(d.def, r.options);
  if (!line.meaning && ours) line.meaning = *ours;
  if (!r.environment.empty()) {
    Result<SourceMeaning> theirs = p_.definitions.meaning_to(r.environment, d.def, r.options);
    if (!theirs) return theirs.error();
    if (Status s = same_meaning(line, d, *theirs); !s) return s;
  }
  if (d.store() && (r.options.empty() || r.options == line.options)) return {};
  if (d.version() && ours)
    if (Status s = same_meaning(line, d, *ours); !s) return s;
  Result<std::shared_ptr<Store>> store = p_.definitions.open_store(d.def, r.options);
  if (!store && !r.options.empty() && !r.offline) return store.error();
  d.set_store(std::move(store));
  line.options = r.options;
  if (ours) line.meaning = *ours;
  return {};
}

Result<RefreshResult> Refresher::list(Line& line, Dataset& d, Clock::time_point asked, const Progress& progress) {
  Result<std::shared_ptr<Store>> store = d.store();
  if (!store) return store.error();
  if (line.result && line.began >= asked && line.store == *store) return *line.result;
  const Clock::time_point began = Clock::now();
  Result<RefreshResult> result = list_and_install(d, **store, progress);
  if (!result && result.error().code == ECANCELED) return result;  // nobody else's affair
  line.began = began;
  line.store = *store;
  line.result = result;
  return result;
}

static Error nothing_stored(const Dataset& d) {
  return make_error(ENOENT, fmt::format("{} has no stored version, and offline nothing is listed; list it once without "
                                        "--offline (and without offline in larder.toml)",
                                        d.label()));
}

Result<RefreshResult> Refresher::stored(Dataset& d) {
  if (Status s = p_.versions.catch_up(d); !s) return s.error();
  Result<std::optional<VersionInfo>> info = p_.meta.current(d.def.name);
  if (!info) return info.error();
  if (!*info) return nothing_stored(d);
  RefreshResult r;
  r.info = **info;
  return r;
}

Result<RefreshResult> Refresher::refresh(const std::string& name, const Progress& progress, bool offline) {
  const Clock::time_point asked = Clock::now();
  Result<std::optional<DatasetDef>> def = p_.meta.get_dataset(name);
  if (!def) return def.error();
  if (!*def) {
    if (std::shared_ptr<Dataset> served = p_.registry.mounted(name))
      return make_error(ENOENT, fmt::format("the metadata has lost dataset \"{}\"; it is served from here as it was; "
                                            "larder format {} {} --restore publishes it again",
                                            shown(name), shown(name), served->def.source));
    return make_error(ENOENT, fmt::format("there is no dataset \"{}\"; larder status lists them", shown(name)));
  }
  Result<std::shared_ptr<Dataset>> d = p_.registry.open(**def);
  if (!d) return d.error();
  Line& line = line_of(**d);
  MutexLock in_line(line.mutex);
  if (offline || p_.config.offline) return stored(**d);
  if (Status s = connect(line, **d, MountRequest()); !s) return s.error();
  return list(line, **d, asked, progress);
}

Status Refresher::ensure_version(Dataset& d, const MountRequest& r, const Progress& progress,
                                 std::vector<std::string>& warnings) {
  Line& line = line_of(d);
  MutexLock in_line(line.mutex);
  if (Status s = connect(line, d, r); !s) return s;
  bool found = false;
  if (Status s = p_.versions.load(d, &found); !s) return s;
  if (r.offline || p_.config.offline) return found ? Status() : nothing_stored(d);
  if (found && !r.refresh) return {};
  Result<RefreshResult> listed = list(line, d, r.asked, progress);
  if (!listed && !(found && may_pass(listed.error().code))) return listed.error();
  if (!listed)
    warnings.push_back("the stored version is used, because the source could not be listed: " + listed.error().message);
  else if (listed->twice.count > 0)
    warnings.push_back(listed->twice.text());
  return found ? Status() : p_.versions.load(d, &found);
}

// ---- other nodes ----------------------------------------------------------------------------------------------------

Status Refresher::follow(const std::string& name) {
  std::shared_ptr<Dataset> d = p_.registry.mounted(name);
  if (!d) return {};
  Line& line = line_of(*d);
  if (!line.mutex.try_lock()) return make_error(EAGAIN, d->label() + " is being listed");
  Status s = p_.versions.catch_up(*d);
  line.mutex.unlock();
  return s;
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

Result<VersionInfo> Refresher::restore(const std::string& name, const std::string& source) {
  std::shared_ptr<Dataset> d = p_.registry.mounted(name);
  if (!d)
    return make_error(ENOENT, fmt::format("dataset \"{}\" is not mounted here; restore it on a node that has it, or "
                                          "use larder format without --restore",
                                          shown(name)));
  Result<SourceUrl> url = parse_source(source);
  if (!url) return url.error();
  if (url->text() != d->def.source)
    return make_error(EEXIST, fmt::format("dataset \"{}\" is {} here, not {}; give that source", shown(name),
                                          d->def.source, shown(source)));
  MutexLock in_line(line_of(*d).mutex);
  std::shared_ptr<CatalogVersion> version = d->version();
  if (!version) return make_error(ESTALE, fmt::format("dataset \"{}\" was unmounted meanwhile", shown(name)));
  if (Status s = p_.meta.put_dataset(d->def); !s) return s.error();
  Result<std::unique_ptr<VersionWriter>> writer = p_.meta.write_version(name);
  if (!writer) return writer.error();
  for (const ObjectInfo& o : objects_of(*version))
    if (Status s = (*writer)->add(o); !s) return s.error();
  Result<VersionInfo> info = (*writer)->commit(version->catalog().header->skipped);
  if (!info) return info;
  spdlog::info("{}: published again as version {}: {} objects, {} bytes", d->label(), info->version, info->objects,
               info->bytes);
  if (Status s = p_.versions.catch_up(*d); !s) return s.error();
  return info;
}

// ---- in the background ----------------------------------------------------------------------------------------------

void Refresher::start() {
  background_ = std::thread([this] { run_background(); });
}

void Refresher::soon(std::shared_ptr<Dataset> dataset, Then then) {
  if (p_.config.offline)
    return then(make_error(EIO, "the store has another object than the stored version, and offline nothing is listed"));
  {
    MutexLock lock(mutex_);
    if (!stopping_) {
      Wanted& wanted = wanted_[dataset->id()];
      wanted.dataset = std::move(dataset);
      wanted.then.push_back(std::move(then));
      wake_.notify_all();
      return;
    }
  }
  then(make_error(ECANCELED, "larderd is ending"));
}

// refresh_interval: an option of the dataset (larder format) or of the configuration's [stores].
void Refresher::want_intervals() {
  if (p_.config.offline) return;
  for (const Mount& m : p_.registry.mounts()) {
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

// A dataset that is being listed is due when that listing has ended and its pause is over.
std::optional<Refresher::Wanted> Refresher::take_due() {
  auto due = std::find_if(wanted_.begin(), wanted_.end(), [this](auto& w) {
    mutex_.assert_held();
    return not_before_[w.first] <= Clock::now();
  });
  if (due == wanted_.end()) return std::nullopt;
  Wanted wanted = std::move(due->second);
  not_before_[due->first] = Clock::time_point::max();
  wanted_.erase(due);
  return wanted;
}

void Refresher::run_background() {
  MutexLock lock(mutex_);
  while (!stopping_) {
    want_intervals();
    std::optional<Wanted> due = take_due();
    if (!due) {
      wake_.wait_for(mutex_, std::chrono::milliseconds(wanted_.empty() ? 1000 : 50));
      continue;
    }
    lock.unlock();
    auto job = std::make_shared<Wanted>(std::move(*due));
    if (!listers_.run([this, job] { list_again(*job); })) list_again(*job);
    lock.lock();
  }
}

void Refresher::list_again(const Wanted& wanted) {
  const Clock::time_point began = Clock::now();
  Dataset& d = *wanted.dataset;
  Status status;
  {
    Line& line = line_of(d);
    MutexLock in_line(line.mutex);
    Result<RefreshResult> r = list(line, d, began, {});
    if (!r) status = r.error();
  }
  if (status)
    status = make_error(ESTALE, "the object changed; the dataset was listed again");
  else
    spdlog::warn("{} could not be listed again: {}", d.label(), status.error().message);
  for (auto& then : wanted.then)
    then(status);
  MutexLock lock(mutex_);
  not_before_[d.id()] = Clock::now() + std::max<Clock::duration>(kRefreshPause, 3 * (Clock::now() - began));
  wake_.notify_all();
}

void Refresher::stop() {
  std::map<uint64_t, Wanted> left;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.notify_all();
  }
  if (background_.joinable()) background_.join();
  listers_.stop();
  {
    MutexLock lock(mutex_);
    left.swap(wanted_);
  }
  for (auto& [id, wanted] : left)
    for (auto& then : wanted.then)
      then(make_error(ECANCELED, "larderd is ending"));
}

}  // namespace larder
