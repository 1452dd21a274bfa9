#include "cached/store/api/distinct_keys.h"

#include <fmt/format.h>

#include <algorithm>

#include "cached/base/text.h"

namespace larder {
namespace {

bool same_key(const ObjectInfo& a, const ObjectInfo& b) {
  return a.key == b.key;
}

void note(const ObjectInfo& replaced, ListedTwice& twice) {
  if (twice.count++ == 0) twice.example = replaced.key;
}

// Within one page, the last of each key stays.
void keep_last(std::vector<ObjectInfo>& page, ListedTwice& twice) {
  auto first = std::adjacent_find(page.begin(), page.end(), same_key);
  if (first == page.end()) return;
  auto to = first;
  for (auto from = std::next(first); from != page.end(); ++from) {
    if (same_key(*to, *from))
      note(*from, twice);
    else
      ++to;
    if (to != from) *to = std::move(*from);
  }
  page.erase(std::next(to), page.end());
}

}  // namespace

std::string ListedTwice::text() const {
  return fmt::format("{} {} listed twice, such as '{}': the later entry counts", count,
                     count == 1 ? "key is" : "keys are", printable(example));
}

Status list_distinct(Store& store, const std::function<Status(std::vector<ObjectInfo>&&)>& page, ListedTwice& twice) {
  std::vector<ObjectInfo> held;  // until it is known whether the next page begins with its last key
  Status listed = store.list([&](std::vector<ObjectInfo>&& objects) -> Status {
    if (objects.empty()) return {};
    keep_last(objects, twice);
    if (!held.empty() && same_key(held.back(), objects.front())) {
      note(held.back(), twice);
      held.pop_back();
    }
    held.swap(objects);
    return objects.empty() ? Status() : page(std::move(objects));
  });
  if (!listed || held.empty()) return listed;
  return page(std::move(held));
}

}  // namespace larder
