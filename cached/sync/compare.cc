#include "cached/sync/compare.h"

namespace larder {

bool same_time(int64_t original_ns, int64_t copy_ns, bool copy_in_directory) {
  if (!copy_in_directory) return copy_ns >= original_ns;
  if (copy_ns == original_ns) return true;
  for (int64_t unit : {int64_t{1'000}, int64_t{1'000'000}, int64_t{1'000'000'000}}) {
    const int64_t rest = original_ns % unit;
    if (copy_ns == original_ns - rest - (rest < 0 ? unit : 0)) return true;
  }
  return false;
}

}  // namespace larder
