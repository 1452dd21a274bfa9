#include "cached/sync/sync.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cached/base/text.h"
#include "cached/sync/content.h"
#include "cached/sync/object_stream.h"

namespace larder {
namespace {

constexpr size_t kMaxWaiting = 100'000;  // objects that are planned and not yet begun: about 20 MB
constexpr size_t kMaxConflicts = 10'000;

// Errors that every further file would have, too.
bool ends_everything(const Error& error) {
  return error.code == ENOSPC || error.code == EDQUOT || error.code == EROFS;
}

// An empty "dir/": consoles make it to show a folder.
bool is_folder_marker(const ObjectInfo& object) {
  return object.size == 0 && object.key.ends_with('/');
}

}  // namespace

Sync::Sync(Endpoint& source, Endpoint& target, SyncOptions options, SyncEvents events)
    : source_(source),
      target_(target),
      options_(std::move(options)),
      events_(std::move(events)),
      queue_(options_.jobs, kMaxWaiting),
      copier_({source, target}, queue_, options_.bytes_per_second, options_.state_directory) {
  for (Endpoint* end : {&source_, &target_}) {
    if (end->files == nullptr) continue;
    end->files->set_unwanted(options_.filter);
    end->files->set_files_only();
  }
}

void Sync::run() {
  plan();
  queue_.wait_idle();
  if (options_.remove && !stopped()) remove_extra();
  copy_conflicts();
  if (target_.is_directory() && !options_.dry_run && counters_.failed == 0)
    target_.files->writer()->remove_unfinished(target_.files->unfinished());
}

// Walks the listings side by side.
void Sync::plan() {
  ObjectStream sources(*source_.store);
  std::unique_ptr<ObjectStream> targets;
  if (target_.store) targets = std::make_unique<ObjectStream>(*target_.store);  // none: a dry run into nothing
  ObjectInfo s, t;
  bool more_s = sources.next(s), more_t = targets && targets->next(t);
  while ((more_s || more_t) && !stopped()) {
    const int order = !more_s ? 1 : !more_t ? -1 : s.key.compare(t.key);
    if (order <= 0 && !options_.filter.includes(s.key)) {
      ++counters_.excluded;
    } else if (order < 0) {
      // With the target's listing cut short, "missing" would mean nothing.
      if (!more_t && targets && !targets->status().ok()) break;
      only_in_source(std::exchange(s, {}));
    } else if (order > 0) {
      only_in_target(t);
    } else {
      in_both(std::exchange(s, {}), std::exchange(t, {}));
    }
    if (order <= 0) more_s = sources.next(s);
    if (order >= 0) more_t = targets->next(t);
  }
  if (targets && !more_t && !targets->status().ok()) return stop(targets->status().error());
  if (stopped()) return;
  source_listed_ = sources.status().ok();
  if (!source_listed_) fail("", sources.status().error());
  counters_.listed = true;
}

void Sync::only_in_source(ObjectInfo&& object) {
  ++counters_.found;
  schedule_copy(std::move(object));
}

void Sync::only_in_target(const ObjectInfo& object) {
  if (!options_.remove || !options_.filter.includes(object.key)) return;
  if (auto status = extra_.add(object.key); !status.ok()) stop(status.error());
}

void Sync::in_both(ObjectInfo&& source, ObjectInfo&& target) {
  ++counters_.found;
  if (source.size == target.size && options_.compare == Compare::kChecksum) {
    queue_.push([this, s = std::move(source), t = std::move(target)] { compare_content(s, t); });
  } else if (is_same(source, target)) {
    ++counters_.unchanged;
  } else {
    schedule_copy(std::move(source));
  }
}

bool Sync::is_same(const ObjectInfo& source, const ObjectInfo& target) const {
  if (source.size != target.size) return false;
  return options_.compare == Compare::kSize || same_time(source.mtime_ns, target.mtime_ns, target_.is_directory());
}

void Sync::compare_content(const ObjectInfo& source, const ObjectInfo& target) {
  if (stopped()) return;
  auto same = same_content(source_, source, target_, target, copier_.rate());
  if (!same.ok()) return fail(source.key, same.error());
  if (*same) {
    ++counters_.unchanged;
    return;
  }
  ++counters_.planned;
  counters_.planned_bytes += source.size;
  copy(source);
}

void Sync::schedule_copy(ObjectInfo&& object) {
  ++counters_.planned;
  counters_.planned_bytes += object.size;
  queue_.push([this, o = std::move(object)] { copy(o); });
}

void Sync::copy(const ObjectInfo& object) {
  if (stopped()) return;
  if (target_.writer != nullptr && !(target_.is_directory() && is_folder_marker(object))) {
    if (auto status = target_.writer->check_key(object.key); !status.ok())
      return fail(object.key,
                  make_error(status.error().code, printable(object.key, 1200) + ": " + status.error().message));
  }
  if (options_.dry_run) return copied(object, {});
  if (target_.is_directory() && is_folder_marker(object)) {
    const std::string path = object.key.substr(0, object.key.size() - 1);
    auto& writer = *target_.files->writer();
    Status status = writer.check_key(path);
    return copied(object, status.ok() ? writer.make_directory(path) : status);
  }
  copier_.copy(object, [this, object](Status status) { copied(object, status); });
}

void Sync::copied(const ObjectInfo& object, const Status& status) {
  if (status.ok()) {
    ++counters_.copied;
    counters_.copied_bytes += object.size;
    return act(SyncAction::kCopy, object.key, object.size);
  }
  const int code = status.error().code;
  if (options_.remove && (code == ENOTDIR || code == EISDIR)) {
    MutexLock lock(conflicts_mutex_);
    if (keep_conflicts_ && conflicts_.size() < kMaxConflicts) {
      conflicts_.push_back(object);
      return;
    }
  }
  if (ends_everything(status.error())) return stop(status.error());
  if (!stopped() || code != ECANCELED) fail(object.key, status.error());
}

void Sync::remove_extra() {
  if (extra_.count() == 0) return;
  if (!source_listed_)
    return fail("", make_error(ECANCELED, fmt::format("nothing was removed: SRC could not be listed to its end")));
  if (const uint64_t unread = source_.files ? source_.files->unreadable() : 0; unread > 0)
    return fail("",
                make_error(EACCES, fmt::format("nothing was removed: {} folders of SRC may not be read, and what is "
                                               "in them is not known",
                                               unread)));
  if (counters_.found == 0 && counters_.excluded == 0 && !options_.remove_all)
    return fail(
        "",
        make_error(ECANCELED, fmt::format("nothing was removed: SRC has no objects at all, and all {} of DST would go; "
                                          "if that is meant, say --delete-all",
                                          extra_.count())));
  std::string key;
  std::vector<std::string> batch;
  const size_t batch_size = target_.writer ? target_.writer->remove_batch() : 1000;
  Status status = extra_.rewind();
  while (status.ok()) {
    auto more = extra_.next(key);
    if (!more.ok()) status = more.error();
    if (more.ok() && *more) batch.push_back(key);
    const bool end = !more.ok() || !*more;
    if (batch.size() == batch_size || (end && !batch.empty()))
      queue_.push([this, keys = std::exchange(batch, {})] { remove_keys(keys); });
    if (end) break;
  }
  if (!status.ok()) fail("", status.error());
  queue_.wait_idle();
}

void Sync::remove_keys(const std::vector<std::string>& keys) {
  std::vector<RemoveFailure> failures;
  if (!options_.dry_run) failures = target_.writer->remove(keys);
  for (auto& failure : failures)
    fail(failure.key, failure.error);
  for (auto& key : keys) {
    const bool failed = std::any_of(failures.begin(), failures.end(), [&](auto& f) { return f.key == key; });
    if (failed) continue;
    ++counters_.removed;
    act(SyncAction::kRemove, key, 0);
  }
}

void Sync::copy_conflicts() {
  std::vector<ObjectInfo> again;
  {
    MutexLock lock(conflicts_mutex_);
    keep_conflicts_ = false;
    again.swap(conflicts_);
  }
  for (auto& object : again)
    queue_.push([this, o = std::move(object)] { copy(o); });
  queue_.wait_idle();
}

void Sync::act(SyncAction action, const std::string& key, uint64_t size) {
  MutexLock lock(events_mutex_);
  if (events_.on_action) events_.on_action(action, key, size);
}

void Sync::fail(const std::string& key, const Error& error) {
  ++counters_.failed;
  MutexLock lock(events_mutex_);
  if (events_.on_failure) events_.on_failure(key, error);
}

void Sync::stop(const Error& error) {
  if (stopped_.exchange(true)) return;
  copier_.stop();
  fail("", make_error(error.code, error.message + "; nothing further was tried"));
}

SyncCounts Sync::counts() const {
  SyncCounts out;
  out.found = counters_.found;
  out.planned = counters_.planned;
  out.planned_bytes = counters_.planned_bytes;
  out.copied = counters_.copied;
  out.copied_bytes = counters_.copied_bytes;
  out.moved_bytes = copier_.counters().bytes;
  out.resumed_bytes = copier_.counters().resumed;
  out.unchanged = counters_.unchanged;
  out.removed = counters_.removed;
  out.excluded = counters_.excluded;
  out.failed = counters_.failed;
  out.listed = counters_.listed;
  return out;
}

}  // namespace larder
