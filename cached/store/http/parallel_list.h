// Lists a bucket folder by folder, many at once, and delivers the objects in byte order of their keys, as a single list
// does.
//
// A list is a chain of pages, each of which must come before the next can be asked for: a million keys at 1,000 a page
// and 30 ms are half a minute. Folders are lists of their own. A folder of one page is listed with all below it; a
// larger one is split into the folders in it, unless those are so small that there would be more requests than pages.
// A folder without folders that goes on for many pages is split by the next character of its keys, which is found by
// asking for the first key after each character.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cached/store/http/protocol.h"

namespace larder {

class ParallelList {
 public:
  // One page below `folder` (relative to the source; empty, or ends in '/'); `split`: only its own objects and
  // folders. Blocks; called from several threads.
  using Ask = std::function<Result<ListPage>(const std::string& folder, bool split, const std::string& next)>;
  // The first key (full) below `folder` that is after `after` (full, too); empty: there is none.
  using FirstAfter = std::function<Result<std::string>(const std::string& folder, const std::string& after)>;
  using Page = std::function<Status(std::vector<ObjectInfo>&&)>;
  static constexpr int kAtOnce = 32;
  static constexpr size_t kWorthSplitting = 100;  // keys a folder, on average

  // Pages in a chain before looking for the next characters pays: it asks once for each of them, one after the other.
  static constexpr size_t kPatience = 25;

  // `prefix`: of every key, as the store has it. `first_after` may be null.
  ParallelList(std::string prefix, Ask ask, FirstAfter first_after, Page page);
  // Objects with full keys, sorted within and across calls of `page`, which runs on the caller's thread.
  Status run();

 private:
  struct Node;
  struct State;
  const std::string prefix_;
  const Ask ask_;
  const FirstAfter first_after_;
  const Page page_;
};

}  // namespace larder
