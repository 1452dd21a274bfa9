#include "cached/store/bce_auth.h"

#include <algorithm>
#include <ctime>
#include <vector>

#include "cached/store/digest.h"
#include "cached/store/percent.h"

namespace larder {
namespace {

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string joined(const std::vector<std::string>& parts, char by) {
  std::string out;
  for (auto& part : parts) {
    if (!out.empty()) out.push_back(by);
    out += part;
  }
  return out;
}

std::string signed_names(const SigningRequest& request) {
  std::vector<std::string> names;
  for (auto& [name, value] : request.headers) {
    if (!trimmed(value).empty()) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return joined(names, ';');
}

}  // namespace

std::string bce_date(int64_t time) {
  time_t seconds = time;
  struct tm utc {};
  gmtime_r(&seconds, &utc);
  char out[32];
  strftime(out, sizeof out, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return out;
}

std::string bce_canonical_request(const SigningRequest& request) {
  std::vector<std::string> lines;
  for (auto& [name, value] : request.headers) {
    const std::string text = trimmed(value);
    if (!text.empty()) lines.push_back(percent_encode(name, false) + ":" + percent_encode(text, false));
  }
  std::sort(lines.begin(), lines.end());
  return request.method + "\n" + (request.path.empty() ? "/" : request.path) + "\n" + canonical_query(request.query) + "\n" +
         joined(lines, '\n');
}

std::string bce_authorization(const SigningRequest& request, const Credentials& who, int64_t time, int expires) {
  const std::string prefix = "bce-auth-v1/" + who.access_key + "/" + bce_date(time) + "/" + std::to_string(expires);
  const std::string key = hex(HmacSha256(who.secret_key).sign(prefix));  // as text: 64 characters
  return prefix + "/" + signed_names(request) + "/" + hex(HmacSha256(key).sign(bce_canonical_request(request)));
}

}  // namespace larder
