// A target with a bug, which the fuzzers must find: their silence about the others is worth something then.
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 3 || data[0] != 'b' || data[1] != 'u') return 0;
#ifdef LARDER_SANITIZED
  std::vector<uint8_t> copy(data, data + size);
  volatile const uint8_t* bytes = copy.data();
  if (bytes[2] < 0x80) (void)bytes[size + bytes[2] / 128];
#else
  fuzz_check(data[2] < 0x80);
#endif
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {"bug"};
}
