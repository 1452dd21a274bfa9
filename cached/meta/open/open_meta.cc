#include "cached/meta/open/open_meta.h"

#include <fmt/format.h>

#include "cached/base/text.h"
#include "cached/meta/local/local.h"
#include "cached/meta/redis/redis_meta.h"

namespace larder {

Result<std::unique_ptr<Meta>> open_meta(std::string_view url, std::string_view state_dir) {
  if (url == "local:") return LocalMeta::open(std::string(state_dir));
  constexpr std::string_view kPath = "local://";
  if (url.starts_with(kPath) && url.size() > kPath.size() + 1 && url[kPath.size()] == '/') {
    return LocalMeta::open(std::string(url.substr(kPath.size())));
  }
  for (const char* scheme : {"redis://", "rediss://", "unix://"})
    if (url.starts_with(scheme)) return RedisMeta::open(url);
  // A URL of another kind may hold a password: only its scheme is repeated.
  return make_error(
      EINVAL, fmt::format("metadata URL '{}...': write local:, local:///absolute/directory or redis://host:6379/0",
                          printable(url.substr(0, url.find(':') + 1), 20)));
}

}  // namespace larder
