// Percent-encoding as the signatures of S3 and BOS want it (RFC 3986 unreserved bytes stay, upper-case hex), and back.
#pragma once
#include <string>
#include <string_view>

namespace larder {

// Appends the encoded bytes of `text`. With keep_slash, '/' stays (paths); otherwise it becomes %2F (query values).
void percent_append(std::string& out, std::string_view text, bool keep_slash);
std::string percent_encode(std::string_view text, bool keep_slash);

// Decodes %XX; with plus_is_space also '+'. A '%' without two hex digits after it stays as it is.
std::string percent_decode(std::string_view text, bool plus_is_space);

}  // namespace larder
