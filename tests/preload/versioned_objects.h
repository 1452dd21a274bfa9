// The objects of the store model: which there are, and what each version of them holds. model_store.cc serves them,
// store_model.cc reads them through Larder and knows of every byte which versions it may be of.
#pragma once
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace versioned {

constexpr int kDatasets = 2;
constexpr int kObjects = 60;  // of each
constexpr int kLarge = 8;     // the last ones of dataset 1: read by chunks
constexpr uint64_t kThreshold = 512 << 10;

// Of each object, the version that the store has now; they count from 1. Shared by the processes.
struct Versions {
  std::atomic<uint32_t> now[kDatasets][kObjects];
};

inline Versions* map_versions(const char* path) {
  const int fd = open(path, O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(Versions)) != 0) return nullptr;
  void* base = mmap(nullptr, sizeof(Versions), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return base == MAP_FAILED ? nullptr : static_cast<Versions*>(base);
}

inline bool is_large(int dataset, int object) {
  return dataset == 1 && object >= kObjects - kLarge;
}

// Relative to the dataset.
inline std::string name_of(int object) {
  char text[32];
  snprintf(text, sizeof text, "d%d/f%02d", object % 5, object);
  return text;
}

inline uint64_t mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

inline uint64_t seed_of(int dataset, int object, uint32_t version) {
  return mix(mix(static_cast<uint64_t>(dataset) * kObjects + static_cast<uint64_t>(object)) + version);
}

// Half of the versions keep the size of the one before.
inline uint64_t size_of(int dataset, int object, uint32_t version) {
  const uint64_t r = seed_of(dataset, object, version & ~1U);
  return is_large(dataset, object) ? kThreshold + 1 + r % (2 << 20) : r % 7 == 0 ? r % 40 : 40 + r % 120'000;
}

// Seconds since the epoch: another for each version.
inline int64_t time_of(uint32_t version) {
  return 1'700'000'000 + 10 * static_cast<int64_t>(version);
}

inline void fill(char* out, size_t bytes, uint64_t offset, uint64_t seed) {
  while (bytes > 0) {
    const uint64_t word = mix(seed + offset / 8);
    const size_t skip = offset % 8, n = bytes < 8 - skip ? bytes : 8 - skip;
    memcpy(out, reinterpret_cast<const char*>(&word) + skip, n);
    out += n, offset += n, bytes -= n;
  }
}

// Are these the bytes at `offset` of what `seed` makes?
inline bool is_made_by(const char* data, size_t bytes, uint64_t offset, uint64_t seed) {
  for (size_t done = 0; done < bytes;) {
    const uint64_t at = offset + done, word = mix(seed + at / 8);
    const size_t skip = at % 8, n = bytes - done < 8 - skip ? bytes - done : 8 - skip;
    if (memcmp(data + done, reinterpret_cast<const char*>(&word) + skip, n) != 0) return false;
    done += n;
  }
  return true;
}

}  // namespace versioned
