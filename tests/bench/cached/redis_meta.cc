// What metadata in Redis costs: bytes an object (MEMORY USAGE), time to publish, time until a fresh node has its
// catalog; beside the obvious layout, one HASH with a field an object. Starts its own redis-server; prints a line of
// JSON a layout.
//
//   build/bench/cached/redis_meta [OBJECTS, 1000000 unless given]
//   build/bench/cached/redis_meta OBJECTS URL SOURCE    only publishes the dataset "bench" with this source there
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <thread>

#include "cached/catalog/catalog_builder.h"
#include "cached/catalog/dataset.h"
#include "cached/meta/redis/redis_client.h"
#include "cached/meta/redis/redis_meta.h"

namespace {

using namespace larder;
using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// A redis-server that ends with this object.
class Server {
 public:
  Server() {
    std::string name = (std::filesystem::temp_directory_path() / "larder-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return;
    dir_ = name;
    pid_ = fork();
    if (pid_ != 0) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execlp("redis-server", "redis-server", "--port", "0", "--unixsocket", socket().c_str(), "--save", "",
           "--appendonly", "no", "--logfile", (dir_ + "/log").c_str(), nullptr);
    _exit(127);
  }
  ~Server() {
    if (pid_ > 0) kill(pid_, SIGKILL);
    if (pid_ > 0) waitpid(pid_, nullptr, 0);
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  std::string socket() const { return dir_ + "/s"; }

 private:
  std::string dir_;
  pid_t pid_ = -1;
};

// As in ImageNet: about 40 characters of path, an MD5 as etag.
ObjectInfo object_of(uint64_t i) {
  return {fmt::format("train/n{:08}/n{:08}_{:08}.JPEG", i / 1300 + 1440764, i / 1300 + 1440764, i),
          100'000 + i % 20'000, static_cast<int64_t>(1'700'000'000 + i / 50) * 1'000'000'000,
          fmt::format("{:016x}{:016x}", i * 0x9e3779b97f4a7c15ULL, (i + 1) * 0xc2b2ae3d27d4eb4fULL)};
}

int fail(const Error& error) {
  fmt::print(stderr, "redis_meta: {}\n", error.message);
  return 1;
}

Result<double> memory_of(RedisClient& client, const std::string& pattern) {
  auto keys = client.run(RedisCommand("KEYS").add(pattern));
  if (!keys) return keys.error();
  double bytes = 0;
  for (const RedisReply& key : keys->items) {
    auto usage = client.run(RedisCommand("MEMORY").add("USAGE").add(key.text).add("SAMPLES").add("0"));
    if (!usage) return usage.error();
    bytes += static_cast<double>(usage->integer);
  }
  return bytes;
}

Result<VersionInfo> publish(Meta& meta, const std::string& source, uint64_t objects) {
  if (auto s = meta.put_dataset({"bench", dataset_id("bench", source), source, {}, ""}); !s) return s.error();
  auto writer = meta.write_version("bench");
  if (!writer) return writer.error();
  for (uint64_t i = 0; i < objects; ++i)
    if (auto s = (*writer)->add(object_of(i)); !s) return s.error();
  return (*writer)->commit(0);
}

Status segments(Meta& meta, RedisClient& client, uint64_t objects) {
  Result<VersionInfo> info = make_error(EIO, "");
  const double written = seconds([&] { info = publish(meta, "s3://bench/", objects); });
  if (!info) return info.error();
  Status loaded, built;
  uint64_t seen = 0;
  const double load =
      seconds([&] { loaded = meta.load("bench", info->version, [&](const ObjectView&) { return ++seen, Status(); }); });
  if (!loaded) return loaded;
  if (seen != objects) return make_error(EIO, "objects are missing");
  const double ready = seconds([&] {
    CatalogBuilder builder(1);
    builder.expect(objects);
    built = meta.load("bench", info->version, [&](const ObjectView& o) { return builder.add(o); });
    if (built && !builder.finish(info->version, 0)) built = make_error(EIO, "the catalog could not be built");
  });
  if (!built) return built;
  auto bytes = memory_of(client, "ds:{bench}:*");
  if (!bytes) return bytes.error();
  fmt::print(
      "{{\"layout\": \"segments\", \"bytes_an_object\": {:.1f}, \"written_s\": {:.3f}, \"loaded_s\": {:.3f}, "
      "\"catalog_s\": {:.3f}}}\n",
      *bytes / static_cast<double>(objects), written, load, ready);
  return {};
}

// Field: path; value: size, mtime and etag in 32 bytes.
Status hash_layout(RedisClient& client, uint64_t objects) {
  constexpr uint64_t kFields = 500;
  Status status;
  const double written = seconds([&] {
    for (uint64_t at = 0; status && at < objects; at += kFields) {
      RedisCommand set("HSET");
      set.key("hash");
      for (uint64_t i = at; i < std::min(objects, at + kFields); ++i)
        set.add(object_of(i).key).add(std::string(32, static_cast<char>('a' + i % 26)));
      if (auto reply = client.run(set); !reply) status = reply.error();
    }
  });
  if (!status) return status;
  uint64_t seen = 0;
  std::string cursor = "0";
  const double load = seconds([&] {
    do {
      auto page = client.run(RedisCommand("HSCAN").key("hash").add(cursor).add("COUNT").add("1000"));
      if (!page || page->items.size() != 2) break;
      seen += page->items[1].items.size() / 2;
      cursor = page->items[0].text;
    } while (cursor != "0");
  });
  if (seen < objects) return make_error(EIO, "objects are missing");
  auto bytes = memory_of(client, "hash");
  if (!bytes) return bytes.error();
  fmt::print("{{\"layout\": \"hash\", \"bytes_an_object\": {:.1f}, \"written_s\": {:.3f}, \"loaded_s\": {:.3f}}}\n",
             *bytes / static_cast<double>(objects), written, load);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  const uint64_t objects = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  if (objects == 0) return fail(make_error(EINVAL, fmt::format("'{}' is no number of objects", argv[1])));
  if (argc == 4) {
    auto meta = RedisMeta::open(argv[2]);
    auto info = meta ? publish(**meta, argv[3], objects) : Result<VersionInfo>(meta.error());
    return info ? 0 : fail(info.error());
  }
  const Server server;
  const std::string url = "unix://" + server.socket() + "?timeout=60000";
  for (int i = 0; i < 200 && access(server.socket().c_str(), F_OK) != 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  auto meta = RedisMeta::open(url);
  auto parsed = parse_redis_url(url);
  if (!meta) return fail(meta.error());
  if (!parsed) return fail(parsed.error());
  RedisClient client(*parsed);
  if (auto s = segments(**meta, client, objects); !s) return fail(s.error());
  if (auto s = hash_layout(client, objects); !s) return fail(s.error());
  return 0;
}
