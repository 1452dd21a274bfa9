#include "cached/sync/copier.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>
#include <optional>

#include "cached/base/mutex.h"
#include "cached/base/text.h"
#include "cached/sync/source_sum.h"

namespace larder {
namespace {

constexpr uint64_t kMemory = 1 << 30;         // of all transfers together
constexpr uint64_t kKeepBuffer = kCopyWhole;  // a thread keeps a buffer up to here

// The calling thread's own buffer, with stale bytes.
std::span<std::byte> scratch(uint64_t bytes) {
  thread_local std::unique_ptr<std::byte[]> buffer;
  thread_local uint64_t size = 0;
  if (size < bytes || size > std::max(bytes, kKeepBuffer)) {
    buffer.reset();
    // Small files first: a thread that only ever sees those keeps no more than it needs.
    size = std::max<uint64_t>(bytes, 256 * 1024);
    buffer = std::make_unique_for_overwrite<std::byte[]>(size);
  }
  return {buffer.get(), bytes};
}

}  // namespace

Copier::Copier(Ends ends, WorkQueue& queue, uint64_t bytes_per_second, std::string state_directory)
    : ends_(ends),
      queue_(queue),
      rate_(bytes_per_second),
      memory_(kMemory),
      uploads_(std::move(state_directory), ends.target.place()),
      one_service_(same_service(ends.source, ends.target)),
      copies_(one_service_),
      copies_parts_(one_service_) {}

NewObject Copier::new_object(const ObjectInfo& object) const {
  NewObject out;
  out.key = object.key;
  out.size = object.size;
  out.mtime_ns = object.mtime_ns;
  out.version = fmt::format("{} {} {}", ends_.source.place(), object.etag, object.mtime_ns);
  // The original's own parts, where its ETag tells them: those that the store copies then give the same ETag.
  const bool as_original = one_service_ || ends_.source.store->verifies();
  out.part_bytes =
      (as_original ? SourceSum::part_bytes(object) : std::nullopt).value_or(upload_part_bytes(object.size));
  return out;
}

StoredObject Copier::original(const ObjectInfo& object) const {
  const SourceUrl& from = ends_.source.url;
  return {from.bucket, from.prefix + object.key, object.etag};
}

Status Copier::move(const ObjectInfo& object, uint64_t offset, uint64_t length, const NoSum& no_sum,
                    const std::function<Status(Bytes)>& write) {
  if (stopped_.load()) return make_error(ECANCELED, object.key + ": the sync was stopped");
  rate_.wait(length);
  const MemoryBudget::Share share(memory_, length);
  const auto buffer = scratch(length);
  if (auto status = ends_.source.read(object, offset, buffer, no_sum); !status.ok()) return status;
  return write(buffer);
}

Status Copier::copy_whole(const ObjectInfo& object) {
  const NewObject made = new_object(object);
  Status status = move(object, 0, object.size, {}, [&](Bytes data) { return ends_.target.writer->put(made, data); });
  if (status.ok()) counters_.bytes.fetch_add(object.size, std::memory_order_relaxed);
  return status;
}

// Invariants: each part in missing_ is queued once; left_ counts the parts that have not ended; the end of the last
// part ends the upload.
class Copier::Large : public std::enable_shared_from_this<Large> {
 public:
  Large(Copier& copier, ObjectInfo source, std::function<void(Status)> done)
      : copier_(copier),
        source_(std::move(source)),
        object_(copier.new_object(source_)),
        sum_(*copier.ends_.source.store, source_, object_.part_bytes),
        within_(copier.one_service_ && copier.ends_.source.store->can_range(source_.etag)),
        writer_(*copier.ends_.target.writer),
        done_(std::move(done)) {}

  void begin() {
    Status status = fix_version();
    if (status.ok()) status = open();
    if (!status.ok()) return done_(status);
    const bool store_may_copy = within_ && copier_.copies_parts_.load();
    const bool all_arrive = !store_may_copy && missing_.size() == parts_.size();
    sum_.compare_with(all_arrive ? crc_of_source() : std::nullopt);
    left_ = static_cast<int>(missing_.size()) + 1;  // one for this function
    for (int number : missing_)
      copier_.queue_.push_urgent([self = shared_from_this(), number] { self->part(number); });
    ended_one();
  }

 private:
  std::optional<CrcSum> crc_of_source() {
    std::promise<std::optional<CrcSum>> crc;
    copier_.ends_.source.store->crc_of(source_, [&crc](std::optional<CrcSum> answer) { crc.set_value(answer); });
    return crc.get_future().get();
  }

  // Parts must all be of one version. A listing of a web server may not know what the server calls it.
  Status fix_version() {
    const std::string& scheme = copier_.ends_.source.url.scheme;
    if (scheme != "http" && scheme != "https") return {};
    auto head = copier_.ends_.source.store->head(source_.key);
    if (!head.ok()) return head.error();
    if (!copier_.ends_.source.store->can_range(head->etag))
      return make_error(ENOTSUP,
                        fmt::format("{}: the server gives no strong ETag, so that parts of it might be of different "
                                    "versions: objects above {} MiB need one",
                                    printable(source_.key, 1200), kCopyWhole >> 20));
    source_.etag = head->etag;
    return {};
  }

  // Continues an interrupted upload of the same content, or begins one. Fills parts_ and missing_.
  Status open() {
    const int count = part_count(object_.size, object_.part_bytes);
    parts_.assign(static_cast<size_t>(count), {});
    missing_.clear();
    std::vector<PartInfo> there;
    if (auto status = find_upload(there); !status.ok()) return status;
    for (auto& part : there) {
      if (!fits(part)) continue;
      if (parts_[index(part.number)].number == 0) count_resumed(part.size);
      parts_[index(part.number)] = part;
      // What the store copied is not compared: its ETag need not be an MD5, and no reply says so.
      if (!within_) sum_.was_there(part.number, part.etag);
    }
    for (int number = 1; number <= count; ++number) {
      if (parts_[index(number)].number == 0) missing_.push_back(number);
    }
    return {};
  }

  Status find_upload(std::vector<PartInfo>& there) {
    if (!writer_.finds_uploads()) {
      if (auto known = copier_.uploads_.find(object_)) {
        upload_ = *known;
        auto parts = writer_.list_parts(object_, upload_);
        if (parts.ok()) {
          resumed_ = true;
          there = std::move(*parts);
          return {};
        }
        if (parts.error().code != ENOENT) return parts.error();
        copier_.uploads_.erase(object_);
      }
    }
    auto created = writer_.create_upload(object_);
    if (!created.ok()) return created.error();
    upload_ = *created;
    if (!writer_.finds_uploads()) {
      copier_.uploads_.save(object_, upload_);
      return {};
    }
    auto parts = writer_.list_parts(object_, upload_);
    if (!parts.ok()) return parts.error();
    there = std::move(*parts);
    return {};
  }

  static size_t index(int number) { return static_cast<size_t>(number - 1); }
  bool fits(const PartInfo& part) const {
    return part.number >= 1 && index(part.number) < parts_.size() && part.size == part_size(object_, part.number);
  }

  void part(int number) {
    if (!failed() && (copied_within(number) || (!failed() && moved(number)))) count(part_size(object_, number));
    ended_one();
  }

  // By the store itself. False: it has to go through here, which also tells whether it was about the object or the
  // upload; or the upload failed.
  bool copied_within(int number) {
    if (!within_ || !copier_.copies_parts_.load() || copier_.stopped_.load()) return false;
    auto part = writer_.copy_part(object_, upload_, number, copier_.original(source_));
    if (part.ok()) {
      parts_[index(number)] = std::move(*part);  // nobody else has this one
      store_copied_.store(true);
      return true;
    }
    const int code = part.error().code;
    if (code != ESTALE && code != ENOENT) copier_.copies_parts_.store(false);
    if (code == ENOTSUP)
      fail(part.error(), Cause::kParts);  // something may lie there now, and rclone's server keeps it
    return false;
  }

  bool moved(int number) {
    bool reading = true;
    Status status = copier_.move(source_, part_offset(object_, number), part_size(object_, number), sum_.no_sum(),
                                 [&](Bytes data) -> Status {
                                   reading = false;
                                   sum_.arrived(number, data);
                                   auto part = writer_.put_part(object_, upload_, number, data);
                                   if (!part.ok()) return part.error();
                                   parts_[index(number)] = std::move(*part);
                                   return {};
                                 });
    if (!status.ok()) fail(status.error(), reading ? Cause::kSource : Cause::kTarget);
    return status.ok();
  }

  void count(uint64_t bytes) {
    copier_.counters_.bytes.fetch_add(bytes, std::memory_order_relaxed);
    counted_.fetch_add(bytes, std::memory_order_relaxed);
  }

  void count_resumed(uint64_t bytes) {
    copier_.counters_.resumed.fetch_add(bytes, std::memory_order_relaxed);
    counted_resumed_ += bytes;
  }

  void take_back_counts() {
    copier_.counters_.bytes.fetch_sub(counted_.exchange(0), std::memory_order_relaxed);
    copier_.counters_.resumed.fetch_sub(std::exchange(counted_resumed_, 0), std::memory_order_relaxed);
  }

  // kUpload: the upload cannot be completed. kParts: what lies in the upload is not to be used.
  enum class Cause { kSource, kTarget, kUpload, kParts };

  struct Failure {
    Error error;
    bool source_is_gone = false, upload_is_gone = false, parts_are_wrong = false;
  };

  std::optional<Failure> failure() {
    MutexLock lock(mutex_);
    return failure_;
  }

  bool failed() { return failure().has_value(); }

  // The first failure counts.
  void fail(const Error& error, Cause cause) {
    const bool gone = error.code == ENOENT;
    MutexLock lock(mutex_);
    if (failure_) return;
    failure_ = Failure{.error = error,
                       .source_is_gone = cause == Cause::kSource && (gone || error.code == ESTALE),
                       .upload_is_gone = cause == Cause::kUpload || (cause == Cause::kTarget && gone),
                       .parts_are_wrong = cause == Cause::kParts};
  }

  void ended_one() {
    if (left_.fetch_sub(1) != 1) return;
    if (!failed()) complete();
    const std::optional<Failure> failed = failure();
    if (!failed) return done_(Status());
    take_back_counts();
    if (!begin_again(*failed)) done_(failed->error);
  }

  // Compares the whole with the source's sum; fails the upload if it differs.
  bool is_right() {
    SourceSum::ReadBack read_back;
    if (writer_.reads_back()) {
      read_back = [&](uint64_t offset, std::span<std::byte> out) {
        return writer_.read_back(object_, upload_, offset, out);
      };
    }
    const auto right = sum_.right(read_back);
    if (right.ok() && *right) return true;
    if (right.ok()) {
      fail(make_error(EIO, printable(source_.key, 1200) + ": the bytes do not match the store's checksum"),
           Cause::kParts);
    } else {
      fail(right.error(), Cause::kTarget);
    }
    return false;
  }

  // Not every store looks at copy-source-if-match (moto, s3rver do not) or knows copy-source-range (Baishan's documents
  // name none). So what was copied counts only if the original is now what it was, and the parts have their sizes.
  bool is_right_copy() {
    auto now = copier_.ends_.source.store->head(source_.key);
    if (now.ok() && now->etag != source_.etag)
      now = make_error(ESTALE, printable(source_.key, 1200) + ": it changed since it was listed");
    if (!now.ok()) return fail(now.error(), Cause::kSource), false;
    auto there = writer_.list_parts(object_, upload_);
    if (!there.ok() && there.error().code == EACCES) return true;  // a right of its own, not needed to write
    if (!there.ok()) return fail(there.error(), Cause::kTarget), false;
    if (std::all_of(there->begin(), there->end(), [this](auto& part) { return fits(part); })) return true;
    fail(make_error(EIO, printable(source_.key, 1200) + ": the store copied other bytes than it was asked for"),
         Cause::kParts);
    copier_.copies_parts_.store(false);
    return false;
  }

  void complete() {
    if (!is_right() || (store_copied_.load() && !is_right_copy())) return;
    // The parts of an interrupted run may be wrong.
    if (auto status = writer_.complete_upload(object_, upload_, parts_); !status.ok())
      return fail(status.error(), resumed_ ? Cause::kUpload : Cause::kTarget);
    copier_.uploads_.erase(object_);
  }

  void forget_failure() {
    MutexLock lock(mutex_);
    failure_.reset();
  }

  // After a failure: forgets an upload that cannot succeed, and starts one again that came from an earlier run.
  bool begin_again(const Failure& failed) {
    if (!failed.source_is_gone && !failed.upload_is_gone && !failed.parts_are_wrong) {  // the next run continues it
      writer_.leave_upload(upload_);
      return false;
    }
    (void)writer_.abort_upload(object_, upload_);
    copier_.uploads_.erase(object_);
    const bool once_more = failed.parts_are_wrong ? ++copies_ < kMostGets : resumed_;
    if (failed.source_is_gone || !once_more) return false;
    forget_failure();
    resumed_ = false;
    store_copied_.store(false);
    copier_.queue_.push_urgent([self = shared_from_this()] { self->begin(); });
    return true;
  }

  Copier& copier_;
  ObjectInfo source_;
  const NewObject object_;
  SourceSum sum_;
  const bool within_;
  StoreWriter& writer_;
  const std::function<void(Status)> done_;
  std::string upload_;
  bool resumed_ = false;
  std::vector<PartInfo> parts_;
  std::vector<int> missing_;
  std::atomic<int> left_{0};
  std::atomic<bool> store_copied_{false};  // some part of this upload
  std::atomic<uint64_t> counted_{0};
  uint64_t counted_resumed_ = 0;
  int copies_ = 0;
  Mutex mutex_;
  std::optional<Failure> failure_ GUARDED_BY(mutex_);
};

// Lets the store copy by itself. False: the object must go through this process.
bool Copier::copied_within(const ObjectInfo& object, Status* status) {
  if (!copies_.load() || object.size > ends_.target.writer->max_copy() || !ends_.source.store->can_range(object.etag))
    return false;
  if (stopped_.load()) return *status = make_error(ECANCELED, object.key + ": the sync was stopped"), true;
  *status = ends_.target.writer->copy(new_object(object), original(object));
  const int code = status->ok() ? 0 : status->error().code;
  if (code == 0) counters_.bytes.fetch_add(object.size, std::memory_order_relaxed);
  if (code == 0 || code == ESTALE || code == ENOENT) return true;
  copies_.store(false);  // a fault that also affects reading and writing is reported there
  copies_parts_.store(false);
  return false;
}

void Copier::copy(const ObjectInfo& object, std::function<void(Status)> done) {
  if (Status status; copied_within(object, &status)) return done(status);
  if (object.size <= kCopyWhole) return done(copy_whole(object));
  std::make_shared<Large>(*this, object, std::move(done))->begin();
}

}  // namespace larder
