#include "cached/catalog/catalog_builder.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <limits>

#include "cached/base/files.h"
#include "cached/catalog/catalog_limits.h"

namespace larder {

ObjectId make_object_id(uint64_t dataset_id, const ObjectView& object) {
  const uint64_t head[] = {dataset_id, object.size, static_cast<uint64_t>(object.mtime_ns), object.key.size()};
  char frame[sizeof head + kMaxPath + kMaxName];
  const size_t path_len = std::min(object.key.size(), kMaxPath);
  const size_t etag_len = std::min(object.etag.size(), kMaxName);
  memcpy(frame, head, sizeof head);
  memcpy(frame + sizeof head, object.key.data(), path_len);
  memcpy(frame + sizeof head + path_len, object.etag.data(), etag_len);
  const XXH128_hash_t h = XXH3_128bits(frame, sizeof head + path_len + etag_len);
  return ObjectId{h.low64, h.high64};
}

Catalog CatalogImage::view() const {
  Catalog c;
  c.header = &header;
  c.entries = entries.data();
  c.slots = slots.data();
  c.names = names.data();
  c.entry_count = header.entry_count;
  c.slot_mask = header.slot_count - 1;
  c.names_bytes = header.names_bytes;
  return c;
}

uint64_t CatalogImage::file_bytes() const {
  return header.names_off + header.names_bytes;
}

void SkippedKeys::add(std::string_view key) {
  ++count;
  if (examples.size() < kMaxExamples) examples.emplace_back(key);
}

// True if every component of a path (no trailing slash) can be a file name.
static bool good_path(std::string_view path) {
  if (path.size() > kMaxPath || memchr(path.data(), 0, path.size())) return false;
  for (size_t at = 0;;) {
    size_t slash = path.find('/', at);
    if (!good_component(path.substr(at, slash == path.npos ? path.npos : slash - at))) return false;
    if (slash == path.npos) return true;
    at = slash + 1;
  }
}

CatalogBuilder::CatalogBuilder(uint64_t dataset_id) : dataset_id_(dataset_id) {
  OpenFolder nobody{0, 0};
  open_.push_back({new_node(nobody, "", "", EntryType::kDirectory), 0});
}

void CatalogBuilder::expect(uint64_t objects) {
  constexpr uint64_t kNameBytes = 60;  // name, NUL and an MD5: more is grown into
  const uint64_t entries = std::min<uint64_t>(objects, kMaxEntries) * 65 / 64 + 64;  // and some folders
  nodes_.reserve(entries);
  hashes_.reserve(entries);
  names_.reserve(entries * kNameBytes);
}

Status CatalogBuilder::in_order(std::string_view key) {
  if (any_ && key <= last_key_)
    return make_error(EINVAL, fmt::format("listing out of order: \"{}\" after \"{}\"", shown(key), shown(last_key_)));
  any_ = true;
  last_key_.assign(key);
  return {};
}

Status CatalogBuilder::add(const ObjectView& object) {
  if (Status ordered = in_order(object.key); !ordered) return ordered;
  if (object.etag.size() > kMaxName)
    return make_error(EINVAL, fmt::format("object \"{}\" has an etag of {} bytes; 255 are possible", shown(object.key),
                                          object.etag.size()));
  std::string_view key = object.key;
  if (key.empty() && object.size == 0) return {};  // the marker of the prefix itself
  bool marker = !key.empty() && key.back() == '/';
  std::string_view path = marker ? key.substr(0, key.size() - 1) : key;
  if (!good_path(path) || (marker && object.size != 0)) {
    skipped_.add(key);
    return {};
  }
  return marker ? add_folder(path, object.mtime_ns, EntryType::kDirectory) : add_file(object);
}

Status CatalogBuilder::add_mount_point(std::string_view path, int64_t mtime_ns) {
  if (Status ordered = in_order(std::string(path) + "/"); !ordered) return ordered;
  if (!good_path(path)) return make_error(EINVAL, fmt::format("\"{}\" cannot be a mount point", shown(path)));
  return add_folder(path, mtime_ns, EntryType::kMount);
}

uint32_t CatalogBuilder::new_node(OpenFolder& parent, std::string_view path, std::string_view name, EntryType type) {
  const auto node = static_cast<uint32_t>(nodes_.size());
  CatalogEntry e{};
  e.name_off = names_.size();
  e.name_len = static_cast<uint16_t>(name.size());
  e.parent = parent.node;
  e.type = type;
  uint64_t hash = path_hash(path.data(), path.size());
  if (e.is_dir()) e.dir_hash = hash;
  if (node != 0) {
    CatalogEntry& p = nodes_[parent.node];
    if (p.dir.child_count++ > 0 && name_of(parent.last_child) >= name) p.dir.reserved = 1;
    parent.last_child = node;
  }
  names_.insert(names_.end(), name.begin(), name.end());
  names_.push_back('\0');
  nodes_.push_back(e);
  hashes_.push_back(hash);
  return node;
}

// Leaves the folders that `path` is not in, makes and enters those it is in. Returns the node of the innermost.
uint32_t CatalogBuilder::enter_folders(std::string_view path, bool last_is_folder) {
  size_t common =
      std::mismatch(path.begin(), path.begin() + std::min(path.size(), last_path_.size()), last_path_.begin()).first -
      path.begin();
  while (open_.size() > 1 && (open_.back().path_len > common ||
                              (path.size() > open_.back().path_len && path[open_.back().path_len] != '/') ||
                              (path.size() == open_.back().path_len && !last_is_folder)))
    open_.pop_back();
  for (;;) {
    size_t start = open_.back().path_len + (open_.size() > 1 ? 1 : 0);
    if (start > path.size()) break;
    size_t slash = path.find('/', start);
    if (slash == path.npos && !last_is_folder) break;
    size_t end = slash == path.npos ? path.size() : slash;
    uint32_t node = new_node(open_.back(), path.substr(0, end), path.substr(start, end - start), EntryType::kDirectory);
    open_.push_back({node, static_cast<uint32_t>(end)});
    if (slash == path.npos) break;
  }
  last_path_.assign(path);
  return open_.back().node;
}

Status CatalogBuilder::add_file(const ObjectView& object) {
  if (nodes_.size() >= kMaxEntries - kMaxPath / 2)
    return make_error(E2BIG, "more objects than a catalog can have (2^30)");
  std::string_view path = object.key;
  enter_folders(path, false);
  size_t start = path.rfind('/') == path.npos ? 0 : path.rfind('/') + 1;
  uint32_t node = new_node(open_.back(), path, path.substr(start), EntryType::kFile);
  CatalogEntry& e = nodes_[node];
  e.size = object.size;
  e.mtime_ns = object.mtime_ns;
  e.oid = make_object_id(dataset_id_, object);
  e.etag_len = static_cast<uint8_t>(object.etag.size());
  names_.insert(names_.end(), object.etag.begin(), object.etag.end());
  return {};
}

Status CatalogBuilder::add_folder(std::string_view path, int64_t mtime_ns, EntryType type) {
  if (nodes_.size() >= kMaxEntries - kMaxPath / 2)
    return make_error(E2BIG, "more objects than a catalog can have (2^30)");
  uint32_t node = enter_folders(path, true);
  nodes_[node].mtime_ns = std::max(nodes_[node].mtime_ns, mtime_ns);
  nodes_[node].type = type;
  return {};
}

std::string CatalogBuilder::path_of_node(uint32_t node) const {
  std::string path(name_of(node));
  for (uint32_t k = nodes_[node].parent; k != 0; k = nodes_[k].parent)
    path.insert(0, std::string(name_of(k)) + "/");
  return path;
}

// Of sorted children, removes those that have the name of the folder before them. Returns how many are left.
uint32_t CatalogBuilder::drop_shadowed(uint32_t* children, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t k = 0; k < count; ++k) {
    if (kept > 0 && name_of(children[kept - 1]) == name_of(children[k]))
      skipped_.add(path_of_node(children[k]));
    else
      children[kept++] = children[k];
  }
  return kept;
}

// Node numbers grouped by parent; the children of node p start at first[p].
void CatalogBuilder::group_children(LargeVector<uint32_t>& first, LargeVector<uint32_t>& children) {
  uint32_t n = static_cast<uint32_t>(nodes_.size());
  first.resize(n);
  children.resize(n - 1);
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; ++i) {
    first[i] = sum;
    if (nodes_[i].is_dir()) sum += nodes_[i].dir.child_count;
  }
  for (uint32_t i = 1; i < n; ++i)
    children[first[nodes_[i].parent]++] = i;  // moves each start behind its group
  for (uint32_t i = 0; i < n; ++i)
    if (nodes_[i].is_dir()) first[i] -= nodes_[i].dir.child_count;
}

// Sorts by name what did not come so. A file with the name of a folder goes.
void CatalogBuilder::sort_children(const LargeVector<uint32_t>& first, LargeVector<uint32_t>& children) {
  auto less = [this](uint32_t a, uint32_t b) {
    int order = name_of(a).compare(name_of(b));
    return order != 0 ? order < 0 : nodes_[a].is_dir() > nodes_[b].is_dir();
  };
  for (uint32_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].is_file() || !nodes_[i].dir.reserved) continue;
    nodes_[i].dir.reserved = 0;
    auto begin = children.begin() + first[i], end = begin + nodes_[i].dir.child_count;
    std::sort(begin, end, less);
    nodes_[i].dir.child_count = drop_shadowed(&*begin, nodes_[i].dir.child_count);
  }
}

// Breadth-first order: entries and their hashes in their final places.
void CatalogBuilder::number(const LargeVector<uint32_t>& first, const LargeVector<uint32_t>& children,
                            CatalogImage& image, LargeVector<uint64_t>& hashes) {
  auto& out = image.entries;
  LargeVector<uint32_t> source{0};
  source.reserve(nodes_.size());
  out.reserve(nodes_.size());
  hashes.reserve(nodes_.size());
  out.push_back(nodes_[0]);
  hashes.push_back(hashes_[0]);
  for (uint32_t i = 0; i < out.size(); ++i) {
    if (out[i].is_file()) continue;
    uint32_t node = source[i], count = out[i].dir.child_count, subdirectories = 0;
    out[i].dir.first_child = static_cast<uint32_t>(out.size());
    for (uint32_t k = 0; k < count; ++k) {
      uint32_t child = children[first[node] + k];
      out.push_back(nodes_[child]);
      out.back().parent = i;
      subdirectories += out.back().is_dir();
      hashes.push_back(hashes_[child]);
      source.push_back(child);
    }
    out[i].dir.subdirectory_count = subdirectories;
  }
}

// A folder is as new as the newest below it.
static void date_folders(LargeVector<CatalogEntry>& entries) {
  for (uint32_t i = static_cast<uint32_t>(entries.size()); --i > 0;) {
    CatalogEntry& parent = entries[entries[i].parent];
    parent.mtime_ns = std::max(parent.mtime_ns, entries[i].mtime_ns);
  }
}

static uint32_t slots_for(size_t entries) {
  uint32_t count = 16;
  while (uint64_t{count} * 7 < uint64_t{entries} * 10)
    count *= 2;
  return count;
}

static Status fill_slots(CatalogImage& image, const LargeVector<uint64_t>& hashes) {
  constexpr uint32_t kAhead = 16;  // slots are in random order: memory answers while others are filled
  const uint32_t mask = slots_for(image.entries.size()) - 1, n = static_cast<uint32_t>(hashes.size());
  image.slots.resize(size_t{mask} + 1);
  CatalogSlot* slots = image.slots.data();
  for (uint32_t i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(slots + (static_cast<uint32_t>(hashes[i + kAhead]) & mask), 1);
    uint32_t tag = static_cast<uint32_t>(hashes[i] >> 32), s = static_cast<uint32_t>(hashes[i]) & mask;
    for (; slots[s].entry_plus1 != 0; s = (s + 1) & mask) {
      uint32_t other = slots[s].entry_plus1 - 1;
      if (slots[s].tag == tag && hashes[other] == hashes[i] && image.entries[i].is_dir() &&
          image.entries[other].is_dir())
        return make_error(EEXIST,
                          fmt::format("two folders have one path hash ({:016x}); rename one of them", hashes[i]));
    }
    slots[s] = CatalogSlot{tag, i + 1};
  }
  return {};
}

static void count_entries(CatalogImage& image) {
  for (const CatalogEntry& e : image.entries) {
    (e.is_file() ? image.header.file_count : image.header.directory_count) += 1;
    if (e.is_file()) image.header.total_bytes += e.size;
  }
}

static uint64_t aligned(uint64_t n) {
  return (n + 7) & ~uint64_t{7};
}

static uint64_t checksum_of(const CatalogImage& image) {
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, image.entries.data(), image.entries.size() * sizeof(CatalogEntry));
  XXH3_64bits_update(&state, image.slots.data(), image.slots.size() * sizeof(CatalogSlot));
  XXH3_64bits_update(&state, image.names.data(), image.names.size());
  return XXH3_64bits_digest(&state);
}

static void fill_header(CatalogImage& image) {
  CatalogHeader& h = image.header;
  h.magic = kCatalogMagic;
  h.format = kCatalogFormat;
  h.header_bytes = sizeof(CatalogHeader);
  h.entry_count = static_cast<uint32_t>(image.entries.size());
  h.slot_count = static_cast<uint32_t>(image.slots.size());
  h.entries_off = sizeof(CatalogHeader);
  h.slots_off = h.entries_off + image.entries.size() * sizeof(CatalogEntry);
  h.names_off = h.slots_off + image.slots.size() * sizeof(CatalogSlot);
  h.names_bytes = image.names.size();
  h.checksum = checksum_of(image);
}
static_assert(sizeof(CatalogHeader) % 8 == 0 && sizeof(CatalogEntry) % 8 == 0);  // so no padding between the areas

Result<CatalogImage> CatalogBuilder::finish(uint64_t version, int64_t published_ns) {
  CatalogImage image;
  LargeVector<uint64_t> hashes;
  {
    LargeVector<uint32_t> first, children;
    group_children(first, children);
    sort_children(first, children);
    number(first, children, image, hashes);
  }
  nodes_ = {};
  hashes_ = {};
  date_folders(image.entries);
  image.names = std::move(names_);
  image.names.resize(aligned(image.names.size()), '\0');
  if (Status filled = fill_slots(image, hashes); !filled) return filled.error();
  image.header.dataset_id = dataset_id_;
  image.header.version = version;
  image.header.published_ns = published_ns;
  image.header.skipped = skipped_.count;
  count_entries(image);
  fill_header(image);
  return image;
}

template <typename T>
static Status write_area(LargeVector<T> area, int fd, uint64_t offset) {
  constexpr size_t kStep = 16u << 20;
  char* p = reinterpret_cast<char*>(area.data());
  for (size_t left = area.size() * sizeof(T), n; left > 0; p += n, offset += n, left -= n) {
    n = std::min(left, kStep);
    if (Status s = pwrite_all(fd, p, n, offset); !s) return s;
    give_back(area, p, n);
  }
  return {};
}

Status write_catalog(CatalogImage&& image, int fd) {
  const CatalogHeader& h = image.header;
  if (Status s = pwrite_all(fd, &h, sizeof h, 0); !s) return s;
  if (Status s = write_area(std::move(image.entries), fd, h.entries_off); !s) return s;
  if (Status s = write_area(std::move(image.slots), fd, h.slots_off); !s) return s;
  if (Status s = write_area(std::move(image.names), fd, h.names_off); !s) return s;
  if (::fchmod(fd, 0444) != 0) return os_error("cannot set the mode of a catalog");
  return {};
}

}  // namespace larder
