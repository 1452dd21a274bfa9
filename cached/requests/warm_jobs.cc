#include "cached/requests/warm_jobs.h"

#include <fmt/format.h>

#include <algorithm>

namespace larder {

using nlohmann::json;

static constexpr std::chrono::milliseconds kLook{20};
static constexpr int kLooksAKick = 10;

json warm_answer(const WarmCounts& c) {
  json errors = json::array();
  for (auto& [path, error] : c.errors)
    errors.push_back({{"path", path}, {"error", error}});
  return {{"files", c.files},     {"bytes", c.bytes},   {"fetched", c.fetched},
          {"already", c.already}, {"failed", c.failed}, {"errors", errors}};
}

// ---- asking --------------------------------------------------------------------------------------

Result<uint64_t> WarmJobs::add(std::shared_ptr<WarmJob> job, const std::vector<std::string>& paths,
                               const AdminCall& call, bool waits) {
  auto entry = std::make_shared<Entry>();
  entry->uid = call.peer().uid;
  entry->path = paths.front();
  entry->paths = paths.size();
  entry->job = std::move(job);
  if (waits) {
    entry->reply = call.reply();
    entry->report = call.progress().report;
  }
  MutexLock lock(mutex_);
  if (stopping_) return make_error(ECANCELED, "larderd is ending");
  if (count_locked(entry->uid, State::kWaiting) + count_locked(entry->uid, State::kRunning) >= kMostOfUser)
    return make_error(EAGAIN, fmt::format("you have {} warm jobs; wait for one, or end one (larder warm --stop JOB; "
                                          "larder status lists them)",
                                          kMostOfUser));
  entry->number = ++last_number_;
  entries_.push_back(entry);
  ++active_;
  if (!thread_.joinable()) thread_ = std::thread([this] { work(); });
  changed_.notify_all();
  return entry->number;
}

Status WarmJobs::end(uint64_t number, const Peer& peer, bool may_administer) {
  MutexLock lock(mutex_);
  for (const EntryPtr& e : entries_) {
    const bool active = e->state == State::kWaiting || e->state == State::kRunning;
    if (e->number != number || !active) continue;
    if (e->uid != peer.uid && !may_administer)
      return make_error(EPERM, fmt::format("warm job {} is another user's", number));
    e->stopped = true;
    changed_.notify_all();
    return {};
  }
  return make_error(ENOENT, fmt::format("there is no warm job {}; larder status lists them", number));
}

const char* WarmJobs::name_of(State state) {
  switch (state) {
    case State::kWaiting:
      return "waiting";
    case State::kRunning:
      return "running";
    case State::kDone:
      return "done";
    case State::kFailed:
      return "failed";
    case State::kStopped:
      return "stopped";
  }
  return "";
}

json WarmJobs::status(std::optional<uid_t> viewer, bool all) const {
  json list = json::array();
  MutexLock lock(mutex_);
  for (const EntryPtr& e : entries_) {
    const WarmCounts& c = e->counts;
    json one = {{"job", e->number},     {"uid", e->uid},     {"state", name_of(e->state)}, {"files", c.files},
                {"bytes", c.bytes},     {"done", c.done},    {"done_bytes", c.done_bytes}, {"fetched", c.fetched},
                {"already", c.already}, {"failed", c.failed}};
    if (all || e->uid == viewer) {
      one["path"] = e->path;
      one["paths"] = e->paths;
      if (!c.errors.empty()) one["error"] = c.errors.front().first + ": " + c.errors.front().second;
    }
    list.push_back(std::move(one));
  }
  return list;
}

// ---- working -------------------------------------------------------------------------------------

size_t WarmJobs::count_locked(uid_t uid, State state) const {
  return static_cast<size_t>(std::count_if(entries_.begin(), entries_.end(), [&](const EntryPtr& e) {
    mutex_.assert_held();
    return e->uid == uid && e->state == state;
  }));
}

// Those whose turn it is run from now on.
std::vector<WarmJobs::EntryPtr> WarmJobs::start_locked() {
  std::vector<EntryPtr> started;
  for (const EntryPtr& e : entries_) {
    if (e->state != State::kWaiting) continue;
    const bool gone = e->stopped || (e->reply && e->reply->gone());
    if (!gone && count_locked(e->uid, State::kRunning) >= kRunningOfUser) continue;
    e->state = State::kRunning;
    started.push_back(e);
  }
  return started;
}

std::vector<WarmJobs::EntryPtr> WarmJobs::running_locked() const {
  std::vector<EntryPtr> running;
  for (const EntryPtr& e : entries_)
    if (e->state == State::kRunning) running.push_back(e);
  return running;
}

void WarmJobs::forget_ended_locked() {
  size_t ended = entries_.size() - active_.load();
  std::erase_if(entries_, [&](const EntryPtr& e) {
    mutex_.assert_held();
    const bool active = e->state == State::kWaiting || e->state == State::kRunning;
    return !active && ended > kEndedKept && ended-- > 0;
  });
}

void WarmJobs::work() {
  for (int looks = 0;; ++looks) {
    std::vector<EntryPtr> started, running;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && active_ == 0)
        changed_.wait(mutex_);
      if (stopping_) return;
      started = start_locked();
      running = running_locked();
    }
    for (const EntryPtr& e : started) {
      if (e->stopped) e->job->cancel();  // before it is asked for anything
      flights_.add_source(e->job);
    }
    for (const EntryPtr& e : running)
      look_at(e, looks % kLooksAKick == 0);
    MutexLock lock(mutex_);
    forget_ended_locked();
    if (!stopping_) changed_.wait_for(mutex_, kLook);
  }
}

void WarmJobs::look_at(const EntryPtr& e, bool kick) {
  if (e->reply && e->reply->gone()) e->stopped = true;
  if (e->stopped) e->job->cancel();
  const auto [counts, done] = e->job->wait(std::chrono::milliseconds(0));
  if (e->report) e->report(counts.done, counts.files, counts.done_bytes, counts.bytes, counts.failed);
  if (kick && !done) flights_.kick();
  if (done) flights_.remove_source(e->job);
  {
    MutexLock lock(mutex_);
    e->counts = counts;
    if (!done) return;
    e->state = e->stopped ? State::kStopped : counts.failed > 0 ? State::kFailed : State::kDone;
    --active_;
  }
  if (e->reply) send_answer(*e->reply, warm_answer(counts));
  e->reply.reset();
}

void WarmJobs::stop() {
  std::thread thread;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    thread.swap(thread_);
    changed_.notify_all();
  }
  if (thread.joinable()) thread.join();
  MutexLock lock(mutex_);
  for (const EntryPtr& e : running_locked()) {
    e->job->cancel();
    flights_.remove_source(e->job);
  }
  for (const EntryPtr& e : entries_)
    if (e->reply) send_answer(*e->reply, make_error(ECANCELED, "larderd is ending"));
  entries_.clear();
  active_ = 0;
}

}  // namespace larder
