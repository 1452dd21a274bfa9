// Shared by the tests of lazy objects: a daemon's parts with ChunkStore and ChunkFetcher.
#pragma once
#include <random>

#include "cached/fetch/chunk_fetcher.h"
#include "tests/cached/fakes.h"

namespace larder::test {

struct Lazily : Inside {
  explicit Lazily(Outside& o, uint32_t connections = 8, uint32_t wait_ms = 300)
      : Inside(o), lazy(*dir, *inodes, cache, meter, 128 << 10), chunks(lazy, cache, connections, wait_ms) {
    flights.on_large([this](const Object& object, bool demand, std::function<void(const Status&)> done) {
      if (!lazy.wants(object)) return false;
      if (Status s = chunks.could_be_whole(object, demand); !s) return done(s), true;
      Result<LazyPtr> f = lazy.open(object);
      if (!f)
        done(f.error());
      else
        chunks.fetch_whole(*f, demand, std::move(done));
      return true;
    });
  }
  ~Lazily() {
    out.bucket->set_open(true);
    out.bucket->go_on();
    EXPECT_TRUE(chunks.stop(std::chrono::seconds(5)));
    lazy.stop();
  }

  // A want() under way.
  struct Wanted {
    std::mutex m;
    std::condition_variable changed;
    std::optional<Status> status;
    uint64_t ticket = 0;
    bool done() {
      std::lock_guard lock(m);
      return status.has_value();
    }
  };
  std::shared_ptr<Wanted> start(const LazyPtr& f, uint32_t first, uint32_t count, uint32_t waits) {
    auto w = std::make_shared<Wanted>();
    w->ticket = chunks.want(f, first, count, waits, [w](const Status& s) {
      std::lock_guard lock(w->m);
      w->status = s;
      w->changed.notify_all();
    });
    return w;
  }
  Status wait(Wanted& w) {
    std::unique_lock lock(w.m);
    while (!w.changed.wait_for(lock, std::chrono::milliseconds(10), [&] { return w.status.has_value(); })) {
      lock.unlock();
      chunks.tick();
      lock.lock();
    }
    return *w.status;
  }
  Status want(const LazyPtr& f, uint32_t first, uint32_t count = 1) { return wait(*start(f, first, count, count)); }

  LazyPtr open(const std::shared_ptr<Dataset>& d, const std::string& path) {
    Result<LazyPtr> f = lazy.open(object(d, path));
    EXPECT_TRUE(f.ok()) << (f.ok() ? "" : f.error().message);
    return f.ok() ? *f : nullptr;
  }
  static std::string bytes(const LazyFile& f, uint32_t chunk) {
    std::string b(f.chunk_length(chunk), 0);
    b.resize(static_cast<size_t>(
        std::max<ssize_t>(0, ::pread(f.data_fd(), b.data(), b.size(), static_cast<off_t>(f.chunk_offset(chunk))))));
    return b;
  }

  ChunkStore lazy;
  ChunkFetcher chunks;
};

class LazyTest : public ::testing::Test {
 protected:
  explicit LazyTest(CacheLimits limits) { out.limits = limits; }
  static std::string body(size_t size, uint64_t seed = 1) {
    std::mt19937_64 rng(seed);
    std::string b(size, 0);
    for (size_t i = 0; i < size; i += 8) {
      const uint64_t word = rng();
      memcpy(b.data() + i, &word, std::min<size_t>(8, size - i));
    }
    return b;
  }
  // Bytes that the cache folder takes on disk, tables included.
  uint64_t on_tmpfs() const { return disk_usage(out.config.cache_dir); }
  Outside out;
};

}  // namespace larder::test
