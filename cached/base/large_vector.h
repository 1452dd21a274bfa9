// A vector for tables of millions of entries. From 4 MiB on, its memory is mapped directly: in huge pages where the
// kernel has them (a fault each 2 MiB instead of each 4 KiB, and few TLB misses in random order), and returned at once
// when freed.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

namespace larder {

inline constexpr size_t kLargeBytes = 4u << 20;

template <typename T>
struct LargeAllocator {
  using value_type = T;
  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) {}

  T* allocate(size_t n) {
    if (n > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
    if (n * sizeof(T) < kLargeBytes) return static_cast<T*>(::operator new(n * sizeof(T)));
    void* p =
        ::mmap(nullptr, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    (void)::madvise(p, n * sizeof(T), MADV_HUGEPAGE);
    return static_cast<T*>(p);
  }
  void deallocate(T* p, size_t n) {
    if (n * sizeof(T) < kLargeBytes)
      ::operator delete(p);
    else
      ::munmap(p, n * sizeof(T));
  }
  bool operator==(const LargeAllocator&) const { return true; }
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

// Returns the pages within [p, p + bytes) of a vector to the kernel. Their content is lost; the vector still owns the
// memory.
template <typename T>
void give_back(const LargeVector<T>& vector, void* p, size_t bytes) {
  if (vector.capacity() * sizeof(T) < kLargeBytes) return;
  constexpr uintptr_t kPage = 4096;
  const uintptr_t from = (reinterpret_cast<uintptr_t>(p) + kPage - 1) & ~(kPage - 1),
                  to = (reinterpret_cast<uintptr_t>(p) + bytes) & ~(kPage - 1);
  if (from < to) (void)::madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
}

}  // namespace larder
