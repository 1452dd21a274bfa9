#include "preload/resolve/catalog_mapping.h"

#include <errno.h>
#include <string.h>

#include "preload/base/sys.h"

namespace larder {
namespace {

constexpr int kViews = 2 * kMaxMounts + kStates;
constinit View views[kViews];

void unmap(Range* range) {
  if (range->base != nullptr) {
    sys::mmap(range->base, range->bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
}

View* existing_view(uint64_t dataset_id, uint64_t version) {
  for (View& v : views) {
    if (v.users > 0 && v.dataset_id == dataset_id && v.version == version) return &v;
  }
  return nullptr;
}

View* free_view() {
  for (View& v : views) {
    if (v.users == 0 && v.holders.load() == 0) return &v;
  }
  return nullptr;
}

int open_part(int root, const CacheName& name, bool* shortage) {
  const int fd = open_in(root, name);
  *shortage = fd == -EMFILE || fd == -ENFILE;
  return fd;
}

// Maps what a dataset version consists of.
View* make_view(int root, uint64_t dataset_id, uint64_t version, int touch_fd, bool* shortage) {
  View* v = free_view();
  if (v == nullptr) return nullptr;
  sys::Fd catalog(open_part(root, catalog_path(dataset_id, version), shortage));
  if (catalog.get() < 0) return nullptr;
  uint64_t bytes = map_over(&v->catalog_range, catalog.get(), PROT_READ);
  Catalog c;
  if (bytes == 0 || !c.attach(v->catalog_range.base, bytes) || c.header->dataset_id != dataset_id) return nullptr;
  v->residency = nullptr;
  v->touch = nullptr;
  if (dataset_id != 0) {
    sys::Fd residency(open_part(root, residency_path(dataset_id, version), shortage));
    if (residency.get() < 0) return nullptr;
    bytes = map_over(&v->residency_range, residency.get(), PROT_READ);
    auto* r = static_cast<const Residency*>(v->residency_range.base);
    if (bytes < residency_bytes(c.entry_count) || r->magic != kResidencyMagic || r->entry_count != c.entry_count) {
      return nullptr;
    }
    v->residency = r;
    if (touch_fd >= 0 && map_over(&v->touch_range, touch_fd, PROT_READ | PROT_WRITE) >= c.entry_count) {
      v->touch = static_cast<uint8_t*>(v->touch_range.base);
    }
  }
  v->catalog = c;
  v->dataset_id = dataset_id;
  v->version = version;
  v->mapped = true;
  return v;
}

}  // namespace

uint64_t map_over(Range* range, int fd, int prot) {
  struct stat st;
  if (sys::fstat(fd, &st) != 0 || st.st_size <= 0) return 0;
  size_t need = pages(static_cast<size_t>(st.st_size));
  if (need > range->bytes) {
    size_t bytes = pages(need + need / 2);  // room, so that a growing dataset does not leave a trail of ranges
    void* base = sys::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == nullptr) return 0;
    *range = {base, bytes};
  }
  if (sys::mmap(range->base, need, prot, MAP_SHARED | MAP_FIXED, fd, 0) == nullptr) return 0;
  return static_cast<uint64_t>(st.st_size);
}

int open_in(int root, const CacheName& name) {
  return sys::openat(root, name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

View* use_view(int root, uint64_t dataset_id, uint64_t version, int touch_fd, bool* shortage) {
  *shortage = false;
  View* v = existing_view(dataset_id, version);
  if (v == nullptr) v = make_view(root, dataset_id, version, touch_fd, shortage);
  if (v != nullptr) ++v->users;
  return v;
}

void drop_view(View* v) {
  if (v != nullptr) --v->users;
}

void empty_unused_views() {
  for (View& v : views) {
    if (!v.mapped || v.users > 0 || v.holders.load() > 0) continue;
    unmap(&v.catalog_range);
    unmap(&v.residency_range);
    unmap(&v.touch_range);
    v.mapped = false;
  }
}

}  // namespace larder
