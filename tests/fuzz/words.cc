// What a person, a script or a bucket's keys write: source URLs, endpoints, patterns of larder sync, names of files.
#include "cached/store/api/content_type.h"
#include "cached/store/api/filter.h"
#include "cached/store/api/percent.h"
#include "cached/store/api/store.h"
#include "cached/store/file/beneath.h"
#include "cached/store/s3/s3.h"
#include "tests/fuzz/fuzz.h"

using namespace larder;

namespace {

// What was understood is written in one way, and that is understood as the same.
void check_source(std::string_view text) {
  auto url = parse_source(text);
  if (!url) return fuzz_check(!url.error().message.empty());
  fuzz_check(url->scheme == "file" ? url->prefix.starts_with('/') : url->prefix.empty() || url->prefix.ends_with('/'));
  auto again = parse_source(url->text());
  fuzz_check(again.ok() && again->text() == url->text());
}

void check_endpoint(std::string_view text) {
  auto address = parse_endpoint(text);
  if (address)
    fuzz_check(!address->host.empty() && address->host.find('/') == std::string::npos &&
               address->host.find('@') == std::string::npos);
}

// PATTERN NUL KEY: the first of two contrary rules with one pattern decides.
void check_pattern(std::string_view text) {
  const size_t end = std::min(text.find('\0'), text.size());
  const std::string_view pattern = text.substr(0, end), key = text.substr(std::min(end + 1, text.size()));
  Filter include, exclude;
  if (!include.add(true, pattern)) return fuzz_check(!exclude.add(false, pattern).ok());
  fuzz_check(include.add(false, pattern).ok() && exclude.add(false, pattern).ok() && exclude.add(true, pattern).ok());
  const bool matches = !exclude.includes(key);
  fuzz_check(include.includes(key));
  if (matches && !key.empty() && !key.ends_with('/') && !pattern.ends_with('/'))
    fuzz_check(!exclude.includes(std::string(key) + "/below"));
}

void check_key(std::string_view key) {
  fuzz_check(percent_decode(percent_encode(key, false), false) == key);
  fuzz_check(!content_type(key).empty());
  if (!plain_key(key)) return;
  const std::string around = "/" + std::string(key) + "/";
  for (const char* part : {"//", "/./", "/../"})
    fuzz_check(around.find(part) == std::string::npos);
  fuzz_check(key.find('\0') == std::string_view::npos);
}

}  // namespace

// The first byte: what the rest is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0 || size > 4096) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      check_source(text);
      break;
    case 1:
      check_endpoint(text);
      break;
    case 2:
      check_pattern(text);
      break;
    default:
      check_key(text);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  using namespace std::string_literals;
  return {"\0s3://bucket/a/b"s,
          "\0bos://bucket"s,
          "\0http://host:80/a%20b"s,
          "\0file:///a//b/./c"s,
          "\0http://:80/x"s,
          "\0http://h:h:80/x"s,
          "\1https://host:443/"s,
          "\1http://[::1]:9000"s,
          "\2*.jpg\0a/b.jpg"s,
          "\2/a/**/[!b-d]?/\0a/x/ef/g"s,
          "\2\\[x\\*\0[x*"s,
          "\3a/b.tar.gz"s,
          "\3a/../b"s,
          "\3\xc3\xa4%41"s};
}
