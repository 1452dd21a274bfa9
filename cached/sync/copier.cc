#include "cached/sync/copier.h"

#include <fmt/format.h>

#include <algorithm>
#include <mutex>

#include "cached/store/errors.h"
#include "cached/sync/source_sum.h"

namespace larder {
namespace {

constexpr uint64_t kMemory = 1 << 30;         // of all transfers together
constexpr uint64_t kKeepBuffer = kCopyWhole;  // a thread keeps a buffer up to here

// The calling thread's own buffer; its bytes are what they were.
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
      within_(same_service(ends.source, ends.target)) {}

NewObject Copier::new_object(const ObjectInfo& object) const {
  NewObject out;
  out.key = object.key;
  out.size = object.size;
  out.mtime_ns = object.mtime_ns;
  out.version = fmt::format("{} {} {}", ends_.source.place(), object.etag, object.mtime_ns);
  out.part_bytes = SourceSum::part_bytes(*ends_.source.store, object).value_or(upload_part_bytes(object.size));
  return out;
}

Status Copier::move(const ObjectInfo& object, uint64_t offset, uint64_t length, const NoSum& no_sum,
                    const std::function<Status(Bytes)>& write) {
  if (stopped_.load()) return make_error(ECANCELED, object.key + ": the sync was stopped");
  rate_.wait(length);
  const MemoryBudget::Share share(memory_, length);
  const auto buffer = scratch(length);
  if (auto status = ends_.source.read(object, offset, buffer, no_sum); !status.ok()) return status;
  if (auto status = write(buffer); !status.ok()) return status;
  counters_.bytes.fetch_add(length, std::memory_order_relaxed);
  return {};
}

Status Copier::copy_whole(const ObjectInfo& object) {
  const NewObject made = new_object(object);
  return move(object, 0, object.size, {}, [&](Bytes data) { return ends_.target.writer->put(made, data); });
}

// Invariants: the parts in missing_ are each handed to the queue once; left_ counts those that have not ended; who ends
// the last one ends the upload.
class Copier::Large : public std::enable_shared_from_this<Large> {
 public:
  Large(Copier& copier, ObjectInfo source, std::function<void(Status)> done)
      : copier_(copier),
        source_(std::move(source)),
        object_(copier.new_object(source_)),
        sum_(*copier.ends_.source.store, source_, object_.part_bytes),
        writer_(*copier.ends_.target.writer),
        done_(std::move(done)) {}

  void begin() {
    Status status = fix_version();
    if (status.ok()) status = open();
    if (!status.ok()) return done_(status);
    left_ = static_cast<int>(missing_.size()) + 1;  // one for this function
    for (int number : missing_) copier_.queue_.push_urgent([self = shared_from_this(), number] { self->part(number); });
    ended_one();
  }

 private:
  // Parts must all be of one version. A listing of a web server may not know what the server calls it.
  Status fix_version() {
    const std::string& scheme = copier_.ends_.source.url.scheme;
    if (scheme != "http" && scheme != "https") return {};
    auto head = copier_.ends_.source.store->head(source_.key);
    if (!head.ok()) return head.error();
    if (head->etag.empty())
      return make_error(ENOTSUP,
                        fmt::format("{}: the server gives no strong ETag, so that parts of it might be of different "
                                    "versions: objects above {} MiB need one",
                                    printable(source_.key, 1200), kCopyWhole >> 20));
    source_.etag = head->etag;
    return {};
  }

  // Goes on with an interrupted upload of the same content, or begins one. Fills parts_ and missing_.
  Status open() {
    const int count = part_count(object_.size, object_.part_bytes);
    parts_.assign(static_cast<size_t>(count), {});
    missing_.clear();
    std::vector<PartInfo> there;
    if (auto status = find_upload(there); !status.ok()) return status;
    for (auto& part : there) {
      if (part.number < 1 || part.number > count || part.size != part_size(part.number)) continue;
      if (parts_[index(part.number)].number == 0) copier_.counters_.resumed.fetch_add(part.size);
      parts_[index(part.number)] = part;
      sum_.was_there(part.number, part.etag);
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
  uint64_t part_size(int number) const {
    return std::min(object_.part_bytes, object_.size - index(number) * object_.part_bytes);
  }

  void part(int number) {
    if (!failed()) {
      const uint64_t offset = index(number) * object_.part_bytes;
      bool reading = true;
      Status status = copier_.move(source_, offset, part_size(number), sum_.no_sum(), [&](Bytes data) -> Status {
        reading = false;
        sum_.arrived(number, data);
        auto part = writer_.put_part(object_, upload_, number, data);
        if (!part.ok()) return part.error();
        parts_[index(number)] = std::move(*part);  // nobody else has this one
        return {};
      });
      if (!status.ok()) fail(status.error(), reading);
    }
    ended_one();
  }

  bool failed() {
    std::lock_guard lock(mutex_);
    return failed_;
  }

  void fail(const Error& error, bool reading) {
    std::lock_guard lock(mutex_);
    if (failed_) return;
    failed_ = true;
    error_ = error;
    source_is_gone_ = reading && (error.code == ESTALE || error.code == ENOENT);
    upload_is_gone_ = !reading && error.code == ENOENT;
  }

  void ended_one() {
    if (left_.fetch_sub(1) != 1) return;
    if (!failed_) complete();
    if (failed_ && begin_again()) return;
    done_(failed_ ? Status(error_) : Status());
  }

  // Whether the whole is what the source says of it; fails if it is not.
  bool is_right() {
    SourceSum::ReadBack read_back;
    if (writer_.reads_back()) {
      read_back = [&](uint64_t offset, std::span<std::byte> out) { return writer_.read_back(object_, upload_, offset, out); };
    }
    const auto right = sum_.right(read_back);
    if (right.ok() && *right) return true;
    fail(right.ok() ? make_error(EIO, printable(source_.key, 1200) + ": the bytes do not match the store's checksum") : right.error(), false);
    source_is_wrong_ = right.ok();
    return false;
  }

  void complete() {
    if (!is_right()) return;
    if (auto status = writer_.complete_upload(object_, upload_, parts_); !status.ok()) {
      fail(status.error(), false);
      // What an interrupted run left may be what is wrong with it.
      upload_is_gone_ = upload_is_gone_ || resumed_;
      return;
    }
    copier_.uploads_.erase(object_);
  }

  // After a failure: an upload that leads nowhere is forgotten, and one that was taken over from an earlier run begins
  // anew.
  bool begin_again() {
    if (!source_is_gone_ && !upload_is_gone_ && !source_is_wrong_) {  // the next run goes on with it
      writer_.leave_upload(upload_);
      return false;
    }
    (void)writer_.abort_upload(object_, upload_);
    copier_.uploads_.erase(object_);
    const bool once_more = source_is_wrong_ ? ++copies_ < kMostGets : resumed_;
    if (source_is_gone_ || !once_more) return false;
    failed_ = upload_is_gone_ = source_is_wrong_ = resumed_ = false;
    copier_.queue_.push_urgent([self = shared_from_this()] { self->begin(); });
    return true;
  }

  Copier& copier_;
  ObjectInfo source_;
  const NewObject object_;
  SourceSum sum_;
  StoreWriter& writer_;
  const std::function<void(Status)> done_;
  std::string upload_;
  bool resumed_ = false;
  std::vector<PartInfo> parts_;
  std::vector<int> missing_;
  std::atomic<int> left_{0};
  std::mutex mutex_;
  bool failed_ = false, source_is_gone_ = false, upload_is_gone_ = false, source_is_wrong_ = false;
  int copies_ = 0;
  Error error_;
};

// By the store itself. False: it has to go through here.
bool Copier::copied_within(const ObjectInfo& object, Status* status) {
  if (!within_.load() || object.size > kMostCopied || object.etag.empty()) return false;
  if (stopped_.load()) return *status = make_error(ECANCELED, object.key + ": the sync was stopped"), true;
  const SourceUrl& from = ends_.source.url;
  *status = ends_.target.writer->copy(new_object(object), {from.bucket, from.prefix + object.key, object.etag});
  const int code = status->ok() ? 0 : status->error().code;
  if (code == 0) counters_.bytes.fetch_add(object.size, std::memory_order_relaxed);
  if (code == 0 || code == ESTALE || code == ENOENT) return true;
  within_.store(false);  // whatever is wrong is said if it is wrong with our own reading and writing, too
  return false;
}

void Copier::copy(const ObjectInfo& object, std::function<void(Status)> done) {
  if (Status status; copied_within(object, &status)) return done(status);
  if (object.size <= kCopyWhole) return done(copy_whole(object));
  std::make_shared<Large>(*this, object, std::move(done))->begin();
}

}  // namespace larder
