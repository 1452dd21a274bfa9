#include "cached/store/api/options.h"
#include "cached/store/api/store.h"
#include "cached/store/auth/credentials.h"
#include "cached/store/bos/bos.h"
#include "cached/store/file/file.h"
#include "cached/store/s3/s3.h"
#include "cached/store/web/manifest.h"

namespace larder {

Result<std::unique_ptr<Store>> open_store(std::string_view source, const StoreOptions& options) {
  auto url = parse_source(source);
  if (!url.ok()) return url.error();
  if (auto status = check_option_names(options); !status.ok()) return status.error();
  if (auto interval = seconds_option(options, "refresh_interval", 0); !interval.ok()) return interval.error();
  if (url->scheme == "file") return open_file(*url, options);
  if (url->scheme == "bos") return open_bos(*url, options, process_environment());
  if (url->scheme == "http" || url->scheme == "https") return open_manifest(*url, options);
  return open_s3(*url, options, process_environment());
}

}  // namespace larder
