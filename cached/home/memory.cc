#include "cached/home/memory.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <vector>

#include "cached/base/files.h"

namespace larder {
namespace {

constexpr uint64_t kNone = UINT64_MAX;
constexpr size_t kMaxFile = 1 << 20;

std::string text_of(const std::string& path) {
  Result<std::string> text = read_file(AT_FDCWD, path, kMaxFile);
  return text ? *text : std::string();
}

// The number at the start of a text, after blanks; kNone: there is none ("max").
uint64_t number_at(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  uint64_t n = 0;
  return std::from_chars(text.data(), text.data() + text.size(), n).ec == std::errc() ? n : kNone;
}

// The number in the line that begins with `key`.
uint64_t value_of(const std::string& text, const std::string& key) {
  for (size_t at = text.find(key); at != text.npos; at = text.find(key, at + 1))
    if (at == 0 || text[at - 1] == '\n') return number_at(std::string_view(text).substr(at + key.size()));
  return kNone;
}

uint64_t or_zero(uint64_t n) {
  return n == kNone ? 0 : n;
}

// How the two versions of control groups name the same things.
struct Version {
  const char* folder;  // below the root
  const char* limit;
  const char* used;
  const char* files[2];  // in memory.stat: pages of files on disk, which the kernel drops first
};
constexpr Version kV2 = {"sys/fs/cgroup", "memory.max", "memory.current", {"inactive_file ", "active_file "}};
constexpr Version kV1 = {"sys/fs/cgroup/memory",
                         "memory.limit_in_bytes",
                         "memory.usage_in_bytes",
                         {"total_inactive_file ", "total_active_file "}};

// This process' group in the hierarchy with memory, "" if there is none: "0::/a/b" or "7:memory:/a/b".
std::string group_of(const std::string& groups, bool v1) {
  for (size_t at = 0; at < groups.size();) {
    const size_t end = std::min(groups.find('\n', at), groups.size());
    const std::string_view line = std::string_view(groups).substr(at, end - at);
    at = end + 1;
    const size_t first = line.find(':'), second = first == line.npos ? first : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const bool found = v1 ? controllers.find(",memory,") != controllers.npos : controllers == ",,";
    if (found) return std::string(line.substr(second + 1));
  }
  return "";
}

void look_at(const std::string& folder, const Version& v, Memory& m) {
  const std::string file = folder + "/" + v.limit;
  const uint64_t limit = number_at(text_of(file));
  if (limit >= m.total) return;  // version 1 says that there is none by a huge number
  if (limit < m.limit) {
    m.limit = limit;
    m.limited_by = file;
  }
  const std::string stat = text_of(folder + "/memory.stat");
  const uint64_t used = or_zero(number_at(text_of(folder + "/" + v.used)));
  const uint64_t dropped = or_zero(value_of(stat, v.files[0])) + or_zero(value_of(stat, v.files[1]));
  m.available = std::min(m.available, limit - std::min(limit, used - std::min(used, dropped)));
}

// The group and those above it. In a container the path may be one that only the node sees: then the top is its own.
void look_upwards(const std::string& root, const Version& v, std::string group, Memory& m) {
  for (;;) {
    while (!group.empty() && group.back() == '/')
      group.pop_back();
    std::string folder = root;
    folder += v.folder;
    look_at(folder.append(group), v, m);
    if (group.empty()) return;
    group.resize(std::min(group.rfind('/'), group.size()));
  }
}

}  // namespace

Memory memory(const std::string& root) {
  Memory m;
  const std::string node = text_of(root + "proc/meminfo");
  if (uint64_t kb = value_of(node, "MemTotal:"); kb != kNone) m.total = kb * 1024;
  if (uint64_t kb = value_of(node, "MemAvailable:"); kb != kNone) m.available = kb * 1024;
  const std::string groups = text_of(root + "proc/self/cgroup");
  if (const std::string group = group_of(groups, false); !group.empty()) look_upwards(root, kV2, group, m);
  if (const std::string group = group_of(groups, true); !group.empty()) look_upwards(root, kV1, group, m);
  return m;
}

uint64_t available_memory() {
  return memory().available;
}

}  // namespace larder
