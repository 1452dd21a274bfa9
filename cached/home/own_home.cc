#include "cached/home/own_home.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>

#include "larder/names.h"

namespace larder {
namespace {

// What the child does, in order; a failure is reported as one of these and an errno.
enum class Step : int {
  kDone,
  kNamespace,
  kUserMap,
  kPrivate,
  kTmpfs,
  kAttach,
  kChunks,
  kClone,
  kReadOnly,
};

const char* name_of(Step step) {
  switch (step) {
    case Step::kDone:
      return "done";
    case Step::kNamespace:
      return "unshare";
    case Step::kUserMap:
      return "writing uid_map";
    case Step::kPrivate:
      return "mount(MS_PRIVATE)";
    case Step::kTmpfs:
      return "mounting a tmpfs (fsopen, fsconfig, fsmount)";
    case Step::kAttach:
      return "move_mount";
    case Step::kChunks:
      return "making the folder for chunks";
    case Step::kClone:
      return "open_tree";
    case Step::kReadOnly:
      return "mount_setattr";
  }
  return "an unknown step";
}

struct Report {
  Step step = Step::kDone;
  int error = 0;
  bool locked = false;
};

bool write_text(const char* path, const char* text) {
  Fd fd(::open(path, O_WRONLY | O_CLOEXEC));
  const ssize_t n = static_cast<ssize_t>(strlen(text));
  return fd.valid() && ::write(fd.get(), text, static_cast<size_t>(n)) == n;
}

// The child of the calls below. All it allocates is on the stack: its parent may have other threads.
class Maker {
 public:
  Maker(uint64_t bytes, uint64_t inodes) : bytes_(bytes), inodes_(inodes), uid_(::geteuid()), gid_(::getegid()) {}

  Report run() {
    if (Step failed = make(); failed != Step::kDone) return {failed, errno, false};
    return {Step::kDone, 0, lock_view()};
  }
  int writable() const { return writable_.get(); }
  int readable() const { return readable_.get(); }

 private:
  Step make() {
    if (Step s = enter_namespace(); s != Step::kDone) return s;
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return Step::kPrivate;
    Fd files = tmpfs("within_size"), chunks = tmpfs("never");
    if (!files.valid() || !chunks.valid()) return Step::kTmpfs;
    if (!attach(files.get())) return Step::kAttach;
    if (::mkdirat(files.get(), kChunksFolder, 0755) != 0) return Step::kChunks;
    if (::move_mount(chunks.get(), "", files.get(), kChunksFolder, MOVE_MOUNT_F_EMPTY_PATH) != 0) return Step::kAttach;
    writable_ = clone();
    readable_ = clone();
    if (!writable_.valid() || !readable_.valid()) return Step::kClone;
    return make_read_only(readable_.get()) ? Step::kDone : Step::kReadOnly;
  }

  // Root keeps the first user namespace where it can: files then may belong to any group.
  Step enter_namespace() {
    if (uid_ == 0 && ::unshare(CLONE_NEWNS) == 0) return Step::kDone;
    return enter_user_namespace();
  }

  Step enter_user_namespace() {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return Step::kNamespace;
    char line[64];
    (void)write_text("/proc/self/setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", uid_, uid_);
    if (!write_text("/proc/self/uid_map", line)) return Step::kUserMap;
    snprintf(line, sizeof line, "%u %u 1", gid_, gid_);
    return write_text("/proc/self/gid_map", line) ? Step::kDone : Step::kUserMap;
  }

  // A tmpfs that is mounted nowhere. A kernel without huge pages does not know the option.
  Fd tmpfs(const char* huge) const {
    Fd context(::fsopen("tmpfs", FSOPEN_CLOEXEC));
    if (!context.valid()) return {};
    (void)::fsconfig(context.get(), FSCONFIG_SET_STRING, "huge", huge, 0);
    char text[32];
    snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(bytes_));
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "size", bytes_ ? text : "50%", 0) != 0) return {};
    snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(inodes_));
    if (inodes_ != 0 && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "nr_inodes", text, 0) != 0) return {};
    if (::fsconfig(context.get(), FSCONFIG_SET_STRING, "mode", "0755", 0) != 0) return {};
    if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return {};
    return Fd(::fsmount(context.get(), FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  }

  // Any folder will do: only this process sees what is mounted there.
  bool attach(int mount) {
    for (const char* place : {"/dev/shm", "/tmp", "/run", "/dev", "/sys"}) {
      if (::move_mount(mount, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH) != 0) continue;
      place_ = place;
      return true;
    }
    return false;
  }

  Fd clone() const {
    return Fd(::open_tree(AT_FDCWD, place_, OPEN_TREE_CLONE | static_cast<unsigned>(OPEN_TREE_CLOEXEC) | AT_RECURSIVE));
  }

  static bool make_read_only(int mount) {
    struct mount_attr attr = {};
    attr.attr_set = MOUNT_ATTR_RDONLY;
    return ::mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof attr) == 0;
  }

  // Mounts that another user namespace inherits have their flags locked there, and so has a clone that is made there.
  bool lock_view() {
    if (::move_mount(readable_.get(), "", AT_FDCWD, place_, MOVE_MOUNT_F_EMPTY_PATH) != 0) return again_unlocked();
    if (enter_user_namespace() != Step::kDone) return again_unlocked();
    Fd locked = clone();
    if (!locked.valid()) return again_unlocked();
    readable_ = std::move(locked);
    return true;
  }

  // A mount that was attached is not detached any more.
  bool again_unlocked() {
    Fd copy = clone();
    if (copy.valid() && make_read_only(copy.get())) readable_ = std::move(copy);
    return false;
  }

  const uint64_t bytes_, inodes_;
  const uid_t uid_;
  const gid_t gid_;
  const char* place_ = nullptr;
  Fd writable_, readable_;
};

union DescriptorMessage {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(2 * sizeof(int))];
};

void send_report(int socket, const Report& report, const Maker& maker) {
  struct iovec part = {const_cast<Report*>(&report), sizeof report};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  DescriptorMessage control = {};
  if (report.step == Step::kDone) {
    const int fds[2] = {maker.writable(), maker.readable()};
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.header = {CMSG_LEN(sizeof fds), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), fds, sizeof fds);
  }
  (void)!::sendmsg(socket, &message, MSG_NOSIGNAL);
}

Result<OwnHome> receive(int socket) {
  Report report;
  struct iovec part = {&report, sizeof report};
  DescriptorMessage control = {};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t n;
  do
    n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (n < 0 && errno == EINTR);
  if (n != sizeof report) return make_error(ECHILD, "the process that makes the cache's file system died");
  if (report.step != Step::kDone) return os_error(name_of(report.step), report.error);
  if (message.msg_controllen < CMSG_LEN(2 * sizeof(int)) || control.header.cmsg_type != SCM_RIGHTS)
    return make_error(EMFILE, "no descriptors left for the cache's file system");
  int fds[2];
  memcpy(fds, CMSG_DATA(&control.header), sizeof fds);
  return OwnHome{Fd(fds[0]), Fd(fds[1]), report.locked};
}

// The files of a process that is not dumpable belong to root, its uid_map, too.
[[noreturn]] void make_and_exit(int socket, uint64_t bytes, uint64_t inodes) {
  ::prctl(PR_SET_DUMPABLE, 1);
  Maker maker(bytes, inodes);
  send_report(socket, maker.run(), maker);
  ::_exit(0);
}

}  // namespace

Result<OwnHome> make_own_home(uint64_t bytes, uint64_t inodes) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return os_error("cannot make a socket pair");
  Fd ours(ends[0]), theirs(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return os_error("cannot start a process");
  if (child == 0) make_and_exit(theirs.get(), bytes, inodes);
  theirs.reset();
  Result<OwnHome> home = receive(ours.get());
  while (::waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return home;
}

}  // namespace larder
