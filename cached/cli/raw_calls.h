// System calls that a program makes by itself, past libc and so past every preloaded library.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace larder::cli {

// The calls about paths ("openat", "statx", ...) that machine code of this architecture makes with a number it says
// itself: the number goes into its register and the kernel is entered within a few instructions. Sorted, each once.
// Code that gets the number from elsewhere (libc's own syscall(), Go) is not found.
std::vector<std::string> raw_path_calls(std::string_view code);

// The bytes before an instruction that decide what it does: code read in pieces must overlap by so much.
inline constexpr size_t kRawCallWindow = 48;

}  // namespace larder::cli
