// Turns the pages of a store's list into what Store::list() promises: relative keys, ascending. What comes twice stays,
// in the order in which it came.
//
// S3 lists in byte order. Stores on top of folders (SeaweedFS, rclone's server) list folder by folder ("a/b" before
// "a-b"), so the first kWindow objects are kept back: if the order breaks within them, everything is collected and
// sorted. If it breaks later, the list ends with an error that names the option list_order=any. A key without the
// prefix is an error, too: such a store ignores the request and could be listed for ever.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cached/store/api/store.h"

namespace larder {

class ListOrder {
 public:
  using Page = std::function<Status(std::vector<ObjectInfo>&&)>;
  static constexpr size_t kWindow = 100'000;  // about 15 MB

  ListOrder(std::string name, std::string prefix, bool any_order, Page page);
  Status add(std::vector<ObjectInfo>&& objects);  // full keys
  Status end();

 private:
  Status take(ObjectInfo&& object);
  Status flush();

  const std::string name_, prefix_;
  const Page page_;
  bool sort_;  // collect all, sort at the end
  bool in_order_ = true;
  bool flushed_ = false;  // something was delivered
  std::string last_;
  std::vector<ObjectInfo> held_;
};

}  // namespace larder
