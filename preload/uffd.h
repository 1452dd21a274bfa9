// userfaultfd: the kernel's side. What newer kernels have than the headers of the build machine is spelled out here.
#pragma once
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "preload/sys.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_MINOR_SHMEM  // Linux 5.14
#define UFFD_FEATURE_MINOR_SHMEM (1 << 10)
#endif
#ifndef USERFAULTFD_IOC_NEW  // Linux 6.1
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

namespace larder::uffd {

inline constexpr uint64_t kFeatureMinorShmem = UFFD_FEATURE_MINOR_SHMEM;
inline constexpr uint64_t kFeaturePoison = 1 << 14;  // Linux 6.6
// Without these a mapping that is moved silently loses its registration, and the pager's table goes wrong.
inline constexpr uint64_t kFeaturesNeeded = UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE |
                                            UFFD_FEATURE_MISSING_SHMEM;
inline constexpr uint64_t kModeMinor = 1 << 2;

// UFFDIO_CONTINUE and UFFDIO_POISON have one form.
struct PageRange {
  uint64_t start;
  uint64_t length;
  uint64_t mode;
  int64_t done;  // bytes, or -errno
};
inline constexpr unsigned long kContinue = _IOWR(UFFDIO, 0x07, PageRange);
inline constexpr unsigned long kPoison = _IOWR(UFFDIO, 0x08, PageRange);
inline constexpr uint64_t kDontWake = 1;

inline long control(int fd, unsigned long request, const void* argument) {
  return sys::call(SYS_ioctl, fd, static_cast<long>(request), sys::arg(argument));
}

}  // namespace larder::uffd
