#include "cached/sync/endpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>
#include <future>
#include <optional>

#include "cached/store/api/errors.h"
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
  auto it = options.store.find("endpoint");
  if (url->scheme != "file" && it != options.store.end()) out.server = it->second;
  if (url->scheme == "file" && options.target) {
    if (options.dry && !fs::exists(url->prefix)) return out;
    if (auto status = make_folder(url->prefix); !status.ok()) return status.error();
  }
  auto store = open_store(url->text(), for_scheme(options, url->scheme));
  if (!store.ok()) return store.error();
  out.store = std::move(*store);
  if (url->scheme == "file") out.files = static_cast<FileStore*>(out.store.get());
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
  request.demand = false;  // patience of five minutes instead of one: nobody waits for the first byte
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

bool overlap(const Endpoint& a, const Endpoint& b) {
  if (a.url.scheme != b.url.scheme || a.server != b.server || a.url.bucket != b.url.bucket) return false;
  auto folder = [](const Endpoint& e) {
    return e.url.prefix.empty() || e.url.prefix.ends_with('/') ? e.url.prefix : e.url.prefix + '/';
  };
  return folder(a).starts_with(folder(b)) || folder(b).starts_with(folder(a));
}

}  // namespace larder
