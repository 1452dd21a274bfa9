// The userfaultfd of this process's pager, and what newer kernels have than the headers of the build machine. Only the
// pager's thread calls these, but serves_kernel(). Results are 0 or -errno unless said otherwise; addresses are page
// aligned.
#pragma once
#include <stdint.h>

#include <atomic>

namespace larder::uffd {

// What may be used of what the kernel has (UFFD_FEATURE_*), for tests that want an older one.
extern std::atomic<uint64_t> allowed_features;

// Opens it: -ENOSYS, -EPERM, -EACCES where it is refused. The old one, if any, is forgotten: it was in another process.
long open();
int descriptor();

// True if there are minor faults (Linux 5.14). Otherwise a page shows once it exists in the file.
bool has_minor();
// True if the kernel itself (write(2) from a mapping) can wait for a page. Otherwise the call is EFAULT.
bool serves_kernel();

long add(uint64_t start, uint64_t length, bool with_minor);
void wake(uint64_t start, uint64_t length);

// Has the kernel unmapped or moved something that it has not told us of yet? Whatever began before this says no, we
// have read.
bool mappings_change();

// Maps what is in the file, without waking anyone. Bytes from `start` on that are mapped now, or -errno if not even one
// page is.
long show(uint64_t start, uint64_t end, uint64_t page);

// Makes the access to a page a SIGBUS, without waking anyone. -ENOSYS before Linux 6.6; -EAGAIN: the mappings change.
long poison(uint64_t address, uint64_t page);

}  // namespace larder::uffd
