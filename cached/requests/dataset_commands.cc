#include "cached/requests/dataset_commands.h"

#include <fmt/format.h>

namespace larder {

using nlohmann::json;

// Of names and keys in one answer: a reply is one packet.
static constexpr size_t kMaxNodesBytes = 100 * 1024;
static constexpr size_t kMaxExampleBytes = 64 * 1024;

// ---- format --------------------------------------------------------------------------------------

AdminAnswer DatasetCommands::format(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::string name = in.text("name"), source = in.text("source"), group = in.text_or_empty("group");
  const StoreOptions options = in.texts("options");
  const bool again = in.flag("restore", false);
  if (!in.status()) return in.status().error();
  if (again) return restore(name, source);
  Result<DatasetDef> def = p_.datasets.format(name, source, options, group);
  if (!def) return def.error();
  return json{{"name", def->name}, {"id", fmt::format("{:016x}", def->id)}};
}

AdminAnswer DatasetCommands::restore(const std::string& name, const std::string& source) {
  Result<VersionInfo> info = p_.datasets.restore(name, source);
  if (!info) return info.error();
  return json{{"name", name}, {"version", info->version}, {"objects", info->objects}, {"bytes", info->bytes}};
}

// ---- nodes ---------------------------------------------------------------------------------------

AdminAnswer DatasetCommands::nodes(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::string name = in.text_or_empty("name");
  if (!in.status()) return in.status().error();
  json out = json::array();
  size_t bytes = 0;
  auto add = [&](const std::string& dataset, const NodeInfo& n) {
    bytes += dataset.size() + n.node.size() + 120;
    if (bytes > kMaxNodesBytes) return;
    out.push_back({{"dataset", dataset},
                   {"node", n.node},
                   {"version", n.version},
                   {"files", n.files},
                   {"bytes", n.bytes},
                   {"age_s", n.age_s}});
  };
  if (Status s = list_nodes(p_.meta, name, add); !s) return s.error();
  return json{{"nodes", out}};
}

// ---- mount, umount -------------------------------------------------------------------------------

template <typename T>
static Status set_if_given(const std::string& text, Result<T> (*parse)(std::string_view), std::optional<T>& to) {
  if (text.empty()) return {};
  Result<T> parsed = parse(text);
  if (!parsed) return parsed.error();
  to = *parsed;
  return {};
}

Result<MountRequest> DatasetCommands::mount_request(const AdminCall& call) const {
  Arguments in = call.arguments();
  MountRequest r;
  r.path = in.text("path");
  r.name = in.text_or_empty("name");
  r.source = in.text_or_empty("source");
  const std::string fallback = in.text_or_empty("fallback"), fill = in.text_or_empty("fill");
  const std::string policy = in.text_or_empty("policy"), quota = in.text_or_empty("quota");
  r.options = in.texts("options");
  r.environment = in.texts("environment");
  r.asked = call.asked();
  r.refresh = in.flag("refresh", false);
  r.offline = in.flag("offline", false);
  r.persist = in.flag("persist", !p_.config.is_private);
  if (!in.status()) return in.status().error();
  if (r.name.empty() == r.source.empty()) return make_error(EINVAL, "give either \"name\" or \"source\"");
  std::optional<Fallback> what_if_away;
  std::optional<SizeSpec> most;
  for (const Status& s : {set_if_given(fallback, parse_fallback, what_if_away), set_if_given(fill, parse_fill, r.fill),
                          set_if_given(policy, parse_policy, r.policy), set_if_given(quota, parse_quota, most)})
    if (!s) return s.error();
  r.fallback = what_if_away.value_or(r.fallback);
  if (most) r.quota = most->of(p_.cache.limits().cache_size);
  return r;
}

AdminAnswer DatasetCommands::mount(const AdminCall& call) {
  Result<MountRequest> request = mount_request(call);
  if (!request) return request.error();
  Result<MountResult> m = p_.datasets.mount(*request, call.progress());
  if (!m) return m.error();
  return json{{"name", m->name},
              {"path", m->path},
              {"version", m->info.version},
              {"objects", m->info.objects},
              {"bytes", m->info.bytes},
              {"skipped", m->info.skipped},
              {"warnings", m->warnings}};
}

AdminAnswer DatasetCommands::umount(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::string path = in.text("path");
  if (!in.status()) return in.status().error();
  if (Status s = p_.datasets.umount(path); !s) return s.error();
  return json::object();
}

// ---- refresh -------------------------------------------------------------------------------------

static json some_of(const std::vector<std::string>& keys) {
  json some = json::array();
  size_t bytes = 0;
  for (const std::string& key : keys) {
    bytes += key.size();
    if (some.size() >= kMaxListed || bytes > kMaxExampleBytes) break;
    some.push_back(key);
  }
  return some;
}

AdminAnswer DatasetCommands::refresh(const AdminCall& call) {
  Arguments in = call.arguments();
  const std::string name = in.text("name");
  const bool offline = in.flag("offline", false);
  if (!in.status()) return in.status().error();
  Result<RefreshResult> r = p_.datasets.refresh(name, call.progress(), offline);
  if (!r) return r.error();
  return json{
      {"version", r->info.version},     {"objects", r->info.objects},
      {"bytes", r->info.bytes},         {"added", r->added},
      {"changed", r->changed},          {"removed", r->removed},
      {"skipped", r->skipped.count},    {"examples", some_of(r->skipped.examples)},
      {"listed_twice", r->twice.count}, {"warnings", r->twice.count > 0 ? json{r->twice.text()} : json::array()}};
}

}  // namespace larder
