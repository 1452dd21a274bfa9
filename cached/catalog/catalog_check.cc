#include "cached/catalog/catalog_check.h"

#include <string>
#include <string_view>

#include "cached/catalog/catalog_limits.h"
#include "larder/catalog.h"

namespace larder {

static Error broken(std::string what) {
  return make_error(EBADMSG, "catalog is damaged: " + what);
}

static Status check_header(const Catalog& c, uint64_t bytes, uint64_t dataset_id, uint64_t version) {
  const CatalogHeader& h = *c.header;
  if (h.dataset_id != dataset_id || h.version != version) return broken("it is of another dataset or version");
  if (h.entry_count > kMaxEntries) return broken("too many entries");
  const char* body = reinterpret_cast<const char*>(c.header) + sizeof(CatalogHeader);
  if (XXH3_64bits(body, bytes - sizeof(CatalogHeader)) != h.checksum) return broken("wrong checksum");
  uint64_t used = 0;
  for (uint64_t s = 0; s <= c.slot_mask; ++s) {
    used += c.slots[s].entry_plus1 != 0;
    if (c.slots[s].entry_plus1 > c.entry_count) return broken("a slot leads outside");
  }
  if (used != c.entry_count || used * 10 > (uint64_t{c.slot_mask} + 1) * 7)
    return broken("wrong number of slots in use");
  return {};
}

static bool good_name(const Catalog& c, const CatalogEntry& e, bool root) {
  uint64_t tail = uint64_t{e.name_len} + 1 + e.etag_len;
  if (e.name_off > c.names_bytes || tail > c.names_bytes - e.name_off) return false;
  std::string_view name(c.name(e), e.name_len);
  if (c.name(e)[e.name_len] != 0) return false;
  if (root) return name.empty();
  return good_component(name) && name.find('/') == name.npos && name.find('\0') == name.npos;
}

// A folder's children: contiguous, after it, sorted, theirs.
static Status check_children(const Catalog& c, uint32_t i, uint64_t* next_child) {
  const CatalogEntry& e = c.entries[i];
  if (e.dir.child_count > c.entry_count - 1 || e.dir.first_child > c.entry_count - e.dir.child_count)
    return broken("children outside");
  if (e.dir.first_child != *next_child || *next_child <= i) return broken("children not in breadth-first order");
  uint32_t subdirectories = 0;
  for (uint32_t k = 0; k < e.dir.child_count; ++k) {
    const CatalogEntry& child = c.entries[e.dir.first_child + k];
    if (child.parent != i) return broken("a child of another parent");
    if (!good_name(c, child, false)) return broken("a bad name");
    subdirectories += child.is_dir();
    if (k == 0) continue;
    const CatalogEntry& before = c.entries[e.dir.first_child + k - 1];
    if (std::string_view(c.name(before), before.name_len) >= std::string_view(c.name(child), child.name_len))
      return broken("children not sorted");
  }
  if (subdirectories != e.dir.subdirectory_count) return broken("wrong number of folders in a folder");
  *next_child += e.dir.child_count;
  return {};
}

static Status check_found(const Catalog& c, uint32_t i) {
  char path[kMaxPath];
  long len = c.path_of(i, path, sizeof path);
  if (len < 0) return broken("a path is too long");
  uint64_t hash = path_hash(path, static_cast<size_t>(len));
  if (c.find_hashed(hash, path, static_cast<size_t>(len)) != i) return broken("an entry is not found under its path");
  const CatalogEntry& e = c.entries[i];
  if (e.is_dir() && (e.dir_hash != hash || c.find_directory(hash) != i)) return broken("a folder has a wrong hash");
  return {};
}

static Status check_entries(const Catalog& c) {
  if (c.entries[0].parent != 0 || !c.entries[0].is_dir() || !good_name(c, c.entries[0], true))
    return broken("bad root");
  uint64_t next_child = 1, files = 0, bytes = 0;
  for (uint32_t i = 0; i < c.entry_count; ++i) {
    const CatalogEntry& e = c.entries[i];
    uint8_t type = static_cast<uint8_t>(e.type);
    if (type < 1 || type > 3 || (type == 3 && c.header->dataset_id != 0)) return broken("an unknown type of entry");
    if (e.is_file())
      ++files, bytes += e.size;
    else if (Status s = check_children(c, i, &next_child); !s)
      return s;
  }
  if (next_child != c.entry_count) return broken("entries without a parent");
  if (files != c.header->file_count || c.entry_count - files != c.header->directory_count ||
      bytes != c.header->total_bytes)
    return broken("wrong totals");
  for (uint32_t i = 0; i < c.entry_count; ++i)
    if (Status s = check_found(c, i); !s) return s;
  return {};
}

Status valid_catalog(const void* base, uint64_t bytes, uint64_t dataset_id, uint64_t version) {
  Catalog c;
  if (!c.attach(base, bytes)) return broken("bad header");
  if (Status s = check_header(c, bytes, dataset_id, version); !s) return s;
  return check_entries(c);
}

}  // namespace larder
