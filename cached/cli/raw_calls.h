// Finds system calls that a program makes without libc, and so past every preloaded library.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace larder::cli {

// The calls about paths ("openat", "statx", ...) that machine code of this architecture makes with a constant number:
// the number is loaded into its register, and the kernel is entered within a few instructions. Sorted, each once. Does
// not find code that gets the number from elsewhere (libc's own syscall(), Go).
std::vector<std::string> raw_path_calls(std::string_view code);

// The bytes before an instruction that are looked at: code that is read in pieces must overlap by so much.
inline constexpr size_t kRawCallWindow = 48;

}  // namespace larder::cli
