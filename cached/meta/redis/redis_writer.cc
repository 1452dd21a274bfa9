#include "cached/meta/redis/redis_writer.h"

#include <openssl/sha.h>

#include <algorithm>
#include <ctime>
#include <random>
#include <set>
#include <thread>

#include "cached/base/text.h"
#include "cached/meta/definition.h"
#include "cached/meta/redis/redis_scripts.h"
#include "cached/meta/redis/redis_values.h"
#include "cached/meta/redis/redis_version.h"
#include "cached/store/api/errors.h"
#include "cached/store/checksum/digest.h"

namespace larder {
namespace {

using Clock = std::chrono::steady_clock;
using Type = RedisReply::Type;

constexpr int kLockMs = 30'000;  // of a publisher that died; publishing itself takes well below a second
constexpr auto kLockPatience = std::chrono::seconds(60);
constexpr auto kLockPause = std::chrono::milliseconds(50);
constexpr auto kKeepAlive = std::chrono::minutes(10);  // during a long listing, segments get another hour
constexpr size_t kKeepVersions = 2;
constexpr size_t kKeysAtOnce = 1000;

int64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return int64_t{t.tv_sec} * 1'000'000'000 + t.tv_nsec;
}

std::string sha1_hex(std::string_view bytes) {
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return hex(digest);
}

}  // namespace

std::string new_token() {
  std::random_device random;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", random(), random(), random(), random());
}

Result<std::string> lock_dataset(RedisShared& shared, std::string_view name, const std::string& token) {
  const RedisCommand command =
      RedisEval(redis_scripts::kLock).key(shared.keys().of(name, "lock")).arg(token).arg(kLockMs).command();
  for (const auto end = Clock::now() + kLockPatience; Clock::now() < end; std::this_thread::sleep_for(kLockPause)) {
    auto reply = shared.client.run(command);
    if (!reply) return reply.error();
    if (reply->integer == 1) return token;
  }
  return make_error(EBUSY, fmt::format("dataset '{}' has been locked by another publisher for {} s; try again",
                                       printable(name, 80), kLockPatience.count()));
}

void unlock_dataset(RedisShared& shared, std::string_view name, const std::string& token) {
  (void)shared.client.run(RedisEval(redis_scripts::kUnlock).key(shared.keys().of(name, "lock")).arg(token).command());
}

bool SegmentCutter::ends(std::string_view key, size_t objects, size_t bytes) {
  if (objects >= kSegmentObjects || bytes >= kMaxBytes - kMaxKeyBytes) return true;
  return objects >= kMinObjects && (path_hash(key.data(), key.size()) & kCutMask) == 0;
}

RedisWriter::RedisWriter(std::shared_ptr<RedisShared> shared, DatasetDef def)
    : shared_(std::move(shared)), def_(std::move(def)), token_(new_token()), alive_(Clock::now()) {}

RedisWriter::~RedisWriter() {
  if (locked_) unlock();
}

void RedisWriter::step(const char* name) const {
  if (shared_->steps) shared_->steps(name);
}

Result<int64_t> RedisWriter::number_of(const RedisCommand& command) {
  auto reply = shared_->client.run(command);
  if (!reply) return reply.error();
  if (!reply->is(Type::kInteger)) return make_error(EIO, "Redis: a script answered something else");
  return reply->integer;
}

// ---- segments -----------------------------------------------------------------------------------

Status RedisWriter::add(const ObjectInfo& object) {
  if (ended_) return make_error(EINVAL, "this version is already ended");
  Status status = segment_.add(object);
  if (status) {
    ++info_.objects;
    info_.bytes += object.size;
    if (segment_.count() == 1) first_key_ = object.key;
    if (SegmentCutter::ends(object.key, segment_.count(), segment_.bytes())) status = store_segment();
  }
  ended_ = !status;
  return status;
}

Status RedisWriter::store_segment() {
  const auto objects = static_cast<uint32_t>(segment_.count());
  const std::string bytes = segment_.finish();
  const ObjectId hash = segment_hash(bytes);
  rows_.push_back({hash, static_cast<uint32_t>(bytes.size()), objects, first_key_});
  const std::string name = shared_->keys().segment(def_.name, hash);
  step("segment");
  auto there =
      number_of(RedisEval(redis_scripts::kTouchSegment).key(name).arg(sha1_hex(bytes)).arg(kGraceSeconds).command());
  if (!there) return there.error();
  if (*there != 1)
    if (auto stored =
            number_of(RedisEval(redis_scripts::kStoreSegment).key(name).arg(bytes).arg(kGraceSeconds).command());
        !stored)
      return stored.error();
  return Clock::now() - alive_ > kKeepAlive ? keep_alive() : Status();
}

Status RedisWriter::keep_alive() {
  for (size_t at = 0; at < rows_.size(); at += kKeysAtOnce) {
    RedisEval touch(redis_scripts::kTouchMany);
    for (size_t i = at; i < std::min(rows_.size(), at + kKeysAtOnce); ++i)
      touch.key(shared_->keys().segment(def_.name, rows_[i].hash));
    if (auto status = number_of(touch.arg(kGraceSeconds).command()); !status) return status.error();
  }
  alive_ = Clock::now();
  return {};
}

// ---- publishing ---------------------------------------------------------------------------------

Status RedisWriter::lock() {
  step("lock");
  auto locked = lock_dataset(*shared_, def_.name, token_);
  if (!locked) return locked.error();
  locked_ = true;
  return {};
}

void RedisWriter::unlock() {
  step("unlock");
  unlock_dataset(*shared_, def_.name, token_);
  locked_ = false;
}

Result<VersionInfo> RedisWriter::commit(uint64_t skipped) {
  if (ended_) return make_error(EINVAL, "this version is already ended");
  ended_ = true;
  info_.skipped = skipped;
  if (segment_.count() > 0)
    if (auto status = store_segment(); !status) return status.error();
  if (auto status = lock(); !status) return status.error();
  const Status status = publish();
  if (status) drop_old();
  unlock();
  if (!status) return status.error();
  return info_;
}

static Status refused(int64_t code, const std::string& name) {
  if (code == -1) return no_dataset(name);  // removed, or replaced, while it was listed
  if (code == -2)
    return make_error(
        EAGAIN,
        fmt::format("the lock of dataset '{}' was lost while publishing; nothing is published, try again", name));
  if (code == -3) return make_error(EIO, "the version took so long that it was taken for abandoned");
  return {};
}

Status RedisWriter::publish() {
  if (auto status = reserve(); !status) return status;
  if (auto status = describe(); !status) return status;
  return make_current();
}

Status RedisWriter::reserve() {
  step("reserve");
  auto number = number_of(RedisEval(redis_scripts::kReserve)
                              .key(key("def"))
                              .key(key("lock"))
                              .arg(token_)
                              .arg(std::to_string(def_.id))
                              .command());
  if (!number) return number.error();
  if (*number <= 0) return refused(*number, def_.name);
  info_.version = static_cast<uint64_t>(*number);
  info_.created_ns = now_ns();
  return {};
}

Status RedisWriter::describe() {
  step("describe");
  RedisEval script(redis_scripts::kDescribe);
  script.key(shared_->keys().of(def_.name, info_.version, "meta"))
      .key(shared_->keys().of(def_.name, info_.version, "dir"));
  script.arg(encode_directory(rows_)).arg(kGraceSeconds);
  script.arg("created_ns")
      .arg(info_.created_ns)
      .arg("objects")
      .arg(std::to_string(info_.objects))
      .arg("bytes")
      .arg(std::to_string(info_.bytes));
  script.arg("skipped").arg(std::to_string(info_.skipped)).arg("segments").arg(std::to_string(rows_.size()));
  auto done = number_of(script.command());
  return done ? Status() : Status(done.error());
}

Status RedisWriter::make_current() {
  step("publish");
  RedisEval script(redis_scripts::kPublish);
  for (const char* what : {"def", "lock", "cur", "versions"})
    script.key(key(what));
  script.key(shared_->keys().of(def_.name, info_.version, "meta"))
      .key(shared_->keys().of(def_.name, info_.version, "dir"));
  for (const SegmentRow& row : rows_)
    script.key(shared_->keys().segment(def_.name, row.hash));
  script.arg(token_)
      .arg(std::to_string(def_.id))
      .arg(std::to_string(info_.version))
      .arg(shared_->keys().changes())
      .arg(def_.name);
  auto done = number_of(script.command());
  if (!done) return done.error();
  return *done == 1 ? Status() : refused(*done, def_.name);
}

// Best effort: the next publisher drops what is left.
void RedisWriter::drop_old() {
  step("drop");
  auto listed = shared_->client.run(RedisCommand("ZREVRANGE").key(key("versions")).add("0").add("-1"));
  auto live = shared_->client.run(RedisCommand("HVALS").key(key("nodes")));
  if (!listed || !live) return;
  std::set<std::string> used;
  for (const RedisReply& beat : live->items)
    used.insert(beat.text.substr(0, beat.text.find(' ')));
  std::set<std::string> kept_segments;
  std::vector<std::pair<uint64_t, std::vector<ObjectId>>> dropped;
  for (size_t i = 0; i < listed->items.size(); ++i) {
    auto version = whole_number(listed->items[i].text);
    if (!version) continue;
    const bool keep = i < kKeepVersions || used.contains(listed->items[i].text);
    auto rows = read_directory(*shared_, def_.name, *version);
    if (!rows && keep) return;  // it cannot be told what it needs
    if (!keep) dropped.emplace_back(*version, std::vector<ObjectId>());
    if (!rows) continue;
    for (const SegmentRow& row : *rows) {
      if (keep)
        kept_segments.insert(shared_->keys().segment(def_.name, row.hash));
      else
        dropped.back().second.push_back(row.hash);
    }
  }
  for (auto& [version, segments] : dropped) {
    std::erase_if(segments,
                  [&](ObjectId hash) { return kept_segments.contains(shared_->keys().segment(def_.name, hash)); });
    if (!drop(version, segments)) return;
  }
}

Status RedisWriter::drop(uint64_t version, const std::vector<ObjectId>& segments) {
  RedisEval script(redis_scripts::kDrop);
  script.key(key("lock"))
      .key(key("versions"))
      .key(shared_->keys().of(def_.name, version, "meta"))
      .key(shared_->keys().of(def_.name, version, "dir"));
  for (ObjectId hash : segments)
    script.key(shared_->keys().segment(def_.name, hash));
  auto done = number_of(script.arg(token_).arg(kGraceSeconds).arg(std::to_string(version)).command());
  return done ? Status() : Status(done.error());
}

}  // namespace larder
