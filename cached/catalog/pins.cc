#include "cached/catalog/pins.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "larder/hash.h"
#include "larder/names.h"

namespace larder {

static constexpr char kMagic[8] = {'L', 'R', 'D', 'R', 'P', 'I', 'N', '1'};
static constexpr size_t kHead = sizeof kMagic + sizeof(uint64_t);
static constexpr size_t kMostBytes = 64 << 20;

static bool covers(const std::string& above, const std::string& path) {
  return above.empty() || path == above || (path.starts_with(above) && path[above.size()] == '/');
}

// The pin that covers a path: it is that path, or one of the folders above it.
static const std::string* covering(const std::set<std::string>& paths, const std::string& path) {
  for (std::string at = path;; at.resize(at.find_last_of('/') == at.npos ? 0 : at.find_last_of('/'))) {
    if (auto it = paths.find(at); it != paths.end()) return &*it;
    if (at.empty()) return nullptr;
  }
}

static size_t erase_below(std::set<std::string>& paths, const std::string& path) {
  return std::erase_if(paths, [&](const std::string& p) { return covers(path, p); });
}

// Calls `each` with the files at and below a path.
static void for_files(const CatalogVersion& v, const std::string& path, const std::function<void(uint32_t)>& each) {
  const CatalogEntry* entries = v.catalog().entries;
  std::vector<uint32_t> todo;
  if (uint32_t top = v.find(path); top != kNoEntry) todo.push_back(top);
  while (!todo.empty()) {
    const uint32_t i = todo.back();
    todo.pop_back();
    if (entries[i].is_file()) each(i);
    for (uint32_t k = entries[i].is_file() ? 0 : entries[i].dir.child_count; k-- > 0;)
      todo.push_back(entries[i].dir.first_child + k);
  }
}

std::unique_ptr<Pins> Pins::open(int folder, int tmp, Meter& meter) {
  std::unique_ptr<Pins> pins(new Pins(folder, tmp, meter));
  if (Status s = pins->load(); !s && s.error().code != ENOENT)
    spdlog::error("what was pinned is forgotten: {}", s.error().message);
  return pins;
}

Status Pins::load() {
  Result<std::string> text = read_file(folder_, kPinFile, kMostBytes);
  if (!text) return text.error();
  uint64_t sum = 0;
  if (text->size() >= kHead) memcpy(&sum, text->data() + sizeof kMagic, sizeof sum);
  const bool good = text->size() >= kHead && memcmp(text->data(), kMagic, sizeof kMagic) == 0 &&
                    sum == XXH3_64bits(text->data() + kHead, text->size() - kHead) &&
                    (text->size() == kHead || text->back() == 0);
  if (!good) return make_error(EBADMSG, "the file \"pins\" is damaged");
  for (size_t at = kHead; at < text->size(); at += strlen(text->c_str() + at) + 1)
    paths_.insert(text->c_str() + at);
  charge_ = Charge(meter_, on_disk(text->size()));
  return {};
}

Status Pins::replace(std::set<std::string> paths) {
  std::string rest;
  for (const std::string& p : paths)
    rest.append(p.c_str(), p.size() + 1);
  if (rest.size() > kMostBytes - kHead)
    return make_error(E2BIG, "the pinned paths are too long; pin folders instead of files");
  const uint64_t sum = XXH3_64bits(rest.data(), rest.size());
  std::string text(kMagic, sizeof kMagic);
  text.append(reinterpret_cast<const char*>(&sum), sizeof sum) += rest;
  Result<Fd> fd = unnamed_file(tmp_);
  if (!fd) return fd.error();
  if (Status s = pwrite_all(fd->get(), text.data(), text.size(), 0); !s) return s;
  if (Status s = link_file_over(fd->get(), tmp_, folder_, kPinFile); !s) return s;
  paths_ = std::move(paths);
  charge_ = Charge();
  charge_ = Charge(meter_, on_disk(text.size()));
  return {};
}

Status Pins::add(std::span<const std::string> more) {
  std::set<std::string> paths = paths_;
  for (const std::string& p : more) {
    if (covering(paths, p)) continue;
    auto below = paths.lower_bound(p);
    if (below != paths.end() && below->starts_with(p)) erase_below(paths, p);
    paths.insert(p);
  }
  if (paths.size() > kMost)
    return make_error(E2BIG, fmt::format("more than {} paths would be pinned; pin folders instead of files", kMost));
  return paths == paths_ ? Status() : replace(std::move(paths));
}

Result<size_t> Pins::remove(const std::string& path) {
  const std::string* above = covering(paths_, path);
  if (above && *above != path)
    return make_error(EINVAL, fmt::format("it is pinned through {}; unpin that",
                                          above->empty() ? "the whole dataset" : "the folder " + shown(*above)));
  std::set<std::string> paths = paths_;
  const size_t gone = erase_below(paths, path);
  if (gone == 0) return gone;
  if (Status s = replace(std::move(paths)); !s) return s.error();
  return gone;
}

uint64_t Pins::measure(const CatalogVersion& v, std::span<const std::string> paths) const {
  std::vector<bool> seen(v.catalog().entry_count);
  uint64_t bytes = 0;
  for (const std::string& p : paths)
    for_files(v, p, [&](uint32_t entry) {
      if (!seen[entry] && !contains(entry)) bytes += on_disk(v.catalog().entries[entry].size);
      seen[entry] = true;
    });
  return bytes;
}

uint64_t Pins::follow(const CatalogVersion* v, uint64_t most) {
  entries_.assign(v && !paths_.empty() ? v->catalog().entry_count : 0, false);
  files_ = bytes_ = 0;
  uint64_t left_out = 0;
  for (const std::string& p : paths_) {
    if (!v) break;
    for_files(*v, p, [&](uint32_t entry) {
      const uint64_t bytes = on_disk(v->catalog().entries[entry].size);
      if (bytes_ + bytes > most) return void(++left_out);
      entries_[entry] = true;
      files_ += 1;
      bytes_ += bytes;
    });
  }
  return left_out;
}

}  // namespace larder
