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
#include <optional>

#include "cached/base/fd.h"
#include "cached/cli/raw_calls.h"

namespace larder::cli {
namespace {

constexpr size_t kMaxTable = 4 << 20;  // no section table, string table or version list of a real program is larger

constexpr uint64_t kMaxCode = 256 << 20, kCodePiece = 1 << 20;

// Bytes [off, off + len) of a file, or nothing if it does not have them all.
std::optional<std::string> read_range(int fd, uint64_t off, uint64_t len) {
  if (len > kMaxTable || off > INT64_MAX - len) return std::nullopt;
  std::string out(len, '\0');
  for (size_t got = 0; got < len;) {
    ssize_t n = pread(fd, out.data() + got, len - got, static_cast<off_t>(off + got));
    if (n <= 0) return std::nullopt;
    got += static_cast<size_t>(n);
  }
  return out;
}

template <typename T>
std::optional<T> read_struct(std::string_view bytes, uint64_t off) {
  if (off > bytes.size() || bytes.size() - off < sizeof(T)) return std::nullopt;
  T t;
  memcpy(&t, bytes.data() + off, sizeof t);
  return t;
}

std::string_view c_string(std::string_view table, uint64_t off) {
  if (off >= table.size()) return {};
  return table.substr(off, table.substr(off).find('\0'));
}

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "Larder knows x86-64 and aarch64"
#endif

struct Section {
  Elf64_Shdr header;
  std::string_view name;
};

// The 64-bit ELF file of this machine's architecture: headers and sections.
class ElfFile {
 public:
  static std::optional<ElfFile> open(int fd) {
    auto head = read_range(fd, 0, sizeof(Elf64_Ehdr));
    if (!head) return std::nullopt;
    ElfFile file(fd);
    memcpy(&file.header_, head->data(), sizeof file.header_);
    return file;
  }
  const Elf64_Ehdr& header() const { return header_; }

  // PT_INTERP; empty if there is none.
  std::string interpreter() const {
    auto table = read_range(fd_, header_.e_phoff, uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr));
    for (uint64_t i = 0; table && i < header_.e_phnum; ++i) {
      auto segment = read_struct<Elf64_Phdr>(*table, i * sizeof(Elf64_Phdr));
      if (!segment || segment->p_type != PT_INTERP) continue;
      auto text = read_range(fd_, segment->p_offset, std::min<uint64_t>(segment->p_filesz, 4096));
      return text ? std::string(c_string(*text, 0)) : "?";
    }
    return "";
  }

  // The calls that its executable segments make by themselves.
  std::vector<std::string> raw_calls() const {
    std::vector<std::string> found;
    auto table = read_range(fd_, header_.e_phoff, uint64_t{header_.e_phnum} * sizeof(Elf64_Phdr));
    for (uint64_t i = 0; table && i < header_.e_phnum; ++i) {
      auto segment = read_struct<Elf64_Phdr>(*table, i * sizeof(Elf64_Phdr));
      if (!segment || segment->p_type != PT_LOAD || !(segment->p_flags & PF_X)) continue;
      uint64_t size = std::min<uint64_t>(segment->p_filesz, kMaxCode);
      for (uint64_t at = 0; at < size; at += kCodePiece) {
        auto code = read_range(fd_, segment->p_offset + at, std::min(kCodePiece + kRawCallWindow, size - at));
        if (!code) break;
        for (std::string& name : raw_path_calls(*code))
          found.push_back(std::move(name));
      }
    }
    std::sort(found.begin(), found.end());
    found.erase(std::unique(found.begin(), found.end()), found.end());
    return found;
  }

  std::vector<Section> sections() {
    std::vector<Section> out;
    auto table = read_range(fd_, header_.e_shoff, uint64_t{header_.e_shnum} * sizeof(Elf64_Shdr));
    if (!table || header_.e_shstrndx >= header_.e_shnum) return out;
    auto names = read_struct<Elf64_Shdr>(*table, uint64_t{header_.e_shstrndx} * sizeof(Elf64_Shdr));
    names_ = read_range(fd_, names->sh_offset, names->sh_size).value_or("");
    for (uint64_t i = 0; i < header_.e_shnum; ++i) {
      auto section = read_struct<Elf64_Shdr>(*table, i * sizeof(Elf64_Shdr));
      out.push_back({*section, c_string(names_, section->sh_name)});
    }
    return out;
  }

 private:
  explicit ElfFile(int fd) : fd_(fd) {}
  int fd_;
  Elf64_Ehdr header_{};
  std::string names_;
};

bool has_go_section(ElfFile& file) {
  for (const Section& s : file.sections())
    if (s.name == ".go.buildinfo" || s.name == ".note.go.buildid") return true;
  return false;
}

void inspect_elf(int fd, std::string_view head, ProgramInfo& info) {
  auto elf = ElfFile::open(fd);
  if (!elf) return;
  if (head[EI_CLASS] != ELFCLASS64 || elf->header().e_machine != kMachine) {
    info.kind = ProgramKind::kDynamic;
    info.other_machine = true;
    return;
  }
  info.interpreter = elf->interpreter();
  info.kind = info.interpreter.empty() ? ProgramKind::kStatic : ProgramKind::kDynamic;
  info.musl = info.interpreter.find("ld-musl") != std::string::npos;
  info.go = has_go_section(*elf);
  if (info.kind == ProgramKind::kDynamic && !info.go && !info.musl) info.raw_calls = elf->raw_calls();
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

bool older(const std::string& a, const std::string& b) {
  return strverscmp(a.c_str(), b.c_str()) < 0;
}

// The names in one version-need list.
std::string highest_glibc(std::string_view needs, std::string_view names) {
  std::string best;
  uint64_t at = 0;
  for (size_t guard = 0; guard < needs.size(); ++guard) {
    auto need = read_struct<Elf64_Verneed>(needs, at);
    if (!need) break;
    uint64_t aux_at = at + need->vn_aux;
    for (uint16_t i = 0; i < need->vn_cnt; ++i) {
      auto aux = read_struct<Elf64_Vernaux>(needs, aux_at);
      if (!aux) break;
      std::string_view name = c_string(names, aux->vna_name);
      if (name.rfind("GLIBC_2.", 0) == 0 && older(best, std::string(name.substr(6)))) best = name.substr(6);
      aux_at += aux->vna_next;
    }
    if (need->vn_next == 0) break;
    at += need->vn_next;
  }
  return best;
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
    inspect_elf(fd.get(), head, info);
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
  auto ident = read_range(fd.get(), 0, EI_NIDENT);
  auto elf = ElfFile::open(fd.get());
  if (!ident || !elf || ident->substr(0, SELFMAG) != ELFMAG || (*ident)[EI_CLASS] != ELFCLASS64)
    return make_error(ENOEXEC, fmt::format("'{}' is not a 64-bit ELF file", path));
  std::vector<Section> sections = elf->sections();
  for (const Section& s : sections) {
    if (s.header.sh_type != SHT_GNU_verneed || s.header.sh_link >= sections.size()) continue;
    auto needs = read_range(fd.get(), s.header.sh_offset, s.header.sh_size);
    const Elf64_Shdr& strings = sections[s.header.sh_link].header;
    auto names = read_range(fd.get(), strings.sh_offset, strings.sh_size);
    if (needs && names) return highest_glibc(*needs, *names);
  }
  return std::string();
}

}  // namespace larder::cli
