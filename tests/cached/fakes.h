// Shared by the daemon's tests: an in-memory store and metadata, a cache folder in /dev/shm, and the parts put
// together.
#pragma once
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/fetch/object_fetcher.h"
#include "cached/namespace/datasets.h"

namespace larder::test {

// A temporary folder in /dev/shm, removed with its content.
class TempFolder {
 public:
  TempFolder() {
    std::string name = "/dev/shm/larder-test-XXXXXX";
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Objects in memory; GETs are served by one thread, and only while the gate is open.
struct FakeBucket {
  struct Entry {
    std::string body, etag;
    int64_t mtime = 1000000000;
    uint64_t size = 0;  // as listed, where it is not the body's
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, Entry> objects;
  bool open = true;
  std::optional<Error> get_error, list_error;
  int flips = 0;  // of so many bodies the last byte is another; < 0: always. They end with flip_error
  int flip_error = kWrongBytes;
  uint64_t cut_short = 0;                             // bytes left out at the end of each body
  std::optional<uint64_t> halt_at;                    // bytes of a body after which its GET waits for go_on() ...
  std::optional<Error> halt_error;                    // ... or ends so
  std::vector<std::pair<uint64_t, uint64_t>> ranges;  // offset and length, as asked for
  uint64_t gets = 0, lists = 0;
  size_t most_at_once = 0;
  std::vector<std::string> order;  // keys, as asked for
  std::vector<std::string> hurried;

  void put(const std::string& key, const std::string& body, const std::string& etag = "") {
    std::lock_guard lock(mutex);
    objects[key] = {body, etag.empty() ? fmt::format("{:x}", XXH3_64bits(body.data(), body.size())) : etag};
  }
  void remove(const std::string& key) {
    std::lock_guard lock(mutex);
    objects.erase(key);
  }
  void set_open(bool value) {
    std::lock_guard lock(mutex);
    open = value;
    changed.notify_all();
  }
  void go_on() {
    std::lock_guard lock(mutex);
    halt_at.reset();
    changed.notify_all();
  }
  uint64_t get_count() {
    std::lock_guard lock(mutex);
    return gets;
  }
};

class FakeStore : public Store {
 public:
  explicit FakeStore(std::shared_ptr<FakeBucket> bucket) : b_(std::move(bucket)), thread_([this] { work(); }) {}
  ~FakeStore() override {
    {
      std::lock_guard lock(b_->mutex);
      stopping_ = true;
      b_->changed.notify_all();
    }
    thread_.join();
  }
  Status list(const std::function<Status(std::vector<ObjectInfo>&&)>& page) override {
    std::vector<ObjectInfo> all;
    {
      std::lock_guard lock(b_->mutex);
      ++b_->lists;
      if (b_->list_error) return *b_->list_error;
      for (auto& [key, e] : b_->objects)
        all.push_back({key, e.size ? e.size : e.body.size(), e.mtime, e.etag});
    }
    return page(std::move(all));
  }
  Result<ObjectInfo> head(std::string_view) override { return make_error(ENOSYS, "not asked for"); }
  void get(GetRequest request) override {
    std::lock_guard lock(b_->mutex);
    ++b_->gets;
    b_->order.push_back(request.key);
    b_->ranges.emplace_back(request.offset, request.length);
    queue_.push_back(std::move(request));
    b_->most_at_once = std::max(b_->most_at_once, queue_.size() + (busy_ ? 1 : 0));
    b_->changed.notify_all();
  }
  void hurry(std::string_view key) override {
    std::lock_guard lock(b_->mutex);
    b_->hurried.emplace_back(key);
  }
  StoreCounters counters() const override { return {}; }

 private:
  void work() {
    std::unique_lock lock(b_->mutex);
    for (;;) {
      b_->changed.wait(lock, [this] { return stopping_ || (b_->open && !queue_.empty()); });
      if (stopping_) return;
      GetRequest r = std::move(queue_.front());
      queue_.pop_front();
      busy_ = true;
      lock.unlock();
      Status s = serve(r);
      lock.lock();
      busy_ = false;
      lock.unlock();
      r.on_done(s);
      r = GetRequest();
      lock.lock();
    }
  }
  Status body_of(const GetRequest& r, std::string* body) {
    std::lock_guard lock(b_->mutex);
    if (b_->get_error) return *b_->get_error;
    auto it = b_->objects.find(r.key);
    if (it == b_->objects.end()) return make_error(ENOENT, "no such object");
    if (it->second.etag != r.etag) return make_error(ESTALE, "the object changed");
    *body =
        it->second.body.substr(0, it->second.body.size() - std::min<uint64_t>(b_->cut_short, it->second.body.size()));
    return {};
  }
  bool flip(std::string* body) {
    std::lock_guard lock(b_->mutex);
    if (b_->flips == 0 || body->empty()) return false;
    body->back() = static_cast<char>(b_->flips > 0 ? 'a' + b_->flips-- : '!');
    return true;
  }
  Status serve(const GetRequest& r) {
    std::string body;
    Status s = body_of(r, &body);
    const bool wrong = s && flip(&body);
    if (r.offset > 0 || r.length < body.size()) body = body.substr(std::min<size_t>(r.offset, body.size()), r.length);
    const size_t first = halt(body.size());
    for (auto [at, len] : {std::pair<size_t, size_t>{0, first}, {first, body.size() - first}}) {
      if (s && at > 0) s = halted();
      if (s && len > 0) s = r.on_data(std::as_bytes(std::span(body.data() + at, len)));
    }
    return s && wrong ? make_error(b_->flip_error, "the bytes do not match the store's checksum") : s;
  }
  size_t halt(size_t size) {
    std::lock_guard lock(b_->mutex);
    return b_->halt_at ? std::min<size_t>(*b_->halt_at, size) : size / 2;
  }
  Status halted() {
    std::unique_lock lock(b_->mutex);
    if (b_->halt_at && b_->halt_error) return *b_->halt_error;
    b_->changed.wait(lock, [this] { return stopping_ || !b_->halt_at; });
    return {};
  }

  std::shared_ptr<FakeBucket> b_;
  std::deque<GetRequest> queue_;
  bool stopping_ = false, busy_ = false;
  std::thread thread_;
};

// Metadata in memory, shared by daemons one after the other.
class FakeMeta : public Meta {
 public:
  struct State {
    std::map<std::string, DatasetDef> defs;
    std::map<std::string, std::vector<std::pair<VersionInfo, std::vector<ObjectInfo>>>> versions;
  };
  explicit FakeMeta(std::shared_ptr<State> state) : s_(std::move(state)) {}
  Status put_dataset(const DatasetDef& def) override {
    auto it = s_->defs.find(def.name);
    if (it != s_->defs.end() && it->second.source != def.source) return make_error(EEXIST, "another source");
    s_->defs[def.name] = def;
    return {};
  }
  Result<std::optional<DatasetDef>> get_dataset(std::string_view name) override {
    auto it = s_->defs.find(std::string(name));
    return it == s_->defs.end() ? std::optional<DatasetDef>() : std::optional(it->second);
  }
  Result<std::vector<DatasetDef>> datasets() override {
    std::vector<DatasetDef> all;
    for (auto& [name, def] : s_->defs)
      all.push_back(def);
    return all;
  }
  Status publish_node(std::string_view, const NodeInfo&) override { return {}; }
  Result<std::vector<NodeInfo>> nodes(std::string_view) override { return std::vector<NodeInfo>(); }
  Status remove_dataset(std::string_view name) override {
    s_->defs.erase(std::string(name));
    s_->versions.erase(std::string(name));
    return {};
  }
  Result<std::optional<VersionInfo>> current(std::string_view name) override {
    auto it = s_->versions.find(std::string(name));
    return it == s_->versions.end() || it->second.empty() ? std::optional<VersionInfo>()
                                                          : std::optional(it->second.back().first);
  }
  Result<std::unique_ptr<VersionWriter>> write_version(std::string_view name) override {
    struct Writer : VersionWriter {
      std::shared_ptr<State> s;
      std::string name;
      std::vector<ObjectInfo> objects;
      Status add(const ObjectInfo& o) override { return objects.push_back(o), Status(); }
      Result<VersionInfo> commit(uint64_t skipped) override {
        VersionInfo info;
        info.version = s->versions[name].size() + 1;
        info.objects = objects.size();
        for (auto& o : objects)
          info.bytes += o.size;
        info.skipped = skipped;
        s->versions[name].emplace_back(info, std::move(objects));
        return info;
      }
    };
    auto w = std::make_unique<Writer>();
    w->s = s_;
    w->name = name;
    return std::unique_ptr<VersionWriter>(std::move(w));
  }
  Status load(std::string_view name, uint64_t version, const ObjectReceiver& object) override {
    for (const ObjectInfo& o : s_->versions[std::string(name)].at(version - 1).second)
      if (Status s = object(o); !s) return s;
    return {};
  }

 private:
  std::shared_ptr<State> s_;
};

// The parts of one daemon without its socket, over a bucket, metadata and folders that outlive it.
struct Outside {
  TempFolder folder;
  std::shared_ptr<FakeBucket> bucket = std::make_shared<FakeBucket>();
  std::shared_ptr<FakeMeta::State> meta = std::make_shared<FakeMeta::State>();
  Config config;
  CacheLimits limits{64 << 20, 0, 640 << 10};
  Outside() {
    ::signal(SIGIO, SIG_IGN);
    spdlog::set_level(spdlog::level::critical);
    config.cache_dir = folder / "cache";
    config.state_dir = folder / "state";
    config.fill = Fill::kOff;
    std::filesystem::create_directory(config.state_dir);
  }
};

template <typename T>
T must(Result<T> r) {
  EXPECT_TRUE(r.ok()) << (r.ok() ? "" : r.error().message);
  return std::move(*r);
}

inline Result<std::unique_ptr<CacheDir>> open_cache(const std::string& folder) {
  Result<Home> home = Home::folder(folder, 0755);
  return home ? CacheDir::open(std::move(*home)) : home.error();
}

struct Inside {
  explicit Inside(Outside& o, uint32_t connections = 8, uint32_t wait_ms = 300)
      : out(o),
        dir(must(open_cache(o.config.cache_dir))),
        publisher(must(ControlWriter::start(*dir, 1000, meter))),
        inodes(must(InodeTableWriter::open(*dir, *publisher, meter))),
        cache(*dir, *inodes, meter, o.limits),
        filler(std::make_shared<BackgroundFill>(cache)),
        meta(o.meta),
        flights(cache, connections, wait_ms),
        datasets({o.config, *dir, *publisher, *inodes, cache, *filler, meta, meter,
                  [this](std::string_view, const StoreOptions&) -> Result<std::unique_ptr<Store>> {
                    return std::unique_ptr<Store>(new FakeStore(out.bucket));
                  }}) {
    dir->keep();
    flights.on_stale([this](auto d, auto then) { datasets.refresh_soon(d, then); });
  }
  ~Inside() {
    out.bucket->set_open(true);
    EXPECT_TRUE(flights.stop(std::chrono::seconds(5)));
    datasets.stop();
  }

  // Mounts the bucket.
  std::shared_ptr<Dataset> mount(const std::string& path = "/data/x") {
    MountRequest r;
    r.path = path;
    r.source = "file:///bucket" + path;
    Result<MountResult> m = datasets.mount(r, {});
    EXPECT_TRUE(m.ok()) << m.error().message;
    return datasets.at_path(path).first.dataset;
  }
  Object object(const std::shared_ptr<Dataset>& d, const std::string& path) {
    std::shared_ptr<CatalogVersion> v = d->version();
    uint32_t entry = v->find_file(path);
    EXPECT_NE(entry, kNoEntry) << path;
    return object_at(d, *v, entry);
  }
  uint32_t state(const std::shared_ptr<Dataset>& d, const std::string& path) {
    return d->version()->state(d->version()->find_file(path));
  }
  // Fetches and waits; the file's content, or the error as "errno N".
  std::pair<std::string, std::shared_ptr<Fd>> fetch(const Object& o) {
    std::mutex m;
    std::condition_variable c;
    bool done = false;
    Status status;
    std::shared_ptr<Fd> fd;
    flights.fetch(o, [&](const Status& s, std::shared_ptr<Fd> f) {
      std::lock_guard lock(m);
      status = s;
      fd = std::move(f);
      done = true;
      c.notify_all();
    });
    std::unique_lock lock(m);
    while (!c.wait_for(lock, std::chrono::milliseconds(10), [&] { return done; })) {
      lock.unlock();
      flights.tick();
      cache.poll_zombies();
      lock.lock();
    }
    if (!status) return {fmt::format("errno {}", status.error().code), nullptr};
    std::string body(o.size + 10, 0);
    body.resize(static_cast<size_t>(::pread(fd->get(), body.data(), body.size(), 0)));
    return {body, fd};
  }
  std::string read(const std::shared_ptr<Dataset>& d, const std::string& path) { return fetch(object(d, path)).first; }

  Outside& out;
  Meter meter{0};
  std::unique_ptr<CacheDir> dir;
  std::unique_ptr<ControlWriter> publisher;
  std::unique_ptr<InodeTableWriter> inodes;
  ObjectCache cache;
  std::shared_ptr<BackgroundFill> filler;
  FakeMeta meta;
  ObjectFetcher flights;
  Datasets datasets;
};

inline bool eventually(const std::function<bool()>& what) {
  for (int i = 0; i < 12'000; ++i, std::this_thread::sleep_for(std::chrono::milliseconds(5)))
    if (what()) return true;
  return false;
}

}  // namespace larder::test
