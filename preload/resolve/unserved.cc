#include "preload/resolve/unserved.h"

#include <sys/un.h>

#include <atomic>

#include "larder/names.h"
#include "preload/base/sys.h"
#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

alignas(Control) constinit char copy[sizeof(Control)] = {};

constinit bool quiet = true;
constinit uint64_t stderr_dev = 0, stderr_inode = 0;
constinit std::atomic<unsigned> given{0};  // a bit a Notice

const Control* read_one(const char* socket) {
  char path[sizeof(sockaddr_un::sun_path) + sizeof(kMountsFileSuffix)];
  const size_t n = strlen(socket);
  memcpy(path, socket, n);
  memcpy(path + n, kMountsFileSuffix, sizeof(kMountsFileSuffix));
  sys::Fd fd(sys::openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return nullptr;
  const long n_read = sys::call(SYS_pread64, fd.get(), sys::arg(copy), sizeof(copy), 0);
  auto* c = reinterpret_cast<const Control*>(copy);
  const bool good = n_read == sizeof(Control) && c->magic == kControlMagic && c->format == kControlFormat;
  return good && c->bytes == sizeof(Control) ? c : nullptr;
}

// One write, so that lines of several processes do not mix.
class Line {
 public:
  Line& add(const char* text) {
    for (; *text != 0 && size_ < sizeof(text_) - 1; ++text)
      text_[size_++] = static_cast<unsigned char>(*text) < ' ' ? '?' : *text;
    return *this;
  }
  void print() {
    text_[size_++] = '\n';
    sys::call(SYS_write, 2, sys::arg(text_), static_cast<long>(size_));
  }

 private:
  char text_[1024];
  size_t size_ = 0;
};

bool stderr_is_as_it_was() {
  struct stat st;
  return sys::fstat(2, &st) == 0 && st.st_dev == stderr_dev && st.st_ino == stderr_inode;
}

}  // namespace

const Control* read_mounts_file() {
  for (int i = 0; i < socket_candidates(); ++i)
    if (const Control* c = read_one(socket_candidate(i))) return c;
  return nullptr;
}

void configure_notices(bool be_quiet) {
  struct stat st;
  quiet = be_quiet || sys::fstat(2, &st) != 0;
  if (quiet) return;
  stderr_dev = st.st_dev;
  stderr_inode = st.st_ino;
}

void give_notice(Notice what, const char* path) {
  const unsigned bit = 1U << static_cast<unsigned>(what);
  if (quiet || (given.fetch_or(bit) & bit) != 0 || !stderr_is_as_it_was()) return;
  Line line;
  line.add("larder: no larderd answers at '").add(socket_candidate(0)).add("'");
  if (what == Notice::kNobodyAtSocket)
    line.add(", which LARDER_SOCKET names: this program sees no datasets");
  else
    line.add(": '").add(path).add("' and what else is in its datasets is EIO");
  line.add(" (LARDER_QUIET=1 silences this)").print();
}

}  // namespace larder
