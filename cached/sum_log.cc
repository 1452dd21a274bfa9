#include "cached/sum_log.h"

#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "cached/files.h"

namespace larder {

static constexpr uint64_t kSeed = 0x6c61726465727331ULL;

static uint64_t check_of(const SumRecord& r) { return XXH3_64bits_withSeed(&r, offsetof(SumRecord, check), kSeed); }

Sums::Sums(std::vector<SumRecord> records) : records_(std::move(records)) {
  std::stable_sort(records_.begin(), records_.end(), [](auto& a, auto& b) { return oid_less(a.oid, b.oid); });
}

std::optional<uint64_t> Sums::find(ObjectId oid) const {
  auto after = std::upper_bound(records_.begin(), records_.end(), oid, [](auto& a, auto& b) { return oid_less(a, b.oid); });
  if (after == records_.begin() || (after - 1)->oid != oid) return std::nullopt;
  return (after - 1)->sum;
}

Result<std::unique_ptr<SumLog>> SumLog::open(int folder, int tmp, Meter& meter) {
  std::unique_ptr<SumLog> log(new SumLog(folder, tmp, meter));
  log->fd_ = Fd(::openat(folder, "sums", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat st;
  if (!log->fd_.valid() || ::fstat(log->fd_.get(), &st) != 0) return os_error("cannot open the checksums of a dataset");
  if (!S_ISREG(st.st_mode)) return make_error(EBADMSG, "the checksums of a dataset are not a file");
  log->bytes_ = static_cast<uint64_t>(st.st_size) / sizeof(SumRecord) * sizeof(SumRecord);  // a torn tail is written over
  log->recharge();
  return log;
}

void SumLog::recharge() {
  charge_ = Charge();
  charge_ = Charge(meter_, on_disk(bytes_));
}

Status SumLog::append(ObjectId oid, uint64_t sum) {
  SumRecord r{oid, sum, 0};
  r.check = check_of(r);
  std::lock_guard lock(mutex_);
  if (Status s = pwrite_all(fd_.get(), &r, sizeof r, bytes_); !s) return s;
  bytes_ += sizeof r;
  if (bytes_ % 4096 == sizeof r) recharge();
  return {};
}

Result<std::vector<SumRecord>> SumLog::read_records() const {
  std::vector<SumRecord> all(bytes_ / sizeof(SumRecord));
  size_t done = 0;
  while (done < bytes_) {
    ssize_t n = ::pread(fd_.get(), reinterpret_cast<char*>(all.data()) + done, bytes_ - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os_error("cannot read the checksums of a dataset", n < 0 ? errno : EIO);
    done += static_cast<size_t>(n);
  }
  std::erase_if(all, [](const SumRecord& r) { return r.check != check_of(r); });
  return all;
}

Result<Sums> SumLog::load() const {
  std::lock_guard lock(mutex_);
  Result<std::vector<SumRecord>> all = read_records();
  if (!all) return all.error();
  return Sums(std::move(*all));
}

Status SumLog::compact(const std::vector<ObjectId>& live) {
  std::lock_guard lock(mutex_);
  Result<std::vector<SumRecord>> all = read_records();
  if (!all) return all.error();
  Sums sums(std::move(*all));
  std::vector<SumRecord> kept;
  for (const ObjectId& oid : live) {
    std::optional<uint64_t> sum = sums.find(oid);
    if (!sum) continue;
    kept.push_back(SumRecord{oid, *sum, 0});
    kept.back().check = check_of(kept.back());
  }
  Result<Fd> fd = unnamed_file(tmp_);
  if (!fd) return fd.error();
  if (Status s = pwrite_all(fd->get(), kept.data(), kept.size() * sizeof(SumRecord), 0); !s) return s;
  if (Status s = link_file_over(fd->get(), tmp_, folder_, "sums"); !s) return s;
  fd_ = std::move(*fd);
  bytes_ = kept.size() * sizeof(SumRecord);
  recharge();
  return {};
}

uint64_t SumLog::records() const {
  std::lock_guard lock(mutex_);
  return bytes_ / sizeof(SumRecord);
}

}  // namespace larder
