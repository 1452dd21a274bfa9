#include "cached/cli/metadata.h"

#include <fmt/format.h>

#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/catalog/catalog_builder.h"
#include "cached/catalog/dataset.h"
#include "cached/cli/json_read.h"
#include "cached/cli/progress.h"
#include "cached/cli/report.h"
#include "cached/cli/socket_path.h"
#include "cached/meta/meta.h"
#include "cached/meta/open/open_meta.h"
#include "cached/namespace/datasets.h"

namespace larder::cli {
namespace {

Result<std::unique_ptr<Meta>> open(const std::string& url) {
  if (url == "local:")
    return make_error(EINVAL, "--meta local: needs a directory without larderd; write local:///directory");
  return open_meta(url, "");
}

Result<Json> ask_for_nodes(const std::string& meta, const std::string& name) {
  if (meta.empty()) {
    auto socket = find_socket();
    if (!socket) return socket.error();
    return Client(socket->path).request(name.empty() ? Json{{"op", "nodes"}} : Json{{"op", "nodes"}, {"name", name}});
  }
  auto opened = open(meta);
  if (!opened) return opened.error();
  Json nodes = Json::array();
  Status listed = list_nodes(**opened, name, [&](const std::string& dataset, const NodeInfo& n) {
    nodes.push_back({{"dataset", dataset},
                     {"node", n.node},
                     {"version", n.version},
                     {"files", n.files},
                     {"bytes", n.bytes},
                     {"age_s", n.age_s}});
  });
  if (!listed) return listed.error();
  return Json{{"nodes", nodes}};
}

// The listing of a source, as a version that is not yet published.
struct Listing {
  std::unique_ptr<VersionWriter> writer;
  uint64_t skipped = 0;
};

Result<Listing> list_source(Meta& meta, const DatasetDef& def) {
  auto store = open_store(def.source, def.options);
  if (!store) return store.error();
  auto writer = meta.write_version(def.name);
  if (!writer) return writer.error();
  CatalogBuilder names(def.id);  // tells which keys no path can name
  Progress progress("listing " + printable(def.name, kWhole));
  uint64_t objects = 0, bytes = 0;
  auto take = [&](std::vector<ObjectInfo>&& page) -> Status {
    for (const ObjectInfo& o : page) {
      if (Status s = names.add(o); !s) return s;
      if (Status s = (*writer)->add(o); !s) return s;
      bytes += o.size;
    }
    progress.update({objects += page.size(), 0, bytes, 0, 0});
    return {};
  };
  ListedTwice twice;
  Status listed = list_distinct(**store, take, twice);
  progress.finish();
  if (twice.count > 0) warn(twice.text());
  if (!listed) return listed.error();
  return Listing{std::move(*writer), names.skipped().count};
}

}  // namespace

int show_nodes(const std::string& meta, const std::string& name, bool json) {
  auto reply = ask_for_nodes(meta, name);
  if (!reply) return fail(reply.error());
  if (json) {
    say("{}\n", reply->dump(2));
    return output_status(kExitOk);
  }
  for (const Json& n : list(*reply, "nodes"))
    say("{:<24} {:<32} {:>10} {:>14} files  {} s ago\n", printable(text(n, "dataset"), kWhole),
        printable(text(n, "node"), kWhole), format_bytes(static_cast<double>(number(n, "bytes"))),
        format_count(number(n, "files")), number(n, "age_s"));
  if (list(*reply, "nodes").empty()) warn("no node has reported within the last 35 seconds that it serves it");
  return output_status(kExitOk);
}

int format_directly(const std::string& meta, const FormatArgs& args) {
  auto url = parse_source(args.source);
  if (!url) return fail(url.error());
  DatasetDef def;
  def.name = args.name;
  def.source = url->text();
  def.id = dataset_id(def.name, def.source);
  def.options = without_secrets(args.options);
  def.group = args.group;
  if (auto store = open_store(def.source, args.options); !store) return fail(store.error());
  auto opened = open(meta);
  if (!opened) return fail(opened.error());
  if (Status s = (*opened)->put_dataset(def); !s) return fail(s.error());
  say("dataset {} is {}\n", def.name, def.source);
  return kExitOk;
}

int refresh_directly(const std::string& meta, const std::string& name) {
  auto opened = open(meta);
  if (!opened) return fail(opened.error());
  auto def = (*opened)->get_dataset(name);
  if (!def) return fail(def.error());
  if (!*def)
    return fail(make_error(
        ENOENT, fmt::format("there is no dataset '{}'; larder format registers it", printable(name, kWhole))));
  auto listing = list_source(**opened, **def);
  if (!listing) return fail(listing.error());
  auto info = listing->writer->commit(listing->skipped);
  if (!info) return fail(info.error());
  say("{} version {}: {} files, {}\n", name, info->version, format_count(info->objects),
      format_bytes(static_cast<double>(info->bytes)));
  if (info->skipped > 0)
    warn(fmt::format("{} objects have keys that no path can name and are not shown", format_count(info->skipped)));
  return kExitOk;
}

}  // namespace larder::cli
