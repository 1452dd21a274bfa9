#include "cached/namespace/mount_list.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cached/base/files.h"

namespace larder {

using nlohmann::json;

static constexpr size_t kMaxFile = 4 << 20;

const char* fallback_name(Fallback f) {
  return f == Fallback::kOrigin ? "origin" : f == Fallback::kError ? "error" : "wait";
}
const char* fill_name(Fill f) {
  return f == Fill::kOff ? "off" : f == Fill::kSiblings ? "siblings" : "eager";
}

const char* policy_name(Policy p) {
  return p == Policy::kSieve ? "sieve" : "keep";
}

static std::string text_of(const json& entry, const char* key) {
  auto it = entry.find(key);
  return it != entry.end() && it->is_string() ? it->get<std::string>() : "";
}

static Result<StoredMount> read_mount(const json& entry) {
  if (!entry.is_object()) return make_error(EINVAL, "a mount is not an object");
  StoredMount m;
  Result<std::string> path = normal_mount_path(text_of(entry, "path"));
  if (!path) return path.error();
  m.path = *path;
  m.dataset = text_of(entry, "dataset");
  m.source = text_of(entry, "source");
  if (m.dataset.empty() || m.source.empty())
    return make_error(EINVAL, "the mount of " + m.path + " has no dataset or source");
  Result<Fallback> fallback = parse_fallback(text_of(entry, "fallback"));
  Result<Fill> fill = parse_fill(text_of(entry, "fill"));
  if (!fallback) return fallback.error();
  if (!fill) return fill.error();
  m.fallback = *fallback;
  m.fill = *fill;
  // Lists of version 0.1 have neither.
  if (entry.contains("policy")) {
    Result<Policy> policy = parse_policy(text_of(entry, "policy"));
    if (!policy) return policy.error();
    m.policy = *policy;
  }
  if (auto it = entry.find("quota"); it != entry.end()) {
    if (!it->is_number_unsigned()) return make_error(EINVAL, "the quota of " + m.path + " is not a number");
    m.quota = it->get<uint64_t>();
  }
  m.persist = entry.value("persist", json(true)) == json(true);
  std::string instance = text_of(entry, "instance");
  if (!parse_hex(instance, 16, &m.instance)) return make_error(EINVAL, "the mount of " + m.path + " has no instance");
  return m;
}

Result<std::vector<StoredMount>> MountList::load() const {
  std::vector<StoredMount> mounts;
  Result<std::string> text = read_file(AT_FDCWD, file_, kMaxFile);
  if (!text && text.error().code == ENOENT) return mounts;
  if (!text) return text.error();
  auto damaged = [&](const std::string& why) {
    return make_error(EINVAL, fmt::format("{} is damaged ({}); correct or remove it", file_, why));
  };
  json root = json::parse(*text, nullptr, false);
  if (!root.is_object() || !root.contains("mounts") || !root["mounts"].is_array()) return damaged("no list of mounts");
  for (const json& entry : root["mounts"]) {
    Result<StoredMount> m = read_mount(entry);
    if (!m) return damaged(m.error().message);
    mounts.push_back(std::move(*m));
  }
  return mounts;
}

Status MountList::save(const std::vector<StoredMount>& mounts) const {
  json list = json::array();
  for (const StoredMount& m : mounts)
    list.push_back({{"path", m.path},
                    {"dataset", m.dataset},
                    {"source", m.source},
                    {"fallback", fallback_name(m.fallback)},
                    {"fill", fill_name(m.fill)},
                    {"policy", policy_name(m.policy)},
                    {"quota", m.quota},
                    {"persist", m.persist},
                    {"instance", fmt::format("{:016x}", m.instance)}});
  std::string text = json{{"mounts", list}}.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
  return replace_file(AT_FDCWD, file_, text, 0600);
}

}  // namespace larder
