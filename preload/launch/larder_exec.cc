// larder-exec: the entrypoint of containers. Waits until this node's larderd answers and serves what the command needs,
// then becomes the command with liblarder.so preloaded.
//
// A static program on libc alone, so that it runs in any image; it lies beside liblarder.so in the folder that
// containers get read-only. Everything that comes over the socket or out of control is untrusted: fixed sizes, bounded
// reads. Exit status: the command's, or 125 (no larderd, a mount that is not served, a wrong option), 126 (the command
// cannot be executed), 127 (there is no such command).
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "larder/names.h"
#include "larder/shm.h"
#include "larder/standard_streams.h"
#include "larder/wire.h"
#include "preload/launch/elf_kind.h"

namespace larder {
namespace {

constexpr int kFailed = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr int kMaxNeeds = 64;
constexpr int64_t kDefaultWaitMs = 60'000;
constexpr int64_t kReplyPatienceMs = 2'000;  // of one attempt: a larderd that is stopped is asked again
constexpr long kPauseNs = 50'000'000;        // between two attempts

constexpr const char kUsage[] =
    "Usage: larder-exec [--wait TIME] [--need PATH]... [--] COMMAND [ARGUMENT]...\n"
    "\n"
    "Waits for this node's larderd, then runs COMMAND with liblarder.so preloaded.\n"
    "\n"
    "  --wait TIME   how long to wait for larderd and the needed mounts: 500ms, 60s, 2m; 0 asks once (default 60s)\n"
    "  --need PATH   a path that must be in a dataset's mount before COMMAND starts; may be given several times\n"
    "  --help        this text\n"
    "\n"
    "LARDER_SOCKET names larderd's socket; without it, larder.sock beside this program, then\n"
    "/run/larder/larder.sock. LARDER_LIB names the library; without it, liblarder.so beside this program.\n"
    "Exit status: COMMAND's; 125 if larderd or a mount is missing, 126 if COMMAND cannot be executed, 127 if there is\n"
    "no such command.\n";

struct Options {
  int64_t wait_ms = kDefaultWaitMs;
  const char* needs[kMaxNeeds];
  int need_count = 0;
  char** command = nullptr;
};

// Why an attempt failed: `permanent` if waiting cannot help.
struct Problem {
  char text[kMaxPathBytes + 256];
  bool permanent = false;
};

[[noreturn, gnu::format(printf, 2, 3)]] void fail(int status, const char* format, ...) {
  va_list args;
  va_start(args, format);
  fputs("larder-exec: ", stderr);
  vfprintf(stderr, format, args);
  fputc('\n', stderr);
  va_end(args);
  _exit(status);
}

[[gnu::format(printf, 3, 4)]] bool problem(Problem* out, bool permanent, const char* format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(out->text, sizeof out->text, format, args);
  va_end(args);
  out->permanent = permanent;
  return false;
}

int64_t now_ms() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

// ---- options -------------------------------------------------------------------------------------------------------

// Milliseconds of "500ms", "60s", "2m" or "60"; -1: not a time.
int64_t parse_time(const char* text) {
  char* end = nullptr;
  errno = 0;
  const long long n = strtoll(text, &end, 10);
  if (errno != 0 || end == text || n < 0 || n > 1'000'000'000) return -1;
  if (strcmp(end, "ms") == 0) return n;
  if (*end == 0 || strcmp(end, "s") == 0) return n * 1000;
  if (strcmp(end, "m") == 0) return n * 60'000;
  return -1;
}

// The value of an option that is written "--name VALUE" or "--name=VALUE"; null: argv[*i] is another one.
const char* value_of(const char* name, int argc, char** argv, int* i) {
  const size_t length = strlen(name);
  if (strncmp(argv[*i], name, length) != 0) return nullptr;
  if (argv[*i][length] == '=') return argv[*i] + length + 1;
  if (argv[*i][length] != 0) return nullptr;
  if (*i + 1 >= argc) fail(kFailed, "%s needs a value; larder-exec --help tells more", name);
  return argv[++*i];
}

void add_need(Options* o, const char* path) {
  if (path[0] != '/') fail(kFailed, "--need '%s': write an absolute path", path);
  if (o->need_count == kMaxNeeds) fail(kFailed, "--need is given more than %d times", kMaxNeeds);
  o->needs[o->need_count++] = path;
}

Options parse_options(int argc, char** argv) {
  Options o;
  int i = 1;
  for (; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; ++i) {
    if (strcmp(argv[i], "--help") == 0) {
      fputs(kUsage, stdout);
      exit(0);
    }
    if (const char* wait = value_of("--wait", argc, argv, &i)) {
      o.wait_ms = parse_time(wait);
      if (o.wait_ms < 0) fail(kFailed, "--wait '%s' is not a time: write 500ms, 60s or 2m", wait);
    } else if (const char* need = value_of("--need", argc, argv, &i)) {
      add_need(&o, need);
    } else {
      fail(kFailed, "unknown option '%s'; larder-exec --help tells which there are", argv[i]);
    }
  }
  if (i < argc && strcmp(argv[i], "--") == 0) ++i;
  if (i >= argc) fail(kFailed, "no command is given; write larder-exec [OPTION]... -- COMMAND");
  o.command = argv + i;
  return o;
}

// ---- where things are ----------------------------------------------------------------------------------------------

// "<folder of this program>/<name>"; false if that is no path.
bool beside_me(const char* name, char* out, size_t size) {
  const ssize_t n = readlink("/proc/self/exe", out, size - 1);
  if (n <= 0) return false;
  out[n] = 0;
  char* slash = strrchr(out, '/');
  if (slash == nullptr) return false;
  const size_t used = static_cast<size_t>(slash + 1 - out);
  return used + strlen(name) < size && strcpy(slash + 1, name) != nullptr;
}

void find_library(char* out, size_t size) {
  const char* set = getenv("LARDER_LIB");
  if (set != nullptr && set[0] != 0) {
    if (strlen(set) >= size) fail(kFailed, "LARDER_LIB is longer than a path can be (%zu bytes)", size);
    strcpy(out, set);
  } else if (!beside_me("liblarder.so", out, size)) {
    fail(kFailed, "cannot tell where this program lies (is /proc mounted?): set %s", "LARDER_LIB");
  }
  if (access(out, R_OK) != 0)
    fail(kFailed, "the library '%s' cannot be read: %s; put it beside larder-exec, or set LARDER_LIB", out,
         strerror(errno));
  if (strpbrk(out, " :") != nullptr)
    fail(kFailed, "'%s' cannot be preloaded, as LD_PRELOAD ends a name at a space or colon", out);
}

// The sockets to try, best first.
struct Sockets {
  char paths[2][sizeof(sockaddr_un::sun_path)];
  int count = 0;
};

Sockets find_sockets() {
  Sockets s;
  const char* set = getenv("LARDER_SOCKET");
  if (set != nullptr && set[0] != 0) {
    if (strlen(set) >= sizeof s.paths[0])
      fail(kFailed, "LARDER_SOCKET is longer than the path of a socket can be (%zu bytes)", sizeof s.paths[0] - 1);
    strcpy(s.paths[s.count++], set);
    return s;
  }
  if (beside_me("larder.sock", s.paths[0], sizeof s.paths[0]) && strcmp(s.paths[0], kDefaultSocket) != 0) s.count = 1;
  strcpy(s.paths[s.count++], kDefaultSocket);
  return s;
}

// ---- asking larderd ------------------------------------------------------------------------------------------------

struct Socket {
  int fd;
  explicit Socket(int number) : fd(number) {}
  ~Socket() {
    if (fd >= 0) close(fd);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
};

// Keeps the first descriptor of a message, closes the others. -1: there was none.
int first_descriptor(msghdr* msg) {
  int kept = -1;
  for (cmsghdr* c = CMSG_FIRSTHDR(msg); c != nullptr; c = CMSG_NXTHDR(msg, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      if (kept < 0)
        kept = fd;
      else
        close(fd);
    }
  }
  return kept;
}

bool connect_to(const char* path, const Socket& s, Problem* why) {
  if (s.fd < 0) return problem(why, true, "no socket: %s", strerror(errno));
  const timeval patience = {kReplyPatienceMs / 1000, 0};
  setsockopt(s.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  setsockopt(s.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, path);
  if (connect(s.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0) return true;
  const int error = errno;
  return problem(why, error == EPROTOTYPE, "no larderd answers at '%s': %s", path, strerror(error));
}

// Greets larderd; *directory becomes its cache directory (O_PATH).
bool greet(const char* path, int* directory, Problem* why) {
  const Socket s(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!connect_to(path, s, why)) return false;
  Request request = {};
  request.magic = kWireMagic;
  request.version = kWireVersion;
  request.op = Op::kHello;
  if (send(s.fd, &request, sizeof request, MSG_NOSIGNAL) != sizeof request)
    return problem(why, false, "larderd at '%s' takes no request: %s", path, strerror(errno));
  Reply reply = {};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxHelloFds)];
  iovec iov = {&reply, sizeof reply};
  msghdr msg = {};
  msg.msg_iov = &iov;
  msg.msg_iovlen = 1;
  msg.msg_control = control;
  msg.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(s.fd, &msg, MSG_CMSG_CLOEXEC);
  if (n <= 0) return problem(why, false, "larderd at '%s' does not answer", path);
  *directory = first_descriptor(&msg);
  if (n != sizeof reply || reply.magic != kWireMagic)
    return problem(why, true, "what answers at '%s' is not larderd", path);
  if (reply.status == EPROTO)
    return problem(why, true, "larderd at '%s' speaks version %u and this program %u: use those of one release", path,
                   reply.version, kWireVersion);
  if (reply.status != 0) return problem(why, true, "larderd at '%s' refuses: %s", path, strerror(reply.status));
  if (*directory < 0) return problem(why, false, "larderd at '%s' gave no descriptor: too few are left", path);
  return true;
}

// A copy of control that is not half of one generation and half of another.
bool read_control(int directory, Control* out) {
  const Socket file(openat(directory, larder::kControlFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  for (int attempt = 0; file.fd >= 0 && attempt < 1000; ++attempt) {
    uint64_t after = 0;
    if (pread(file.fd, out, sizeof *out, 0) != sizeof *out) return false;
    if (pread(file.fd, &after, sizeof after, offsetof(Control, generation)) != sizeof after) return false;
    const uint64_t before = out->generation.load(std::memory_order_relaxed);
    if (before == after && before % 2 == 0)
      return out->magic == kControlMagic && out->format == kControlFormat && out->mount_count <= kMaxMounts;
  }
  return false;
}

// True if `path` is `mount` or below it. "//" and a '/' at the end count as in open(2).
bool is_in(const char* path, const char* mount, size_t length) {
  size_t at = 0;
  for (; at < length; ++path) {
    if (path[0] == '/' && path[1] == '/') continue;
    if (*path != mount[at]) return false;
    ++at;
  }
  return *path == 0 || *path == '/';
}

bool is_served(const Control& control, const char* path) {
  for (uint32_t i = 0; i < control.mount_count; ++i) {
    const ControlMount& m = control.mounts[i];
    if (m.path_len > 0 && m.path_len <= kMaxMountPath && is_in(path, m.path, m.path_len)) return true;
  }
  return false;
}

// One attempt: larderd answers at one of the sockets and serves what is needed. `chosen`: that socket's number.
bool ask(const Options& o, const Sockets& sockets, int* chosen, Problem* why) {
  static Control control;
  int directory = -1;
  *chosen = 0;
  while (!greet(sockets.paths[*chosen], &directory, why)) {
    if (directory >= 0) close(directory);
    directory = -1;
    if (why->permanent || ++*chosen == sockets.count) return false;
  }
  const Socket root(directory);
  if (o.need_count == 0) return true;
  if (!read_control(directory, &control)) return problem(why, false, "%s", "larderd's list of mounts cannot be read");
  for (int i = 0; i < o.need_count; ++i)
    if (!is_served(control, o.needs[i]))
      return problem(why, false, "'%s' is not served: no mount of the larderd at '%s' contains it", o.needs[i],
                     sockets.paths[*chosen]);
  return true;
}

// The number of the socket that serves the command; ends the program if there is none in time.
int wait_for_daemon(const Options& o, const Sockets& sockets) {
  static Problem why;
  const int64_t end = now_ms() + o.wait_ms;
  for (;;) {
    int chosen;
    if (ask(o, sockets, &chosen, &why)) return chosen;
    if (why.permanent || now_ms() >= end) break;
    const timespec pause = {0, kPauseNs};
    nanosleep(&pause, nullptr);
  }
  if (why.permanent) fail(kFailed, "%s", why.text);
  fail(kFailed, "%s (waited for %lld ms)", why.text, static_cast<long long>(o.wait_ms));
}

// ---- the command ---------------------------------------------------------------------------------------------------

// "<library>:<what was preloaded already>", the library once.
void preload(const char* library) {
  const char* before = getenv("LD_PRELOAD");
  if (before == nullptr) before = "";
  const size_t length = strlen(library);
  char* value = static_cast<char*>(malloc(length + strlen(before) + 2));
  if (value == nullptr) fail(kFailed, "%s", "out of memory");
  char* end = stpcpy(value, library);
  while (*before != 0) {
    const size_t name = strcspn(before, " :");
    if (name > 0 && !(name == length && strncmp(before, library, name) == 0)) {
      *end++ = ':';
      memcpy(end, before, name);
      end += name;
    }
    before += name + (before[name] != 0);
  }
  *end = 0;
  if (setenv("LD_PRELOAD", value, 1) != 0) fail(kFailed, "cannot set LD_PRELOAD: %s", strerror(errno));
  free(value);
}

[[noreturn]] void become(char** command) {
  restore_stream_signals();
  execvp(command[0], command);
  const int error = errno;
  prepare_standard_streams();
  fail(error == ENOENT ? kNotFound : kNotExecutable, "command '%s': %s", command[0], strerror(error));
}

// Programs that the library cannot serve run all the same, but not silently.
void prepare(const Options& o, const char* library) {
  switch (kind_of_command(o.command[0])) {
    case ElfKind::kMusl:
      fprintf(stderr, "larder-exec: %s uses musl, and liblarder.so needs glibc: it does not see the mounts\n",
              o.command[0]);
      return;  // musl's loader would end the program for a glibc library
    case ElfKind::kStatic:
      fprintf(stderr, "larder-exec: %s is a static program: it does not see the mounts; what it starts may\n",
              o.command[0]);
      break;
    case ElfKind::kOther:
      break;
  }
  preload(library);
}

int run(int argc, char** argv) {
  const Options o = parse_options(argc, argv);
  static char library[kMaxPathBytes];
  find_library(library, sizeof library);
  const Sockets sockets = find_sockets();
  const int chosen = wait_for_daemon(o, sockets);
  prepare(o, library);
  if (setenv("LARDER_SOCKET", sockets.paths[chosen], 1) != 0)
    fail(kFailed, "cannot set LARDER_SOCKET: %s", strerror(errno));
  become(o.command);
}

}  // namespace
}  // namespace larder

int main(int argc, char** argv) {
  larder::prepare_standard_streams();
  return larder::run(argc, argv);
}
