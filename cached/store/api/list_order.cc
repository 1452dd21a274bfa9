#include "cached/store/api/list_order.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr size_t kPage = 10'000;  // objects a call of the receiver, once a sorted list is handed on

}  // namespace

ListOrder::ListOrder(std::string name, std::string prefix, bool any_order, Page page)
    : name_(std::move(name)), prefix_(std::move(prefix)), page_(std::move(page)), sort_(any_order) {}

Status ListOrder::add(std::vector<ObjectInfo>&& objects) {
  for (auto& object : objects) {
    if (auto status = take(std::move(object)); !status.ok()) return status;
  }
  if (in_order_ && !sort_ && held_.size() >= (flushed_ ? 1 : kWindow)) return flush();
  return {};
}

Status ListOrder::take(ObjectInfo&& object) {
  if (!object.key.starts_with(prefix_)) {
    return make_error(
        EIO, fmt::format("{}: the store listed '{}', which is not below the prefix", name_, printable(object.key)));
  }
  object.key.erase(0, prefix_.size());
  if (object.key.empty() && object.size == 0) return {};  // "train/" itself: the marker a console makes for a folder
  const bool descends = held_.empty() ? flushed_ && object.key < last_ : object.key < held_.back().key;
  if (descends) {
    if (flushed_) {
      return make_error(EIO,
                        fmt::format("{}: the store's list is not in byte order ('{}' after '{}'); set the store option "
                                    "list_order=any",
                                    name_, printable(object.key), printable(held_.empty() ? last_ : held_.back().key)));
    }
    in_order_ = false;
    sort_ = true;
  }
  held_.push_back(std::move(object));
  return {};
}

Status ListOrder::flush() {
  if (held_.empty()) return {};
  last_ = held_.back().key;
  flushed_ = true;
  std::vector<ObjectInfo> out;
  out.swap(held_);
  for (size_t at = 0; at < out.size(); at += kPage) {
    auto first = std::make_move_iterator(out.begin() + static_cast<ptrdiff_t>(at));
    auto last = std::make_move_iterator(out.begin() + static_cast<ptrdiff_t>(std::min(out.size(), at + kPage)));
    if (auto status = page_(std::vector<ObjectInfo>(first, last)); !status.ok()) return status;
  }
  return {};
}

Status ListOrder::end() {
  if (!in_order_) std::stable_sort(held_.begin(), held_.end(), [](auto& a, auto& b) { return a.key < b.key; });
  return flush();
}

}  // namespace larder
