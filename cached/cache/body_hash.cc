#include "cached/cache/body_hash.h"

#define XXH_STATIC_LINKING_ONLY  // the size of XXH3_state_t
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

namespace larder {

static XXH3_state_t* of(std::byte* state) {
  return reinterpret_cast<XXH3_state_t*>(state);
}

void BodyHash::reset() {
  static_assert(sizeof state_ == sizeof(XXH3_state_t) && alignof(BodyHash) >= alignof(XXH3_state_t));
  XXH3_INITSTATE(of(state_));
  XXH3_64bits_reset(of(state_));
}

void BodyHash::update(std::span<const std::byte> bytes) {
  XXH3_64bits_update(of(state_), bytes.data(), bytes.size());
}

uint64_t BodyHash::value() const {
  return XXH3_64bits_digest(reinterpret_cast<const XXH3_state_t*>(state_));
}

}  // namespace larder
