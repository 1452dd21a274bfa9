#include "preload/lazy/uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "preload/base/sys.h"

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

constinit std::atomic<uint64_t> allowed_features{~0ULL};

namespace {

constexpr uint64_t kMinorShmem = UFFD_FEATURE_MINOR_SHMEM;
constexpr uint64_t kPoisonPages = 1 << 14;  // Linux 6.6
// Without these a mapping that is moved silently loses its registration, and the pager's table goes wrong.
constexpr uint64_t kNeeded =
    UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_MISSING_SHMEM;
constexpr uint64_t kModeMinor = 1 << 2;
constexpr uint64_t kDontWake = 1;

// UFFDIO_CONTINUE and UFFDIO_POISON have one form.
struct PageRange {
  uint64_t start;
  uint64_t length;
  uint64_t mode;
  int64_t done;  // bytes, or -errno
};
constexpr unsigned long kContinue = _IOWR(UFFDIO, 0x07, PageRange);
constexpr unsigned long kPoison = _IOWR(UFFDIO, 0x08, PageRange);

constinit int fd = -1;
constinit bool minor = false, poisons = false;
constinit std::atomic<bool> kernel_waits{false};

long control(int on, unsigned long request, const void* argument) {
  return sys::call(SYS_ioctl, on, static_cast<long>(request), sys::arg(argument));
}

int make(bool kernel_faults) {
  if (!kernel_faults) return static_cast<int>(sys::call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
  const int made = static_cast<int>(sys::call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK));
  if (made != -EPERM) return made;
  sys::Fd device(sys::openat(AT_FDCWD, "/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  if (device.get() < 0) return made;
  return static_cast<int>(sys::call(SYS_ioctl, device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK));
}

long supported_features(bool kernel_faults, uint64_t* out) {
  sys::Fd probe(make(kernel_faults));
  if (probe.get() < 0) return probe.get();
  uffdio_api api = {UFFD_API, 0, 0};
  const long r = control(probe.get(), UFFDIO_API, &api);
  *out = api.features & allowed_features.load(std::memory_order_relaxed);
  return r;
}

}  // namespace

long open() {
  uint64_t supported = 0;
  bool kernel_faults = true;
  long r = supported_features(true, &supported);
  if (r < 0) {
    kernel_faults = false;
    r = supported_features(kernel_faults, &supported);
  }
  if (r < 0) return r;
  if ((supported & kNeeded) != kNeeded) return -ENOSYS;
  uffdio_api api = {UFFD_API, supported & (kNeeded | kMinorShmem | kPoisonPages), 0};
  fd = make(kernel_faults);
  if (fd < 0) return fd;
  minor = api.features & kMinorShmem;
  poisons = api.features & kPoisonPages;
  kernel_waits.store(kernel_faults, std::memory_order_relaxed);
  return control(fd, UFFDIO_API, &api);
}

int descriptor() {
  return fd;
}
bool has_minor() {
  return minor;
}
bool serves_kernel() {
  return kernel_waits.load(std::memory_order_relaxed);
}

long add(uint64_t start, uint64_t length, bool with_minor) {
  uffdio_register r = {{start, length}, UFFDIO_REGISTER_MODE_MISSING | (with_minor ? kModeMinor : 0), 0};
  return control(fd, UFFDIO_REGISTER, &r);
}

void wake(uint64_t start, uint64_t length) {
  const uffdio_range range = {start, length};
  control(fd, UFFDIO_WAKE, &range);
}

bool mappings_change() {
  uffdio_copy nothing = {};
  return control(fd, UFFDIO_COPY, &nothing) == -EAGAIN;
}

long show(uint64_t start, uint64_t end, uint64_t page) {
  uint64_t at = start;
  while (at < end) {
    PageRange p = {at, end - at, kDontWake, 0};
    const long r = control(fd, kContinue, &p);
    if (r == 0) return static_cast<long>(end - start);
    if (p.done > 0)
      at += static_cast<uint64_t>(p.done);
    else if (r == -EEXIST)
      at += page;
    else if (r == -ENOENT && end - at > page)
      end = at + ((end - at) / 2 + page - 1) / page * page;  // mlock or mprotect of a part made two mappings of it
    else
      return at > start ? static_cast<long>(at - start) : r;
  }
  return static_cast<long>(end - start);
}

long poison(uint64_t address, uint64_t page) {
  if (!poisons) return -ENOSYS;
  PageRange p = {address, page, kDontWake, 0};
  return control(fd, kPoison, &p);
}

}  // namespace larder::uffd
