// Builds the catalog of an ImageNet-like dataset in memory and prints one JSON line: how long it took and how much it
// holds.
//
//   catalog FILES
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>

#include "cached/catalog/catalog_builder.h"
#include "larder/shm.h"

namespace {

constexpr int kPerFolder = 1300;  // ImageNet-1k

uint64_t resident_bytes() {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("VmRSS:", 0) == 0) return strtoull(line.c_str() + 6, nullptr, 10) * 1024;
  return 0;
}

larder::ObjectInfo object(int i) {
  larder::ObjectInfo o;
  o.key = fmt::format("train/n{:08}/n{:08}_{:05}.JPEG", i / kPerFolder, i / kPerFolder, i % kPerFolder);
  o.size = 110'000 + static_cast<uint64_t>(i % 1000);
  o.mtime_ns = 1'700'000'000'000'000'000 + i;
  o.etag = fmt::format("{:032x}", i);  // S3's MD5
  return o;
}

}  // namespace

int main(int argc, char** argv) {
  int files = argc > 1 ? atoi(argv[1]) : 1'000'000;
  uint64_t before = resident_bytes();
  double building = 0;
  larder::CatalogBuilder builder(1);
  using Clock = std::chrono::steady_clock;
  for (int i = 0; i < files; ++i) {
    larder::ObjectInfo o = object(i);  // a listing makes it; not counted
    auto start = Clock::now();
    if (!builder.add(o)) return 1;
    building += std::chrono::duration<double>(Clock::now() - start).count();
  }
  auto start = Clock::now();
  auto image = builder.finish(1, 1);
  building += std::chrono::duration<double>(Clock::now() - start).count();
  if (!image) return 1;
  auto entries = static_cast<double>(image->header.entry_count);
  double beside_names = static_cast<double>(image->file_bytes() - image->names.size()) / entries + sizeof(uint32_t) + 1;
  fmt::print(
      "{{\"entries\": {}, \"seconds\": {:.4f}, \"bytes_an_entry\": {:.1f}, \"name_bytes\": {:.1f}, \"resident_mib\": "
      "{:.1f}}}\n",
      image->header.entry_count, building, beside_names, static_cast<double>(image->names.size()) / entries,
      static_cast<double>(resident_bytes() - before) / 1048576);
  return 0;
}
