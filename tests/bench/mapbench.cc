// Mappings: the cost of a page's first touch, and of the library's mmap on files outside every dataset. Prints JSON as
// fsbench does.
//
//   mapbench touch FILE BYTES COUNT SEED   one byte each of COUNT pages at random of the first BYTES: ns a touch
//   mapbench pass FILE BYTES               one byte each of all their pages, in order: ns a page
//   mapbench outside FILE COUNT            mmap and munmap of a page of FILE: in turn those that the program finds and
//                                          libc's own
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kTurn = 100;

using Clock = std::chrono::steady_clock;
double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

[[noreturn]] void die(const std::string& what) {
  perror(what.c_str());
  exit(1);
}

int open_or_die(const char* path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) die(path);
  return fd;
}

// Distinct pages, so that each touch is a first one.
std::vector<uint64_t> pages_at_random(uint64_t bytes, uint64_t count, uint64_t seed) {
  std::vector<uint64_t> pages(bytes / kPage);
  for (uint64_t i = 0; i < pages.size(); ++i)
    pages[i] = i * kPage;
  std::shuffle(pages.begin(), pages.end(), std::mt19937_64(seed));
  pages.resize(std::min<uint64_t>(count, pages.size()));
  return pages;
}

std::vector<uint64_t> pages_in_order(uint64_t bytes) {
  std::vector<uint64_t> pages(bytes / kPage);
  for (uint64_t i = 0; i < pages.size(); ++i)
    pages[i] = i * kPage;
  return pages;
}

int touch(const char* path, uint64_t bytes, const std::vector<uint64_t>& pages) {
  int fd = open_or_die(path);
  auto* base = static_cast<const volatile unsigned char*>(mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0));
  if (base == MAP_FAILED) die("mmap");
  uint64_t sum = 0;
  auto start = Clock::now();
  for (uint64_t at : pages)
    sum += base[at];
  double ns = ns_since(start);
  printf("{\"ops\": %zu, \"ns\": %.1f, \"sum\": %" PRIu64 "}\n", pages.size(), ns / static_cast<double>(pages.size()),
         sum);
  return 0;
}

using Map = void* (*)(void*, size_t, int, int, int, off_t);

double map_and_unmap(Map map, int fd) {
  auto start = Clock::now();
  for (uint64_t i = 0; i < kTurn; ++i) {
    void* p = map(nullptr, kPage, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) die("mmap");
    munmap(p, kPage);
  }
  return ns_since(start) / kTurn;
}

int outside(const char* path, uint64_t count) {
  int fd = open_or_die(path);
  auto libc = reinterpret_cast<Map>(dlsym(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "mmap"));
  if (!libc) die("dlsym");
  std::vector<double> more, theirs;
  for (uint64_t done = 0; done < count; done += kTurn) {
    double before = map_and_unmap(libc, fd), ours = map_and_unmap(::mmap, fd), after = map_and_unmap(libc, fd);
    more.push_back(ours - (before + after) / 2), theirs.push_back(before);
  }
  std::nth_element(more.begin(), more.begin() + static_cast<long>(more.size() / 2), more.end());
  std::nth_element(theirs.begin(), theirs.begin() + static_cast<long>(theirs.size() / 2), theirs.end());
  printf("{\"ops\": %" PRIu64 ", \"libc_ns\": %.1f, \"more\": %.1f}\n", count, theirs[theirs.size() / 2],
         more[more.size() / 2]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string what = argc > 1 ? argv[1] : "";
  auto number = [&](int i) { return strtoull(argv[i], nullptr, 10); };
  if (what == "touch" && argc == 6) return touch(argv[2], number(3), pages_at_random(number(3), number(4), number(5)));
  if (what == "pass" && argc == 4) return touch(argv[2], number(3), pages_in_order(number(3)));
  if (what == "outside" && argc == 4) return outside(argv[2], number(3));
  return fprintf(stderr, "mapbench touch|pass|outside ...: see the head of mapbench.cc\n"), 2;
}
