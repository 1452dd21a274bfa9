#include "cached/catalog/checksum_log.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "cached/base/files.h"
#include "larder/names.h"

namespace larder {

static constexpr uint64_t kSeed = 0x6c61726465727331ULL;
static constexpr size_t kPage = 4096;

static uint64_t check_of(const SumRecord& r) {
  return XXH3_64bits_withSeed(&r, offsetof(SumRecord, check), kSeed);
}

Sums::Sums(std::vector<SumRecord> records) : records_(std::move(records)) {
  std::stable_sort(records_.begin(), records_.end(), [](auto& a, auto& b) { return oid_less(a.oid, b.oid); });
}

std::optional<uint64_t> Sums::find(ObjectId oid) const {
  auto after =
      std::upper_bound(records_.begin(), records_.end(), oid, [](auto& a, auto& b) { return oid_less(a, b.oid); });
  if (after == records_.begin() || (after - 1)->oid != oid) return std::nullopt;
  return (after - 1)->sum;
}

Result<std::unique_ptr<ChecksumLog>> ChecksumLog::open(int folder, int tmp, Meter& meter) {
  std::unique_ptr<ChecksumLog> log(new ChecksumLog(folder, tmp, meter));
  if (Status s = log->open_file(); !s) return s.error();
  return log;
}

Status ChecksumLog::open_file() {
  MutexLock lock(mutex_);
  fd_ = Fd(::openat(folder_, kChecksumFile, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  struct stat st;
  if (!fd_.valid() || ::fstat(fd_.get(), &st) != 0) return os_error("cannot open the checksums of a dataset");
  if (!S_ISREG(st.st_mode)) return make_error(EBADMSG, "the checksums of a dataset are not a file");
  bytes_ = static_cast<uint64_t>(st.st_size) / sizeof(SumRecord) * sizeof(SumRecord);  // a torn tail is written over
  if (Status s = find_end_locked(); !s) return s;
  charge_ = Charge(meter_, on_disk(bytes_));
  return {};
}

// Leaves out the zeros of the last page.
Status ChecksumLog::find_end_locked() {
  static constexpr SumRecord kZeros{};
  while (bytes_ > 0) {
    SumRecord page[kPage / sizeof(SumRecord)];
    const uint64_t begin = (bytes_ - 1) / kPage * kPage;
    if (Status s = pread_all(fd_.get(), page, bytes_ - begin, begin); !s) return s;
    for (; bytes_ > begin; bytes_ -= sizeof(SumRecord)) {
      if (memcmp(&page[(bytes_ - begin) / sizeof(SumRecord) - 1], &kZeros, sizeof kZeros) != 0) return {};
    }
  }
  return {};
}

// The page of bytes_.
Status ChecksumLog::next_page_locked() {
  page_ = Mapping();
  const uint64_t begin = bytes_ / kPage * kPage;
  if (int error = ::posix_fallocate(fd_.get(), static_cast<off_t>(begin), kPage); error != 0)
    return os_error("cannot write the checksums of a dataset", error);
  Result<Mapping> page = Mapping::map(fd_.get(), kPage, true, begin);
  if (!page) return page.error();
  page_ = std::move(*page);
  charge_ = Charge();
  charge_ = Charge(meter_, begin + kPage);
  return {};
}

Status ChecksumLog::append(ObjectId oid, uint64_t sum) {
  SumRecord r{oid, sum, 0};
  r.check = check_of(r);
  MutexLock lock(mutex_);
  if (!page_ || bytes_ % kPage == 0) {
    if (Status s = next_page_locked(); !s) return s;
  }
  memcpy(static_cast<char*>(page_.data()) + bytes_ % kPage, &r, sizeof r);
  bytes_ += sizeof r;
  return {};
}

Result<std::vector<SumRecord>> ChecksumLog::read_records_locked() const {
  std::vector<SumRecord> all(bytes_ / sizeof(SumRecord));
  if (Status s = pread_all(fd_.get(), all.data(), bytes_, 0); !s) return s.error();
  std::erase_if(all, [](const SumRecord& r) { return r.check != check_of(r); });
  return all;
}

Result<Sums> ChecksumLog::load() const {
  MutexLock lock(mutex_);
  Result<std::vector<SumRecord>> all = read_records_locked();
  if (!all) return all.error();
  return Sums(std::move(*all));
}

Status ChecksumLog::compact(const std::vector<ObjectId>& live) {
  MutexLock lock(mutex_);
  Result<std::vector<SumRecord>> all = read_records_locked();
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
  if (Status s = link_file_over(fd->get(), tmp_, folder_, kChecksumFile); !s) return s;
  fd_ = std::move(*fd);
  page_ = Mapping();
  bytes_ = kept.size() * sizeof(SumRecord);
  charge_ = Charge();
  charge_ = Charge(meter_, on_disk(bytes_));
  return {};
}

uint64_t ChecksumLog::records() const {
  MutexLock lock(mutex_);
  return bytes_ / sizeof(SumRecord);
}

}  // namespace larder
