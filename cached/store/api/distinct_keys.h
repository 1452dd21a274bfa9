// Of what a store lists twice, the later: a listing that went over a page again, or a server that forgot that it had
// given a key already, must not keep a dataset from being mounted.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "cached/store/api/store.h"

namespace larder {

struct ListedTwice {
  uint64_t count = 0;   // objects that a later one with the same key replaced
  std::string example;  // the first such key
  // "3 keys are listed twice, such as ...", for a log or a user.
  std::string text() const;
};

// Store::list() with strictly ascending keys. What is replaced is added to `twice`. Blocks.
Status list_distinct(Store& store, const std::function<Status(std::vector<ObjectInfo>&&)>& page, ListedTwice& twice);

}  // namespace larder
