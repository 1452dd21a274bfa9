#include "cached/catalog/catalog_version.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "cached/base/files.h"
#include "cached/catalog/catalog_check.h"
#include "larder/names.h"

namespace larder {

uint64_t version_bytes(const Catalog& c) {
  uint64_t touch = on_disk(c.entry_count);
  return on_disk(c.header->names_off + c.names_bytes) + on_disk(residency_bytes(c.entry_count)) + touch;
}

Result<Fd> sealed_memory(const char* name, size_t bytes) {
  Fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid() || ::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0)
    return os_error("cannot make shared memory");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0)
    return os_error("cannot seal shared memory");
  return fd;
}

Result<std::shared_ptr<CatalogVersion>> CatalogVersion::create(int folder, int tmp, CatalogImage&& image,
                                                               Meter& meter) {
  Result<Fd> fd = unnamed_file(tmp);
  if (!fd) return fd.error();
  const uint64_t dataset = image.header.dataset_id, version = image.header.version;
  if (Status s = write_catalog(std::move(image), fd->get()); !s) return s.error();
  if (Status s = link_file_over(fd->get(), tmp, folder, std::string(catalog_name(version))); !s) return s.error();
  auto v = std::make_shared<CatalogVersion>();
  Status s = v->map_catalog(folder, dataset, version);
  if (s) s = v->open_residency(folder, tmp);
  if (s) s = v->make_touch();
  if (!s) {
    ::unlinkat(folder, catalog_name(version).c_str(), 0);
    return s.error();
  }
  v->charge_ = Charge(meter, version_bytes(v->catalog_));
  return v;
}

Result<std::shared_ptr<CatalogVersion>> CatalogVersion::open(int folder, int tmp, uint64_t dataset_id, uint64_t version,
                                                             Meter& meter) {
  auto v = std::make_shared<CatalogVersion>();
  if (Status s = v->map_catalog(folder, dataset_id, version); !s) return s.error();
  if (Status s = valid_catalog(v->catalog_map_.data(), v->catalog_map_.size(), dataset_id, version); !s)
    return s.error();
  if (Status s = v->open_residency(folder, tmp); !s) return s.error();
  if (Status s = v->make_touch(); !s) return s.error();
  v->charge_ = Charge(meter, version_bytes(v->catalog_));
  return v;
}

Status CatalogVersion::map_catalog(int folder, uint64_t dataset_id, uint64_t version) {
  Fd fd(::openat(folder, catalog_name(version).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return os_error(fmt::format("cannot open {}", catalog_name(version).c_str()));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0 || !S_ISREG(st.st_mode)) return make_error(EBADMSG, "catalog is not a file");
  if (st.st_uid != ::geteuid() || (st.st_mode & 0222) != 0)
    return make_error(EBADMSG, "catalog may be written by others");
  if (st.st_size < static_cast<off_t>(sizeof(CatalogHeader))) return make_error(EBADMSG, "catalog is too short");
  Result<Mapping> map = Mapping::map(fd.get(), static_cast<size_t>(st.st_size), false);
  if (!map) return map.error();
  catalog_map_ = std::move(*map);
  if (!catalog_.attach(catalog_map_.data(), catalog_map_.size()))
    return make_error(EBADMSG, "catalog has a bad header");
  if (catalog_.header->dataset_id != dataset_id || catalog_.header->version != version)
    return make_error(EBADMSG, "catalog is of another dataset or version");
  return {};
}

// Pages are allocated here: a store through the mapping must never find the file system full (SIGBUS).
static Status allocate(int fd, uint64_t bytes) {
  if (::fallocate(fd, 0, 0, static_cast<off_t>(bytes)) != 0)
    return os_error("cannot allocate shared memory in the cache folder");
  return {};
}

Status CatalogVersion::open_residency(int folder, int tmp) {
  uint64_t bytes = residency_bytes(catalog_.entry_count);
  const std::string name(residency_name(version()));
  Fd fd(::openat(folder, name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  bool fits = fd.valid() && ::fstat(fd.get(), &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == ::geteuid() &&
              static_cast<uint64_t>(st.st_size) == bytes;
  if (!fits) {
    Result<Fd> fresh = unnamed_file(tmp);
    if (!fresh) return fresh.error();
    fd = std::move(*fresh);
  }
  if (Status s = allocate(fd.get(), bytes); !s) return s;
  Result<Mapping> map = Mapping::map(fd.get(), bytes, true);
  if (!map) return map.error();
  residency_map_ = std::move(*map);
  Residency* r = residency();
  bool good = fits && r->magic == kResidencyMagic && r->format == kResidencyFormat &&
              r->entry_count == catalog_.entry_count && r->dataset_id == catalog_.header->dataset_id &&
              r->version == version();
  for (uint32_t i = 0; !good && i < catalog_.entry_count; ++i)
    set_state(i, kAbsent);
  r->magic = kResidencyMagic;
  r->format = kResidencyFormat;
  r->entry_count = catalog_.entry_count;
  r->dataset_id = catalog_.header->dataset_id;
  r->version = version();
  if (::fchmod(fd.get(), 0644) != 0) return os_error("cannot set the mode of " + name);
  return fits ? Status() : link_file_over(fd.get(), tmp, folder, name);
}

Status CatalogVersion::make_touch() {
  Result<Fd> fd = sealed_memory("larder-touch", catalog_.entry_count);
  if (!fd) return fd.error();
  Result<Mapping> map = Mapping::map(fd->get(), catalog_.entry_count, true);
  if (!map) return map.error();
  touch_ = std::move(*fd);
  touch_map_ = std::move(*map);
  return {};
}

void CatalogVersion::set_state(uint32_t entry, uint32_t state) {
  std::atomic<uint32_t>& word = residency()->words[entry];
  uint32_t generation = word.load(std::memory_order_relaxed) >> 2;
  word.store((generation + 1) << 2 | state, std::memory_order_release);
}

bool CatalogVersion::take_touches(const std::function<void(uint32_t)>& each) {
  auto* bytes = static_cast<uint8_t*>(touch_map_.data());
  size_t size = touch_map_.size(), at = 0;
  bool any = false;
  while (auto* found = at < size ? static_cast<uint8_t*>(memchr(bytes + at, 1, size - at)) : nullptr) {
    *found = 0;
    at = static_cast<size_t>(found - bytes) + 1;
    any = true;
    if (at <= catalog_.entry_count) each(static_cast<uint32_t>(at - 1));
  }
  return any;
}

uint32_t CatalogVersion::find_file(std::string_view path) const {
  uint32_t i = find(path);
  return i != kNoEntry && catalog_.entries[i].is_file() ? i : kNoEntry;
}

std::string CatalogVersion::path_of(uint32_t entry) const {
  char path[4096];
  long len = catalog_.path_of(entry, path, sizeof path - 1);
  return std::string(path, len < 0 ? 0 : static_cast<size_t>(len));
}

std::string_view CatalogVersion::etag_of(uint32_t entry) const {
  const CatalogEntry& e = catalog_.entries[entry];
  return {catalog_.etag(e), e.etag_len};
}

}  // namespace larder
