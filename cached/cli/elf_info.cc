#include "cached/cli/elf_info.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "cached/base/fd.h"
#include "cached/cli/elf_file.h"
#include "cached/cli/raw_calls.h"

namespace larder::cli {
namespace {

// The calls that its executable segments make by themselves, each once.
std::vector<std::string> raw_calls_of(const ElfFile& elf) {
  std::vector<std::string> found;
  elf.each_code_piece(kRawCallWindow, [&](std::string_view code) {
    for (std::string& name : raw_path_calls(code))
      found.push_back(std::move(name));
  });
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  return found;
}

void inspect_elf(int fd, ProgramInfo& info) {
  auto elf = ElfFile::open(fd);
  if (!elf) return;
  if (!elf->is_native()) {
    info.kind = ProgramKind::kDynamic;
    info.other_machine = true;
    return;
  }
  info.interpreter = elf->interpreter();
  info.kind = info.interpreter.empty() ? ProgramKind::kStatic : ProgramKind::kDynamic;
  info.musl = info.interpreter.find("ld-musl") != std::string::npos;
  info.go = elf->has_section(".go.buildinfo") || elf->has_section(".note.go.buildid");
  info.filters = elf->needs_library("libseccomp.so");
  if (info.kind == ProgramKind::kDynamic && !info.go && !info.musl) info.raw_calls = raw_calls_of(*elf);
}

std::vector<std::string> words_of(std::string_view line) {
  std::vector<std::string> words;
  size_t at = 0;
  while ((at = line.find_first_not_of(" \t", at)) != std::string_view::npos) {
    size_t end = std::min(line.find_first_of(" \t", at), line.size());
    words.emplace_back(line.substr(at, end - at));
    at = end;
  }
  return words;
}

// The program that "#!/usr/bin/env [-S] [NAME=VALUE...] prog" starts; otherwise the interpreter itself.
std::string program_of(const std::vector<std::string>& words) {
  std::string_view name = words[0];
  if (name.substr(name.rfind('/') + 1) != "env") return words[0];
  for (size_t i = 1; i < words.size(); ++i)
    if (words[i][0] != '-' && words[i].find('=') == std::string::npos) return words[i];
  return words[0];
}

void inspect_script(std::string_view head, ProgramInfo& info) {
  std::string_view line = head.substr(2, head.find('\n') == std::string_view::npos ? head.npos : head.find('\n') - 2);
  std::vector<std::string> words = words_of(line);
  if (words.empty()) return;
  info.kind = ProgramKind::kScript;
  info.interpreter = words[0];
  info.script_program = program_of(words);
}

// AT_SECURE: what the kernel tells the loader when an exec changes what the process may do.
bool is_secure(int fd, const struct stat& st) {
  if ((st.st_mode & S_ISUID) && st.st_uid != geteuid()) return true;
  if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getegid()) return true;
  return geteuid() != 0 && fgetxattr(fd, "security.capability", nullptr, 0) > 0;
}

// A file that may be run but not read still tells its mode.
ProgramInfo unreadable(const std::string& path, const struct stat& st) {
  ProgramInfo info;
  info.path = path;
  info.secure = (st.st_mode & S_ISUID) && st.st_uid != geteuid();
  return info;
}

}  // namespace

Result<ProgramInfo> inspect_file(const std::string& path) {
  struct stat st {};
  if (stat(path.c_str(), &st) != 0)
    return make_error(errno, fmt::format("cannot look at '{}': {}", path, strerror(errno)));
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid() && access(path.c_str(), X_OK) == 0) return unreadable(path, st);
  if (!fd.valid()) return make_error(errno, fmt::format("cannot read '{}': {}", path, strerror(errno)));
  ProgramInfo info;
  info.path = path;
  info.secure = is_secure(fd.get(), st);
  std::array<char, 256> buffer{};
  ssize_t n = S_ISREG(st.st_mode) ? pread(fd.get(), buffer.data(), buffer.size(), 0) : -1;
  std::string_view head(buffer.data(), n > 0 ? static_cast<size_t>(n) : 0);
  if (head.size() >= EI_NIDENT && head.substr(0, SELFMAG) == ELFMAG)
    inspect_elf(fd.get(), info);
  else if (head.substr(0, 2) == "#!")
    inspect_script(head, info);
  return info;
}

Result<std::string> find_command(std::string_view command) {
  auto usable = [](const std::string& path) {
    struct stat st {};
    if (stat(path.c_str(), &st) != 0) return errno;
    if (S_ISDIR(st.st_mode)) return EACCES;
    return access(path.c_str(), X_OK) == 0 ? 0 : EACCES;
  };
  int error = ENOENT;
  if (command.find('/') != std::string_view::npos) {
    error = usable(std::string(command));
    if (error == 0) return std::string(command);
  } else if (!command.empty()) {
    const char* env = getenv("PATH");
    std::string_view path = env ? env : "/usr/local/bin:/usr/bin:/bin";
    for (size_t at = 0; at <= path.size();) {
      size_t end = std::min(path.find(':', at), path.size());
      std::string folder(path.substr(at, end - at));
      std::string candidate = (folder.empty() ? "." : folder) + "/" + std::string(command);
      int e = usable(candidate);
      if (e == 0) return candidate;
      if (e == EACCES) error = EACCES;
      at = end + 1;
    }
  }
  return make_error(error == ENOTDIR ? ENOENT : error, fmt::format("command '{}': {}", command, strerror(error)));
}

Result<std::vector<ProgramInfo>> inspect_command(std::string_view command) {
  std::vector<ProgramInfo> chain;
  std::string next(command);
  while (chain.size() < 5) {
    auto path = find_command(next);
    if (!path) return path.error();
    auto info = inspect_file(*path);
    if (!info) return info.error();
    chain.push_back(*info);
    if (info->kind != ProgramKind::kScript) break;
    next = info->script_program;
  }
  return chain;
}

std::string why_not_served(const std::vector<ProgramInfo>& chain) {
  for (const ProgramInfo& p : chain) {
    if (p.kind == ProgramKind::kScript) continue;  // a script's own set-user-ID bit means nothing to Linux
    if (p.secure) return p.path + " is set-user-ID, set-group-ID or has capabilities, so the loader ignores LD_PRELOAD";
    if (p.other_machine) return p.path + " is of another architecture than liblarder.so";
    if (p.kind == ProgramKind::kStatic) return p.path + " is statically linked, so nothing can be preloaded into it";
    if (p.musl) return p.path + " uses musl, and liblarder.so needs glibc";
    if (p.go) return p.path + " is a Go program: it calls the kernel without libc";
  }
  return "";
}

std::string what_passes_by(const std::vector<ProgramInfo>& chain) {
  for (const ProgramInfo& p : chain) {
    if (p.raw_calls.empty()) continue;
    return fmt::format("{} makes some system calls by itself, past the library: {}", p.path,
                       fmt::join(p.raw_calls, ", "));
  }
  return "";
}

Result<std::string> needed_glibc(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return make_error(errno, fmt::format("cannot read '{}': {}", path, strerror(errno)));
  auto elf = ElfFile::open(fd.get());
  if (!elf || !elf->is_64_bit()) return make_error(ENOEXEC, fmt::format("'{}' is not a 64-bit ELF file", path));
  return elf->needed_glibc();
}

}  // namespace larder::cli
