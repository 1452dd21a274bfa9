// A GET of many bytes by parallel ranges, delivered in order.
//
// One S3 connection gives 50 to 90 MB/s. Parts of 8 MiB (mountpoint-s3: the largest that reaches full throughput) are
// fetched at once, up to 8 a request and 32 a store beyond the one that is being delivered: at most 256 MiB wait in
// memory. The part that is next in order goes straight to the receiver, without a copy. All parts carry If-Match: they
// come from one version or the request ends with ESTALE. Without an etag nothing proves that, so the request is a
// single GET.
#pragma once
#include <memory>

#include "cached/store/http/http_store.h"

namespace larder {

inline constexpr uint64_t kParallelAbove = 16 << 20;
inline constexpr uint64_t kPartBytes = 8 << 20;
inline constexpr int kPartsAhead = 8;
inline constexpr int kStorePartsAhead = 32;

bool wants_parallel(const StoreContext& store, const GetRequest& request);
void start_parallel_get(std::shared_ptr<StoreContext> store, HttpEngine& engine, GetRequest request);

}  // namespace larder
