// MD5 of several messages at once, one in each lane of the processor's vector registers.
//
// One MD5 is a chain of dependent steps and cannot be made faster (OpenSSL: 0.77 GB/s here, 145 us for 110 KB); eight
// or sixteen chains side by side take little longer than one, and twice as many, in two sets of registers, not twice as
// long. Of 110 KB: 12 us with 32 messages at once, 16 with 16, 28 with 8 (AVX-512); AVX2 17 with 16, 28 with 8; SSE2 35
// with 8. Plain C++ on the compiler's vector types, compiled for AVX-512, AVX2 and the baseline; the processor decides.
// Thread-safe.
#pragma once
#include <span>
#include <vector>

#include "cached/store/checksum/digest.h"

namespace larder {

// By the widest registers that the processor has.
std::vector<Md5> md5_many(std::span<const std::span<const std::byte>> messages);

// Registers by how many 32-bit words they hold. kSse2 stands for the baseline, whatever the processor.
enum class Md5Width { kSse2 = 4, kAvx2 = 8, kAvx512 = 16 };
// Those that this processor has, narrowest first.
std::span<const Md5Width> md5_widths();
// By registers of one of md5_widths().
std::vector<Md5> md5_many(std::span<const std::span<const std::byte>> messages, Md5Width width);

// How many messages fill all lanes.
size_t md5_lanes();

}  // namespace larder
