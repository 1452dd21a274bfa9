// What S3 answers in XML: pages of lists and errors. Untrusted text. Threads: any.
#pragma once
#include <string_view>

#include "cached/store/http/protocol.h"

namespace larder {

// One page of ListObjectsV2, or of ListObjects (version 1), where the next page begins after NextMarker or, since
// without a delimiter there is none, after the last name of this one. EIO with the reason for what is neither.
Result<ListPage> parse_list_v2(std::string_view xml);
Result<ListPage> parse_list_v1(std::string_view xml);
// Whether this page, which is not the last one, is of a store that knows ListObjects version 1 alone.
bool is_list_v1(std::string_view xml);

// Members that the text does not have stay empty.
ServiceError parse_s3_error(std::string_view xml);

}  // namespace larder
