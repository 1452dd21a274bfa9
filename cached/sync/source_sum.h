// What arrives of a large object, compared with what its store says of it: a CRC of the whole, which those of the parts
// make together, or the ETag that it was listed with. Its parts come by ranges, which no store has a sum of. Only where
// the source's option `verify` asks for it.
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
  // The size of parts with which the ETag can be told from them; nothing: any.
  static std::optional<uint64_t> part_bytes(const ObjectInfo& object);

  // Before the first part arrives. With a CRC, parts that were there are not known: give none then.
  void compare_with(std::optional<CrcSum> crc);
  // A part that arrived. Each number by one thread at a time.
  void arrived(int number, Bytes data);
  // A part that the target has from an earlier run, and its ETag there.
  void was_there(int number, const std::string& etag);

  // For Endpoint::read(): an ETag that is no sum is not compared.
  const std::shared_ptr<std::atomic<bool>>& no_sum() const { return no_sum_; }

  // After the last part. False: some are wrong: copy it again. True if they are right, if nothing tells, or if the same
  // came as the last time and the size of the original's parts is a guess. `read_back` reads what was written; empty:
  // the target cannot.
  Result<bool> right(const ReadBack& read_back);

 private:
  bool right_by_crc() const;
  Status sum_the_rest(const ReadBack& read_back);
  Result<bool> right_as_read(const ReadBack& read_back) const;

  ObjectInfo object_;
  uint64_t part_bytes_;
  std::optional<CrcSum> crc_;
  std::vector<uint64_t> crcs_;  // of the parts that arrived
  bool told_ = false;           // the ETag tells
  bool by_parts_ = false;       // from the sums of these parts
  std::vector<std::optional<Md5>> sums_;
  std::shared_ptr<std::atomic<bool>> no_sum_ = std::make_shared<std::atomic<bool>>(false);
  std::string refused_;  // what came and was not right
};

}  // namespace larder
