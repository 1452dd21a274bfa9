#include "cached/cli/raw_calls.h"

#include <sys/syscall.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace larder::cli {
namespace {

struct PathCall {
  uint32_t number;
  const char* name;
};
constexpr PathCall kPathCalls[] = {
    {SYS_openat, "openat"},
    {437, "openat2"},
    {SYS_newfstatat, "newfstatat"},
    {SYS_statx, "statx"},
    {SYS_readlinkat, "readlinkat"},
    {SYS_faccessat, "faccessat"},
    {439, "faccessat2"},
    {SYS_getdents64, "getdents64"},
    {SYS_chdir, "chdir"},
    {425, "io_uring_setup"},
#if defined(__x86_64__)
    {SYS_open, "open"},
    {SYS_stat, "stat"},
    {SYS_lstat, "lstat"},
    {SYS_access, "access"},
    {SYS_readlink, "readlink"},
#endif
};

const char* name_of(uint32_t number) {
  for (const PathCall& c : kPathCalls)
    if (c.number == number) return c.name;
  return nullptr;
}

uint32_t word_at(std::string_view code, size_t at) {
  uint32_t v;
  memcpy(&v, code.data() + at, sizeof v);
  return v;
}

#if defined(__x86_64__)
// mov $number, %eax (b8, or 48 c7 c0) and, not far behind, syscall (0f 05) with no other number or call in between.
// Small numbers are all over the place, also in what is no code: those count only directly before it.
const char* credible(uint32_t number, size_t between) {
  return number > 200 || between == 0 ? name_of(number) : nullptr;
}

const char* call_at(std::string_view code, size_t at) {
  size_t first = at > kRawCallWindow ? at - kRawCallWindow : 0;
  for (size_t i = at; i-- > first;) {
    auto byte = [&](size_t n) { return static_cast<unsigned char>(code[n]); };
    if (byte(i) == 0xe8 || byte(i) == 0xc3) return nullptr;
    if (i + 5 <= at && byte(i) == 0xb8 && (i == 0 || byte(i - 1) != 0x41))
      return credible(word_at(code, i + 1), at - i - 5);
    if (i + 7 <= at && byte(i) == 0x48 && byte(i + 1) == 0xc7 && byte(i + 2) == 0xc0)
      return credible(word_at(code, i + 3), at - i - 7);
  }
  return nullptr;
}
size_t next_entry(std::string_view code, size_t from) {
  return code.find("\x0f\x05", from, 2);
}
constexpr size_t kStep = 2;
#else
// mov w8 or x8, #number and, not far behind, svc #0.
const char* call_at(std::string_view code, size_t at) {
  size_t first = at > kRawCallWindow ? at - kRawCallWindow : 0;
  for (size_t i = at; i >= first + 4;) {
    i -= 4;
    uint32_t word = word_at(code, i);
    if ((word & 0x7fe0001f) == 0x52800008) return name_of((word >> 5) & 0xffff);
  }
  return nullptr;
}
size_t next_entry(std::string_view code, size_t from) {
  for (from = (from + 3) & ~size_t{3}; from + 4 <= code.size(); from += 4)
    if (word_at(code, from) == 0xd4000001) return from;
  return std::string_view::npos;
}
constexpr size_t kStep = 4;
#endif

}  // namespace

std::vector<std::string> raw_path_calls(std::string_view code) {
  std::vector<std::string> found;
  for (size_t at = next_entry(code, 0); at != std::string_view::npos; at = next_entry(code, at + kStep))
    if (const char* name = call_at(code, at)) found.emplace_back(name);
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

}  // namespace larder::cli
