#include "cached/cache/budget.h"

#include <time.h>

#include <algorithm>

#include "cached/home/memory.h"

namespace larder {

// How old an answer of the file system may be that had so much more free than is wanted: nobody writes 200 GB/s.
static constexpr int64_t kAskFsEveryNs = 5'000'000;
static constexpr uint64_t kFarFromFull = uint64_t{1} << 30;
static constexpr uint64_t kFarFromLast = 16384;  // inodes: nobody makes 3 million files a second
// 20 ms: a cache that is filled with 5 GB/s takes 100 MB meanwhile, which `reserve` has.
static constexpr int64_t kAskMemoryEveryNs = 20'000'000;

bool Account::take(uint64_t n) {
  uint64_t has = value();
  while (!value_.compare_exchange_weak(has, has < n ? 0 : has - n, std::memory_order_relaxed)) {
  }
  return has >= n;
}

// ---- accounts

void Budget::take(Account& account, uint64_t n) {
  if (account.take(n)) return;
  distrust(account.name());
  if (auto* alarm = on_underflow.load()) alarm(account.name());
}

void Budget::up(Account Accounts::*which, Accounts& of, uint64_t n) {
  (of.*which).add(n);
  (total_.*which).add(n);
}

void Budget::down(Account Accounts::*which, Accounts& of, uint64_t n) {
  take(of.*which, n);
  take(total_.*which, n);
}

void Budget::file_came(Accounts& of, uint64_t bytes) {
  up(&Accounts::cached, of, bytes);
  up(&Accounts::files, of, 1);
}

void Budget::file_went(Accounts& of, uint64_t bytes) {
  down(&Accounts::cached, of, bytes);
  down(&Accounts::files, of, 1);
}

void Budget::forget_files(Accounts& of) {
  down(&Accounts::cached, of, of.cached.value());
  down(&Accounts::files, of, of.files.value());
}

Budget::ReservationAt Budget::reserve(std::shared_ptr<Accounts> of, uint64_t bytes, bool staged) {
  up(&Accounts::reserved, *of, bytes);
  if (staged) file_staged(*of, bytes);
  unwritten_ += bytes;
  return reservations_.insert(reservations_.end(), Reservation{std::move(of), bytes, bytes, staged});
}

void Budget::release(ReservationAt r) {
  down(&Accounts::reserved, *r->of, r->bytes);
  if (r->staged) file_unstaged(*r->of, r->bytes);
  unwritten_ -= r->unwritten;
  reservations_.erase(r);
}

// A part of a body that is fetched twice is written twice: never more than what was reserved.
void Budget::wrote(Reservation& r, uint64_t bytes) {
  const uint64_t n = std::min(bytes, r.unwritten);
  r.unwritten -= n;
  unwritten_.fetch_sub(n, std::memory_order_relaxed);
}

// ---- what fits

bool Budget::fits(uint64_t need) const {
  if (used() + need + kTableSlack > limits_.cache_size) return false;
  return kernel_has(limits_.reserve + unwritten_.load(std::memory_order_relaxed) + need);
}

// A file system may be so small that kFreeInodes are most of it.
static uint64_t kept_inodes(const FsSpace& fs) {
  return std::min(Budget::kFreeInodes, fs.total / 4096 / 16);
}

// Other programs use file system and memory, too. Asking costs a microsecond an object and some fifty, so far from full
// they are asked now and then.
bool Budget::kernel_has(uint64_t bytes) const {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  const int64_t now_ns = now.tv_sec * 1'000'000'000 + now.tv_nsec;
  if (dir_.home().in_memory() && (now_ns - asked_memory_ns_ >= kAskMemoryEveryNs || memory_ < bytes)) {
    asked_memory_ns_ = now_ns;
    memory_ = available_memory();
  }
  const bool far = fs_.free >= bytes + kFarFromFull && fs_.free_inodes >= kFarFromLast;
  if (now_ns - asked_fs_ns_ >= kAskFsEveryNs || !far) {
    asked_fs_ns_ = now_ns;
    fs_ = dir_.space();
  }
  return std::min(fs_.free, memory_) >= bytes && fs_.free_inodes >= kept_inodes(fs_);
}

Budget::Lack Budget::lack(uint64_t bytes) const {
  const FsSpace fs = dir_.space();
  const uint64_t free = dir_.home().in_memory() ? std::min(fs.free, available_memory()) : fs.free;
  return {bytes - std::min(bytes, free), kept_inodes(fs) - std::min(kept_inodes(fs), fs.free_inodes)};
}

bool Budget::passing_fits(const Accounts& of, uint64_t need) const {
  return of.passing.value() + need <= passing_share() / 2 && used() + need <= limits_.cache_size + passing_share() &&
         kernel_has(unwritten_.load(std::memory_order_relaxed) + need);
}

bool Budget::passing_chunk_fits(uint64_t need) const {
  return total_.chunks.value() + need <= passing_share() && used() + need <= limits_.cache_size + passing_share() &&
         kernel_has(unwritten_.load(std::memory_order_relaxed) + need);
}

bool Budget::within_quota(const Dataset& d, const Accounts& of, uint64_t need) const {
  const uint64_t quota = d.quota.load(std::memory_order_relaxed);
  return quota == 0 || of.held() + need <= quota;
}

bool Budget::can_ever_fit(const Dataset& d, uint64_t need) const {
  return need + tables() + kTableSlack <= limits_.cache_size && need <= limit_of(d);
}

uint64_t Budget::limit_of(const Dataset& d) const {
  const uint64_t quota = d.quota.load(std::memory_order_relaxed);
  return quota == 0 ? limits_.cache_size : std::min(quota, limits_.cache_size);
}

uint64_t Budget::share_of(const Dataset* d, uint64_t share) const {
  if (!d) return share;
  return static_cast<uint64_t>(static_cast<double>(share) * static_cast<double>(limit_of(*d)) /
                               static_cast<double>(limits_.cache_size));
}

// ---- counting anew

void Budget::replace(Account Accounts::*which, Accounts& of, uint64_t n) {
  (of.*which).set(n);
  (total_.*which).add(n);
}

void Budget::replace(const std::vector<Found>& found, uint64_t zombies) {
  for (Account Accounts::*which : {&Accounts::cached, &Accounts::files, &Accounts::staged, &Accounts::reserved})
    (total_.*which).set(0);
  for (Reservation& r : reservations_) {  // also of datasets that are not known any more
    r.of->reserved.set(0);
    r.of->staged.set(0);
  }
  for (const Found& f : found) {
    replace(&Accounts::cached, *f.of, f.cached);
    replace(&Accounts::files, *f.of, f.files);
    replace(&Accounts::staged, *f.of, f.staged);
    f.of->reserved.set(0);
  }
  for (Reservation& r : reservations_) {
    up(&Accounts::reserved, *r.of, r.bytes);
    if (r.staged) file_staged(*r.of, r.bytes);
  }
  zombies_.set(zombies);
  distrust(nullptr);
}

void Budget::replace_chunks(const std::vector<FoundChunks>& found) {
  total_.chunks.set(0);
  total_.staged_chunks.set(0);
  for (const FoundChunks& f : found) {
    replace(&Accounts::chunks, *f.of, f.chunks);
    replace(&Accounts::staged_chunks, *f.of, f.staged);
  }
}

}  // namespace larder
