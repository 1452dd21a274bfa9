#include "cached/store/open/source_meaning.h"

#include <fmt/format.h>

#include <iterator>

#include "cached/store/bos/bos.h"
#include "cached/store/s3/s3.h"

namespace larder {

const char* const kMeaningVariables[] = {"AWS_ENDPOINT_URL",
                                         "AWS_ENDPOINT_URL_S3",
                                         "AWS_REGION",
                                         "AWS_DEFAULT_REGION",
                                         "AWS_PROFILE",
                                         "AWS_CONFIG_FILE",
                                         "AWS_SHARED_CREDENTIALS_FILE",
                                         "AWS_ACCESS_KEY_ID",
                                         "AWS_SESSION_TOKEN",
                                         "AWS_ROLE_ARN",
                                         "HOME",
                                         "BDCLOUD_DEFAULT_REGION",
                                         "BDCLOUD_ACCESS_KEY",
                                         "BDCLOUD_SESSION_TOKEN"};
const size_t kMeaningVariableCount = std::size(kMeaningVariables);

Result<SourceMeaning> source_meaning(std::string_view source, const StoreOptions& options, const Environment& env) {
  auto url = parse_source(source);
  if (!url) return url.error();
  if (url->scheme == "s3") return s3_meaning(*url, options, env);
  if (url->scheme == "bos") return bos_meaning(*url, options, env);
  return SourceMeaning();
}

std::string difference(const SourceMeaning& ours, const SourceMeaning& theirs) {
  struct Field {
    const char* name;
    const std::string &ours, &theirs;
  };
  std::string out;
  for (const Field& f :
       {Field{"endpoint", ours.endpoint, theirs.endpoint}, Field{"region", ours.region, theirs.region},
        Field{"addressing", ours.addressing, theirs.addressing}, Field{"account", ours.account, theirs.account}}) {
    if (f.ours == f.theirs) continue;
    out += fmt::format("{}{} {}, here {}", out.empty() ? "" : "; ", f.name, f.theirs.empty() ? "unknown" : f.theirs,
                       f.ours.empty() ? "unknown" : f.ours);
  }
  return out;
}

}  // namespace larder
