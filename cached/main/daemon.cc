#include "cached/main/daemon.h"

#include <fmt/format.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cstdlib>
#include <thread>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/base/version.h"
#include "cached/cache/scrubber.h"
#include "cached/fetch/chunk_fetcher.h"
#include "cached/home/memory.h"
#include "cached/home/open_home.h"
#include "cached/meta/open/open_meta.h"
#include "cached/metrics/metrics_server.h"
#include "cached/namespace/node_link.h"
#include "cached/requests/admin.h"
#include "cached/requests/program_requests.h"
#include "cached/requests/stand_in.h"
#include "larder/names.h"

namespace larder {

using Clock = std::chrono::steady_clock;

static constexpr auto kTick = std::chrono::milliseconds(20);
static constexpr int kTicksASecond = 50;
static constexpr auto kFlightsEnd = std::chrono::seconds(5);
static constexpr unsigned kEndSeconds = 15;  // a store that hangs must not keep the daemon from ending

// ---- the process --------------------------------------------------------------------------------

void prepare_process() {
  sigset_t set;
  sigemptyset(&set);
  for (int sig : {SIGTERM, SIGINT})
    sigaddset(&set, sig);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);  // the server reads them
  // SIGIO: a program opened a file while its lease was tested. SIGHUP: a terminal was closed. SIGXFSZ: a file larger
  // than RLIMIT_FSIZE allows is EFBIG.
  for (int sig : {SIGPIPE, SIGIO, SIGHUP, SIGXFSZ})
    ::signal(sig, SIG_IGN);
  for (auto what : {RLIMIT_NOFILE, RLIMIT_FSIZE}) {
    struct rlimit limit;
    if (::getrlimit(what, &limit) != 0 || limit.rlim_cur >= limit.rlim_max) continue;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(what, &limit);
  }
  // Credentials are in memory: no core dump, no ptrace by others. A process may still use its own /proc/self/fd.
  ::prctl(PR_SET_DUMPABLE, 0);
}

// ---- the daemon ---------------------------------------------------------------------------------

namespace {

class Daemon {
 public:
  Daemon(const Config& config, StoreOpener open_store, StoredDescriptors stored)
      : config_(config), open_store_(std::move(open_store)), stored_(std::move(stored)) {
    if (Fd channel = stored_.take(kKeeperDescriptor); channel.valid())
      keeper_ = std::make_unique<KeeperLink>(std::move(channel));
  }

  Status start();
  Status serve();

 private:
  Status open_parts(const CacheLimits& limits);
  void resume_fills();
  std::string mounts_file() const { return config_.socket + kMountsFileSuffix; }
  void handle(IncomingRequest request);
  bool fetch_large(const Object& object, bool demand, std::function<void(const Status&)> done);
  void keep_house();
  void check_idle();
  void verify_all();
  void verify_one(const std::shared_ptr<Dataset>& dataset);
  void end();

  const Config& config_;
  StoreOpener open_store_;
  StoredDescriptors stored_;
  std::unique_ptr<KeeperLink> keeper_;  // null: nobody keeps this daemon
  Meter meter_{0};
  std::unique_ptr<CacheDir> dir_;
  std::unique_ptr<ControlWriter> publisher_;
  std::unique_ptr<StandIn> stand_in_;
  std::unique_ptr<InodeTableWriter> inodes_;
  std::unique_ptr<ObjectCache> cache_;
  std::unique_ptr<Meta> meta_;
  std::shared_ptr<BackgroundFill> filler_;
  std::unique_ptr<ChunkStore> lazy_;
  std::unique_ptr<ChunkFetcher> chunk_flights_;
  std::unique_ptr<ObjectFetcher> flights_;
  std::unique_ptr<Datasets> datasets_;
  std::unique_ptr<NodeLink> link_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<ProgramRequests> programs_;
  std::unique_ptr<Admin> admin_;
  std::unique_ptr<MetricsServer> metrics_;
  std::thread housekeeper_, verifier_;
  std::atomic<bool> ending_{false};
  Clock::time_point last_present_ = Clock::now();
};

template <typename T>
static Status take(Result<T> from, T& to) {
  if (!from) return from.error();
  to = std::move(*from);
  return {};
}

// What there is for a cache in this home, and what it has taken of that.
static Capacity capacity_of(const Home& home) {
  const FsSpace fs = fs_space(home.fd());
  Capacity c{home.kind() == HomeKind::kOwn ? "the node's memory" : "the file system of " + home.path(),
             fs.total,
             fs.free,
             UINT64_MAX,
             "",
             disk_usage(home.fd())};
  if (!home.in_memory()) return c;
  const Memory m = memory();
  c.free = std::min(c.free, m.available);
  c.limit = m.limit;
  c.limited_by = m.limited_by;
  return c;
}

// Over larderd's death, where whoever started it does that.
static void keep_home(const Home& home) {
  const Status kept = home.keep();
  if (kept) return;
  if (kept.error().code == ENOTCONN)
    spdlog::warn("the cache ends with larderd: nobody keeps its descriptors");
  else
    spdlog::error("the cache ends with larderd: its descriptors cannot be stored: {}", kept.error().message);
}

Status Daemon::start() {
  for (const std::string& w : config_.warnings)
    spdlog::warn("{}", w);
  struct rlimit largest;
  if (::getrlimit(RLIMIT_FSIZE, &largest) == 0 && largest.rlim_cur != RLIM_INFINITY)
    spdlog::warn("no file may be larger than {} bytes (ulimit -f): larger objects cannot be read", largest.rlim_cur);
  Result<Home> home = open_home(config_, stored_);
  if (!home) return home.error();
  Result<CacheLimits> limits = plan_limits(config_, capacity_of(*home));
  if (!limits && !home->was_there() && !home->path().empty()) ::rmdir(home->path().c_str());
  if (!limits) return limits.error();
  if (Status s = take(CacheDir::open(std::move(*home)), dir_); !s) return s;
  if (Status s = make_dirs(config_.state_dir, config_.is_private ? 0700 : 0755); !s)
    return make_error(s.error().code, s.error().message + "; choose another with --state-dir");
  if (Status s = open_parts(*limits); !s) return s;
  spdlog::info("larderd {} serves {}: cache {} ({}) of {} bytes, {} mounts", kVersion, config_.socket,
               dir_->home().name(), dir_->home().reason(), limits->cache_size, datasets_->mounts().size());
  return {};
}

Status Daemon::open_parts(const CacheLimits& limits) {
  meter_ += dir_->used_by_tables();
  if (Status s = take(Server::listen(config_.socket, config_.is_private, stored_.take(kSocketDescriptor)), server_); !s)
    return s;
  if (Status s = keeper_ ? server_->serve_for(*keeper_) : Status(); !s) return s;
  if (Status s = take(open_meta(config_.meta, config_.state_dir), meta_); !s) return s;
  if (Status s = take(ControlWriter::start(*dir_, config_.wait_ms, meter_), publisher_); !s) return s;
  stand_in_ =
      std::make_unique<StandIn>(StandIn::Parts{*dir_, *publisher_, keeper_.get(), mounts_file(), config_.is_private});
  publisher_->on_publish([this] { stand_in_->update(); });
  if (Status s = take(InodeTableWriter::open(*dir_, *publisher_, meter_), inodes_); !s) return s;
  cache_ = std::make_unique<ObjectCache>(*dir_, *inodes_, meter_, limits);
  lazy_ = std::make_unique<ChunkStore>(*dir_, *inodes_, *cache_, meter_, config_.lazy_threshold.of(limits.cache_size));
  filler_ = std::make_shared<BackgroundFill>(*cache_);
  chunk_flights_ = std::make_unique<ChunkFetcher>(*lazy_, *cache_, std::max(1U, config_.connections * 2 / 3),
                                                  config_.wait_ms);  // as many as a store has connections
  flights_ = std::make_unique<ObjectFetcher>(*cache_, config_.connections, config_.wait_ms);
  datasets_ = std::make_unique<Datasets>(
      Datasets::Parts{config_, *dir_, *publisher_, *inodes_, *cache_, *filler_, *meta_, meter_, open_store_});
  flights_->on_stale([this](std::shared_ptr<Dataset> d, std::function<void(const Status&)> then) {
    datasets_->refresh_soon(std::move(d), std::move(then));
  });
  chunk_flights_->on_stale([this](std::shared_ptr<Dataset> d, std::function<void(const Status&)> then) {
    datasets_->refresh_soon(std::move(d), std::move(then));
  });
  flights_->on_large([this](const Object& o, bool demand, std::function<void(const Status&)> done) {
    return fetch_large(o, demand, std::move(done));
  });
  programs_ = std::make_unique<ProgramRequests>(ProgramRequests::Parts{
      config_, *dir_, *publisher_, *inodes_, *cache_, *datasets_, *flights_, *filler_, *lazy_, *chunk_flights_});
  admin_ = std::make_unique<Admin>(Admin::Parts{config_, *dir_, *publisher_, *cache_, *datasets_, *flights_, *filler_,
                                                *server_, *meta_, programs_->miss_waits(), keeper_.get()});
  if (Status s = datasets_->start(); !s) return s;
  cache_->keep_limits();  // the former daemon's may have been larger
  link_ = std::make_unique<NodeLink>(*meta_, *datasets_, *cache_, node_name(config_.is_private));
  dir_->keep();
  resume_fills();
  flights_->add_source(filler_);
  return {};
}

// What lies there in part was being filled, or has lost something: as after a miss, the rest is fetched.
void Daemon::resume_fills() {
  for (auto& d : datasets_->all()) {
    std::shared_ptr<CatalogVersion> v = d->version();
    const uint64_t files = cache_->usage_of(*d).files;
    if (v && files > 0 && files < v->catalog().header->file_count) filler_->resume(d);
  }
}

void Daemon::handle(IncomingRequest r) {
  if (config_.is_private && r.peer.uid != 0 && r.peer.uid != ::geteuid()) return r.reply->fail(EACCES);
  switch (r.header.op) {
    case Op::kHello:
      return programs_->hello(r);
    case Op::kFetch:
      return programs_->fetch(r);
    case Op::kDirectory:
      return programs_->directory(r);
    case Op::kChunks:
      return programs_->chunks(r);
    case Op::kAdmin:
      return admin_->handle(std::move(r));
  }
  // Some are for a keeper without a larderd; there is one.
  r.reply->fail(r.header.op == kLaunch || r.header.op == kEndKeeper ? EALREADY : ENOSYS);
}

// Background work, and programs that need the whole of a large object.
bool Daemon::fetch_large(const Object& object, bool demand, std::function<void(const Status&)> done) {
  if (!lazy_->wants(object)) return false;
  if (Status s = chunk_flights_->could_be_whole(object, demand); !s) {  // before it gets a map
    done(s);
    return true;
  }
  Result<LazyPtr> file = lazy_->open(object);
  if (!file)
    done(file.error());
  else if (!*file)
    done({});
  else
    chunk_flights_->fetch_whole(*file, demand, std::move(done));
  return true;
}

Status Daemon::serve() {
  if (!config_.metrics.empty()) {
    if (Status s = take(MetricsServer::start(config_.metrics, [this] { return admin_->public_status(); }), metrics_);
        !s)
      return s;
  }
  housekeeper_ = std::thread([this] { keep_house(); });
  verifier_ = std::thread([this] { verify_all(); });
  keep_home(dir_->home());
  (void)notify("READY=1");
  Status s = server_->run([this](IncomingRequest r) { handle(std::move(r)); },
                          [this] {
                            return Server::Stamp{publisher_->generation(), publisher_->instance()};
                          });
  (void)notify("STOPPING=1");
  end();
  return s;
}

// ---- housekeeping -------------------------------------------------------------------------------

void Daemon::keep_house() {
  for (int tick = 0; !ending_; ++tick) {
    std::this_thread::sleep_for(kTick);
    flights_->tick();
    chunk_flights_->tick();
    if (tick % kTicksASecond != 0) continue;
    cache_->poll_zombies();
    cache_->keep_limits();
    filler_->tick();
    flights_->kick();
    for (auto& d : datasets_->all())
      d->drop_retired_stores();
    if (tick % (5 * kTicksASecond) == 0) cache_->note_use();
    check_idle();
  }
}

// A private daemon goes when no program has been there for linger_s.
void Daemon::check_idle() {
  if (!config_.is_private || config_.linger_s == 0) return;
  if (dir_->program_present() || admin_->busy()) last_present_ = Clock::now();
  Clock::time_point last = std::max(last_present_, server_->last_request());
  if (Clock::now() - last < std::chrono::seconds(config_.linger_s)) return;
  spdlog::info("no program for {} s: ending", config_.linger_s);
  if (Status s = datasets_->forget_transient_mounts(); !s) spdlog::warn("{}", s.error().message);
  if (keeper_) keeper_->say(KeeperOp::kIdle);
  server_->stop();
}

// What a former daemon left is compared with its checksums, and everything again every scrub_interval_s, when nothing
// else wants the processor.
void Daemon::verify_all() {
  struct sched_param idle = {};
  ::pthread_setschedparam(::pthread_self(), SCHED_IDLE, &idle);
  Clock::time_point next = Clock::now() + std::chrono::seconds(config_.scrub_interval_s);
  for (; !ending_; std::this_thread::sleep_for(kTick)) {
    if (config_.scrub_interval_s != 0 && Clock::now() >= next) {
      for (auto& d : datasets_->all())
        d->verified = false;
      next = Clock::now() + std::chrono::seconds(config_.scrub_interval_s);
    }
    for (auto& d : datasets_->all())
      if (!d->verified && d->version()) verify_one(d);
  }
}

void Daemon::verify_one(const std::shared_ptr<Dataset>& d) {
  CheckCounts counts;
  d->verified = true;
  Status s = verify(*cache_, d, "", counts, [this](const CheckCounts&) { return !ending_; });
  if (!s && s.error().code == ESTALE)
    d->verified = false;
  else if (!s && s.error().code != ECANCELED)
    spdlog::warn("{}: {}", d->label(), s.error().message);
  spdlog::info("{}: verified {} cache files, {} bytes: {} corrupt", d->label(), counts.files, counts.bytes,
               counts.corrupt.size());
}

void Daemon::end() {
  ::signal(SIGALRM, [](int) { ::_exit(0); });
  ::alarm(kEndSeconds);
  ending_ = true;
  metrics_.reset();
  bool landed = chunk_flights_->stop(kFlightsEnd);
  lazy_->stop();
  landed = flights_->stop(kFlightsEnd) && landed;
  admin_->stop();
  link_->stop();
  datasets_->stop();
  housekeeper_.join();
  verifier_.join();
  // The node's mounts will be there again; a keeper takes the file away with its socket.
  if (config_.is_private && !keeper_) ::unlink(mounts_file().c_str());
  server_.reset();  // the socket goes; whoever waits connects to the next daemon
  spdlog::info("ended");
  if (!landed) ::_exit(0);  // a store still holds requests: it may not be destroyed
}

}  // namespace

Status run_daemon(const Config& config, StoreOpener open_store, StoredDescriptors stored) {
  Daemon daemon(config, std::move(open_store), std::move(stored));
  if (Status s = daemon.start(); !s) return s;
  return daemon.serve();
}

}  // namespace larder
