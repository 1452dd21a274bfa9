#include "cached/sync/endpoint.h"

#include <fmt/format.h>

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <future>
#include <optional>

#include "cached/base/text.h"
#include "cached/store/http/http_store.h"
#include "larder/hash.h"

namespace larder {
namespace {

namespace fs = std::filesystem;

Result<SourceUrl> directory_url(const std::string& path) {
  if (path.empty()) return make_error(EINVAL, "an empty name is no directory; write . for this one");
  std::error_code failure;
  const fs::path real = fs::weakly_canonical(fs::absolute(path, failure), failure);
  if (failure) return make_error(failure.value(), fmt::format("'{}': {}", printable(path), failure.message()));
  SourceUrl url;
  url.scheme = "file";
  url.prefix = real.string();
  while (url.prefix.size() > 1 && url.prefix.ends_with('/'))
    url.prefix.pop_back();
  return url;
}

Result<SourceUrl> parse(const std::string& text) {
  if (text.find("://") == std::string::npos) return directory_url(text);
  auto url = parse_source(text);
  return url.ok() && url->scheme == "file" ? directory_url(url->prefix) : url;
}

Status make_folder(const std::string& path) {
  std::error_code failure;
  fs::create_directories(path, failure);
  if (failure) return make_error(failure.value(), fmt::format("{}: {}", printable(path), failure.message()));
  return {};
}

StoreOptions for_scheme(const EndpointOptions& options, const std::string& scheme) {
  StoreOptions out = options.store;
  if (scheme == "file" && options.target) out["symlinks"] = "skip";
  return out;
}

}  // namespace

Result<Endpoint> open_endpoint(const std::string& text, const EndpointOptions& options) {
  auto url = parse(text);
  if (!url.ok()) return url.error();
  Endpoint out;
  out.url = *url;
  out.options = options.store;
  if (url->scheme == "file" && options.target) {
    if (options.dry && !fs::exists(url->prefix)) return out;
    if (auto status = make_folder(url->prefix); !status.ok()) return status.error();
  }
  auto store = open_store(url->text(), for_scheme(options, url->scheme));
  if (!store.ok()) return store.error();
  out.store = std::move(*store);
  if (url->scheme == "file") out.files = static_cast<FileStore*>(out.store.get());
  if (auto* http = dynamic_cast<HttpStore*>(out.store.get()); http != nullptr) out.server = http->endpoint();
  out.writer = out.store->writer();
  if (options.target && out.writer == nullptr)
    return make_error(EROFS, fmt::format("{}: {}:// can only be read", printable(url->text()), url->scheme));
  return out;
}

Status Endpoint::read(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out,
                      const std::shared_ptr<std::atomic<bool>>& no_sum) {
  if (files != nullptr) return files->read(object, offset, out);
  if (out.empty()) return {};
  std::optional<uint64_t> refused;  // what came and did not match the store's checksum
  for (int gets = 1;; ++gets) {
    Status status = get(object, offset, out, no_sum);
    const int code = status.ok() ? 0 : status.error().code;
    if (code != kWrongBytes && code != kDoubtfulBytes) return status;
    const uint64_t sum = XXH3_64bits(out.data(), out.size());
    if (code == kDoubtfulBytes && refused == sum) return {};
    if (gets == kMostGets) return make_error(EIO, status.error().message);
    refused = sum;
  }
}

Status Endpoint::get(const ObjectInfo& object, uint64_t offset, std::span<std::byte> out,
                     std::shared_ptr<std::atomic<bool>> no_sum) {
  auto ended = std::make_shared<std::promise<Status>>();
  size_t at = 0;
  GetRequest request;
  request.key = object.key;
  request.etag = object.etag;
  request.mtime_ns = object.mtime_ns;
  request.offset = offset;
  request.length = out.size();
  request.object_size = object.size;
  request.etag_is_no_sum = std::move(no_sum);
  request.demand = false;  // nobody waits for the first byte
  request.on_data = [&](std::span<const std::byte> data) -> Status {
    if (data.size() > out.size() - at) return make_error(EIO, object.key + ": more bytes than were asked for");
    memcpy(out.data() + at, data.data(), data.size());
    at += data.size();
    return {};
  };
  request.on_done = [ended](Status status) { ended->set_value(std::move(status)); };
  store->get(std::move(request));
  Status status = ended->get_future().get();
  if (!status.ok() && status.error().code == ESTALE && status.error().message.find("changed") == std::string::npos)
    return make_error(ESTALE, status.error().message + "; it changed since it was listed");
  if (status.ok() && at != out.size()) return make_error(EIO, object.key + ": fewer bytes than were asked for");
  return status;
}

bool same_service(const Endpoint& a, const Endpoint& b) {
  return a.url.scheme == b.url.scheme && a.writer != nullptr && b.writer != nullptr && !a.is_directory() &&
         a.options == b.options;
}

namespace {

std::string folder_of(const Endpoint& end) {
  const std::string& prefix = end.url.prefix;
  return prefix.empty() || prefix.ends_with('/') ? prefix : prefix + '/';
}

// A bind mount or another mount of the same file system has a path of its own.
bool lies_in(const fs::path& inner, const fs::path& outer) {
  std::error_code failure;
  for (fs::path at = inner;; at = at.parent_path()) {
    if (fs::equivalent(at, outer, failure)) return true;
    if (at == at.parent_path()) return false;
  }
}

std::string probe_name() {
  uint64_t random = 0;
  if (getentropy(&random, sizeof random) != 0) random = static_cast<uint64_t>(getpid());
  return fmt::format(".larder-sync-probe-{:016x}", random);
}

// Writes where both would see it, in the folder further down.
Result<bool> finds_probe(const Endpoint& source, const Endpoint& target) {
  const std::string from = folder_of(source), to = folder_of(target), name = probe_name();
  NewObject probe;
  probe.key = from.size() > to.size() ? from.substr(to.size()) + name : name;
  const std::string seen_as = to.size() > from.size() ? to.substr(from.size()) + name : name;
  if (auto status = target.writer->put(probe, {}); !status.ok())
    return make_error(status.error().code, "cannot tell whether SRC and DST are one bucket: " + status.error().message);
  const bool found = source.store->head(seen_as).ok();
  for (auto& failure : target.writer->remove({probe.key}))
    return make_error(failure.error.code, fmt::format("{} is left in DST: {}", name, failure.error.message));
  return found;
}

}  // namespace

Result<bool> overlap(const Endpoint& source, const Endpoint& target, bool dry) {
  if (source.is_directory() && target.is_directory() &&
      (lies_in(source.url.prefix, target.url.prefix) || lies_in(target.url.prefix, source.url.prefix)))
    return true;
  const std::string from = folder_of(source), to = folder_of(target);
  const bool nested = from.starts_with(to) || to.starts_with(from);
  if (!nested || source.url.bucket != target.url.bucket) return false;
  if (source.url.scheme == target.url.scheme && source.server == target.server) return true;
  if (dry || source.server.empty() || target.server.empty()) return false;
  return finds_probe(source, target);
}

}  // namespace larder
