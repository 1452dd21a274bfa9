// Lists a bucket folder by folder, many at once, and hands the objects on in byte order of their keys, as one long list does.
//
// A list is a chain of pages, each of which must come before the next can be asked for: a million keys at 1,000 a page and
// 30 ms are half a minute. Folders are lists of their own. A folder of one page is listed with all below it; a larger one is
// split into the folders in it, unless those are so small that there would be more requests than pages. A folder that has
// no folders stays one chain.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cached/store/dialect.h"

namespace larder {

class ParallelList {
 public:
  // One page below `folder` (relative to the source; empty, or ends in '/'); `split`: only what lies in it, and the
  // folders in it. Blocks; called from several threads.
  using Ask = std::function<Result<ListPage>(const std::string& folder, bool split, const std::string& next)>;
  using Page = std::function<Status(std::vector<ObjectInfo>&&)>;
  static constexpr int kAtOnce = 32;
  static constexpr size_t kWorthSplitting = 100;  // keys a folder, on average

  // `prefix`: of every key, as the store has it.
  ParallelList(std::string prefix, Ask ask, Page page);
  // Objects with full keys, sorted within and across calls of `page`, which runs on the caller's thread.
  Status run();

 private:
  struct Node;
  struct State;
  const std::string prefix_;
  const Ask ask_;
  const Page page_;
};

}  // namespace larder
