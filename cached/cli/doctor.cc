#include "cached/cli/doctor.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gnu/libc-version.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "cached/base/fd.h"
#include "cached/base/text.h"
#include "cached/base/units.h"
#include "cached/base/version.h"
#include "cached/cli/client.h"
#include "cached/cli/json_read.h"
#include "cached/cli/report.h"
#include "cached/cli/run.h"
#include "cached/cli/socket_path.h"

namespace larder::cli {
namespace {

using Findings = std::vector<Finding>;

// ---- the library ----

// What the loader says when it preloads `library` into a small program; empty if it is content.
std::string loader_complaint(const std::string& library) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return strerror(errno);
  Fd reader(ends[0]), writer(ends[1]);
  pid_t child = fork();
  if (child < 0) return strerror(errno);
  if (child == 0) {
    setenv("LD_PRELOAD", library.c_str(), 1);
    if (dup2(writer.get(), STDERR_FILENO) >= 0) execl("/bin/true", "true", static_cast<char*>(nullptr));
    _exit(126);
  }
  writer.reset();
  std::string said(4096, '\0');
  ssize_t n = read(reader.get(), said.data(), said.size());
  said.resize(n > 0 ? static_cast<size_t>(n) : 0);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (said.empty() && status != 0) return fmt::format("/bin/true ended with status {}", status);
  return said.substr(0, said.find('\n'));
}

void look_at_library(Findings& out) {
  auto library = find_library();
  if (!library) return out.push_back({Verdict::kFail, "library", library.error().message, ""});
  if (std::string said = loader_complaint(*library); !said.empty())
    return out.push_back(
        {Verdict::kFail, "library", *library + " cannot be preloaded: " + said, "build it for this machine (make)"});
  auto needs = needed_glibc(*library);
  if (!needs) return out.push_back({Verdict::kWarn, "library", needs.error().message, ""});
  out.push_back({Verdict::kOk, "library",
                 fmt::format("{} needs glibc {}, here is {}", *library, needs->empty() ? "of any age" : *needs,
                             gnu_get_libc_version()),
                 ""});
}

// ---- the daemon ----

void look_at_version(const Json& status, Findings& out) {
  std::string version = text(status, "version");
  std::string detail = fmt::format("larderd {}, pid {}, up {}", version, number(status, "pid"),
                                   format_duration(static_cast<double>(number(status, "uptime_s"))));
  if (version == kVersion)
    out.push_back({Verdict::kOk, "daemon", detail, ""});
  else
    out.push_back({Verdict::kWarn, "daemon", detail + fmt::format(", and this larder is {}", kVersion),
                   "restart larderd after an update"});
}

std::string why_no_answer(const std::string& path, const Error& error) {
  struct stat st {};
  if (error.code == ECONNREFUSED && lstat(path.c_str(), &st) == 0)
    return fmt::format("nobody listens at '{}': a larderd that was killed left it behind", path);
  return error.message;
}

// The status of the daemon, or an empty object.
Json look_at_daemon(Findings& out) {
  auto socket = find_socket();
  if (!socket) {
    out.push_back({Verdict::kFail, "socket", socket.error().message, ""});
    return Json::object();
  }
  auto status = Client(socket->path).request({{"op", "status"}});
  if (!status) {
    bool absent = status.error().code == ECONNREFUSED;
    out.push_back({absent ? Verdict::kWarn : Verdict::kFail, "socket", why_no_answer(socket->path, status.error()),
                   absent ? "`larder run --mount SRC=PATH -- CMD` starts a private daemon" : ""});
    return Json::object();
  }
  out.push_back({Verdict::kOk, "socket", socket->path, ""});
  look_at_version(*status, out);
  return *status;
}

// ---- memory ----

// Which home, why, and what it costs.
void look_at_home(const Json& status, Findings& out) {
  const Json& home = member(status, "home");
  if (home.empty()) return;
  const bool own = text(home, "kind") == "own", read_only = truth(home, "read_only");
  std::string detail =
      fmt::format("{} ({})", own ? "memory of its own" : text(status, "cache_dir"), text(home, "reason"));
  if (!own)
    detail += "; unless it is mounted with large folios, reads take up to 1.8 times as long as from memory of its own";
  if (!read_only) detail += "; its user and root can change cached bytes";
  out.push_back({Verdict::kOk, "home", detail, ""});
}

void look_at_own_memory(const Json& status, Findings& out) {
  const Json &home = member(status, "home"), &cache = member(status, "cache");
  const uint64_t size = number(cache, "size"), used = number(cache, "used"), free = number(home, "free");
  std::string detail = fmt::format("cache_size {}, {} used; {} free", format_bytes(static_cast<double>(size)),
                                   format_bytes(static_cast<double>(used)), format_bytes(static_cast<double>(free)));
  const bool low = size > used && size - used > free;
  out.push_back({low ? Verdict::kWarn : Verdict::kOk, "memory", detail, low ? "lower cache_size" : ""});
}

void look_at_memory(const Json& status, Findings& out) {
  const Json& home = member(status, "home");
  if (text(home, "kind") == "own") return look_at_own_memory(status, out);
  std::string dir = text(status, "cache_dir");
  if (dir.empty()) dir = "/dev/shm";
  struct statvfs fs {};
  if (statvfs(dir.c_str(), &fs) != 0)
    return out.push_back(
        {Verdict::kFail, "memory", fmt::format("{}: {}", dir, strerror(errno)), "mount a tmpfs at /dev/shm"});
  double size = static_cast<double>(fs.f_blocks) * static_cast<double>(fs.f_frsize);
  double free = static_cast<double>(fs.f_bavail) * static_cast<double>(fs.f_frsize);
  const Json& cache = member(status, "cache");
  double wanted = static_cast<double>(number(cache, "size")), used = static_cast<double>(number(cache, "used"));
  std::string detail = fmt::format("{} has {}, {} free", dir, format_bytes(size), format_bytes(free));
  if (wanted > 0) detail += fmt::format("; cache_size {}, {} used", format_bytes(wanted), format_bytes(used));
  if (size < 256e6)
    return out.push_back({Verdict::kWarn, "memory", detail,
                          "enlarge it (a container: --shm-size; else: mount -o remount,size=N /dev/shm)"});
  if (wanted > 0 && wanted - used > free)
    return out.push_back(
        {Verdict::kWarn, "memory", detail, "other programs fill it too: lower cache_size or free some space"});
  out.push_back({Verdict::kOk, "memory", detail, ""});
}

// ---- mounts and stores ----

void look_at_mounts(const Json& status, Findings& out) {
  if (status.empty()) return;
  const Json& mounts = list(status, "mounts");
  if (mounts.empty())
    out.push_back(
        {Verdict::kWarn, "mounts", "none", "`larder mount NAME PATH`, or `larder run --mount SRC=PATH -- CMD`"});
  for (const Json& m : mounts) {
    std::string detail = fmt::format("{} is {}, {} files, {} cached", text(m, "path"), text(m, "source"),
                                     format_count(number(m, "objects")), format_count(number(m, "cached_files")));
    if (number(m, "objects") == 0)
      out.push_back({Verdict::kWarn, "mount", detail, "is the prefix right? `larder refresh` lists again"});
    else if (number(m, "skipped") > 0)
      out.push_back({Verdict::kWarn, "mount",
                     detail + fmt::format(", {} not shown", format_count(number(m, "skipped"))),
                     "rename the objects that no path can name (`larder refresh` names some)"});
    else
      out.push_back({Verdict::kOk, "mount", detail, ""});
  }
}

void look_at_store(const Json& status, Findings& out) {
  const Json& store = member(status, "store");
  if (store.empty()) return;
  uint64_t gets = number(store, "gets"), errors = number(store, "errors"), retries = number(store, "retries");
  std::string detail =
      fmt::format("{} GETs, {} retries, {} errors", format_count(gets), format_count(retries), format_count(errors));
  bool bad = errors > 0;
  out.push_back({bad ? Verdict::kWarn : Verdict::kOk, "store", detail,
                 bad ? "larderd's log names each (`larder refresh NAME` tries the store now)" : ""});
}

// ---- the kernel, leftovers ----

void look_at_kernel(Findings& out) {
  Fd fd(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  if (fd.valid()) return out.push_back({Verdict::kOk, "userfaultfd", "allowed", ""});
  out.push_back({Verdict::kWarn, "userfaultfd",
                 fmt::format("refused ({}): affects large mapped files only", strerror(errno)),
                 "allow it in the container's seccomp profile"});
}

// Programs that restrict themselves (xz) are served by what docs/semantics.md says.
void look_at_landlock(Findings& out) {
  constexpr long kCreateRuleset = 444, kAskVersion = 1;
  const long version = syscall(kCreateRuleset, nullptr, size_t{0}, kAskVersion);
  out.push_back({Verdict::kOk, "landlock",
                 version > 0 ? fmt::format("version {}: a program that allows itself a mount's path reads it", version)
                             : fmt::format("not in use ({})", strerror(errno)),
                 ""});
}

bool is_cache_folder(const std::string& path) {
  return access((path + "/control").c_str(), F_OK) == 0;
}

void look_for_leftovers(const Json& status, Findings& out) {
  std::error_code ec;
  std::string current = text(status, "cache_dir");
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ec)) {
    std::string path = entry.path().string();
    if (path.rfind("/dev/shm/larder", 0) != 0 || path == current || !is_cache_folder(path)) continue;
    ++found;
    out.push_back({Verdict::kWarn, "leftover", path + " is a cache that this daemon does not use",
                   fmt::format("if no other larderd does: rm -r {}", path)});
  }
  if (found == 0) out.push_back({Verdict::kOk, "leftovers", "none in /dev/shm", ""});
}

const char* kind_name(const ProgramInfo& p) {
  switch (p.kind) {
    case ProgramKind::kDynamic:
      return "a dynamic program";
    case ProgramKind::kStatic:
      return "a static program";
    case ProgramKind::kScript:
      return "a script";
    case ProgramKind::kUnknown:
      return "not a program that the kernel can run";
  }
  return "";
}

Findings diagnose_by_name(const std::string& command) {
  auto chain = inspect_command(command);
  if (chain) return diagnose_command(*chain);
  return {{Verdict::kFail, "command", chain.error().message, "check the name and PATH"}};
}

}  // namespace

std::vector<Finding> diagnose_command(const std::vector<ProgramInfo>& chain) {
  Findings out;
  for (const ProgramInfo& p : chain) {
    std::string detail = fmt::format("{} is {}", p.path, kind_name(p));
    if (p.kind == ProgramKind::kScript)
      detail += fmt::format(", read by {}", p.script_program);
    else if (!p.interpreter.empty())
      detail += fmt::format(", loaded by {}", p.interpreter);
    std::string why = why_not_served({p}), part = what_passes_by({p});
    if (why.empty() && !part.empty())
      out.push_back({Verdict::kWarn, "command", part, "those calls see the disk, not the mounts"});
    else if (why.empty() && p.filters)
      out.push_back({Verdict::kWarn, "command",
                     p.path + " uses libseccomp: once it filters its own calls, files that are not cached may be EPERM",
                     "`larder warm` what it reads, or switch its sandbox off"});
    else if (why.empty())
      out.push_back({p.kind == ProgramKind::kUnknown ? Verdict::kWarn : Verdict::kOk, "command", detail, ""});
    else
      out.push_back({Verdict::kFail, "command", why,
                     "it does not see the mounts: copy what it needs out of them, or use a dynamic build"});
  }
  return out;
}

std::string render_finding(const Finding& f) {
  const char* word = f.verdict == Verdict::kOk ? "ok  " : f.verdict == Verdict::kWarn ? "warn" : "fail";
  std::string line = fmt::format("{}  {:<12} {}", word, f.what, printable(f.detail, kWhole));
  return f.remedy.empty() ? line : line + ": " + f.remedy;
}

int run_doctor(const std::string& command) {
  Findings findings;
  Json status = look_at_daemon(findings);
  look_at_library(findings);
  look_at_home(status, findings);
  look_at_memory(status, findings);
  look_at_mounts(status, findings);
  look_at_store(status, findings);
  look_at_kernel(findings);
  look_at_landlock(findings);
  look_for_leftovers(status, findings);
  if (!command.empty())
    for (Finding& f : diagnose_by_name(command))
      findings.push_back(std::move(f));
  bool failed = false;
  for (const Finding& f : findings) {
    say("{}\n", render_finding(f));
    failed = failed || f.verdict == Verdict::kFail;
  }
  return output_status(failed ? kExitFailed : kExitOk);
}

}  // namespace larder::cli
