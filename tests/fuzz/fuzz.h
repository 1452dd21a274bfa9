// A fuzz target is one file here, tests/fuzz/NAME.cc, with these two functions. `make fuzz` runs it under libFuzzer,
// ASan and UBSan; `make test` runs it over its seeds and some thousand mutations of them, always the same ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// Hands the bytes to the code under test. Returns 0; whatever is wrong must end the process (fuzz_check).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Inputs to begin with: what the code's own writers write, rather than files that nobody can read. At least one.
std::vector<std::string> fuzz_seeds();

// A promise that must hold for every input.
inline void fuzz_check(bool promise) {
  if (!promise) __builtin_trap();
}
