// Compares the parts of a large object with what its store says of the whole: a CRC, which the CRCs of the parts make
// together, or the ETag that it was listed with. Parts come by ranges, and no store has a sum of a range. It compares
// only if the source's option `verify` asks for it.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "cached/store/api/store.h"
#include "cached/store/api/upload.h"
#include "cached/store/checksum/crc.h"
#include "cached/store/checksum/etag_check.h"

namespace larder {

class SourceSum {
 public:
  using ReadBack = std::function<Status(uint64_t offset, std::span<std::byte> out)>;

  SourceSum(const Store& source, const ObjectInfo& object, uint64_t part_bytes);
  // The size of parts from which the ETag can be computed; none: any size.
  static std::optional<uint64_t> part_bytes(const ObjectInfo& object);

  // Call it before the first part arrives. Pass none if parts are there from an earlier run: their CRCs are not known.
  void compare_with(std::optional<CrcSum> crc);
  // Adds a part that arrived. Threads: one at a time for each number.
  void arrived(int number, Bytes data);
  // Adds a part that the target has from an earlier run, with its ETag there.
  void was_there(int number, const std::string& etag);

  // For Endpoint::read(), which sets it if the ETag is not a sum: then the ETag is not compared.
  const std::shared_ptr<std::atomic<bool>>& no_sum() const { return no_sum_; }

  // Call it after the last part. False: some part is wrong, copy the object again. True: they are right, or there is
  // nothing to compare with, or the size of the original's parts is a guess and the same bytes came as last time.
  // `read_back` reads what was written; empty if the target cannot.
  Result<bool> right(const ReadBack& read_back);

 private:
  bool right_by_crc() const;
  Status sum_the_rest(const ReadBack& read_back);
  Result<bool> right_as_read(const ReadBack& read_back) const;

  ObjectInfo object_;
  uint64_t part_bytes_;
  std::optional<CrcSum> crc_;
  std::vector<uint64_t> crcs_;  // of the parts that arrived
  bool told_ = false;           // the ETag is compared
  bool by_parts_ = false;       // from the sums of these parts
  std::vector<std::optional<Md5>> sums_;
  std::shared_ptr<std::atomic<bool>> no_sum_ = std::make_shared<std::atomic<bool>>(false);
  std::string refused_;  // the sum that came last and did not match
};

}  // namespace larder
