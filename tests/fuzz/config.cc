// larder.toml: a text that people write by hand.
#include "cached/config/config.h"

#include "tests/fuzz/fuzz.h"

using namespace larder;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Config config;
  const Status read = apply_toml({reinterpret_cast<const char*>(data), size}, "larder.toml", config);
  if (!read) fuzz_check(!read.error().message.empty());
  return 0;
}

// Each key within the one before.
static std::string dotted(int keys) {
  std::string out;
  for (int i = 0; i < keys; ++i)
    out += ".a";
  return out;
}

std::vector<std::string> fuzz_seeds() {
  return {
      "cache_size = \"8GiB\"\nfill = \"siblings\"\nlog_level = \"info\"\n[store]\nendpoint = "
      "\"http://h:1\"\nmax_connections = 8\n",
      "[stores.\"s3://bucket\"]\nregion = \"eu-west-1\"\n[[mounts]]\npath = \"/data/x\"\nsource = "
      "\"s3://bucket/p\"\nfallback = \"wait\"\n",
      "[[\nx]]\n",
      "[\xef\xbb\xb7qtor",
      "caf\xc3\xa9 = 1\n",
      "x =\xc3\xa9\n",
      "x = " + std::string(20'000, '['),
      R"(x = [']', "]", """]"]""", )" + std::string(20'000, '{'),
      "a" + dotted(20'000) + " = 1\n"};
}
