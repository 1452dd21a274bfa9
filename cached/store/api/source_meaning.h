// See cached/store/open/source_meaning.h.
#pragma once
#include <string>

namespace larder {

struct SourceMeaning {
  std::string endpoint;     // scheme://host, in one spelling; "": the source has none
  bool configured = false;  // the endpoint was configured: it is not the service's own
  std::string region;
  std::string addressing;  // path, virtual
  std::string account;     // of the credentials: an account's number, an access key, a role; "": cannot be told

  bool operator==(const SourceMeaning&) const = default;
};

}  // namespace larder
