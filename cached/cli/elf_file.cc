#include "cached/cli/elf_file.h"

#include <elf.h>
#include <gelf.h>
#include <libelf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace larder::cli {
namespace {

constexpr uint64_t kMaxCode = 256 << 20;  // of a segment; what lies behind is not looked at
constexpr uint64_t kCodePiece = 1 << 20;
constexpr uint64_t kMaxInterpreter = 4096;  // PATH_MAX

#if defined(__x86_64__)
constexpr uint16_t kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr uint16_t kMachine = EM_AARCH64;
#else
#error "Larder knows x86-64 and aarch64"
#endif

// At most `size` bytes from an offset on; fewer at the end of the file.
std::string read_at(int fd, uint64_t offset, uint64_t size) {
  std::string out(size, '\0');
  size_t got = 0;
  while (offset <= INT64_MAX - size && got < size) {
    const ssize_t n = pread(fd, out.data() + got, size - got, static_cast<off_t>(offset + got));
    if (n <= 0) break;
    got += static_cast<size_t>(n);
  }
  out.resize(got);
  return out;
}

template <typename F>
void each_segment(Elf* elf, F use) {
  size_t count = 0;
  if (elf_getphdrnum(elf, &count) != 0) return;
  for (size_t i = 0; i < count; ++i) {
    GElf_Phdr segment;
    if (!gelf_getphdr(elf, static_cast<int>(i), &segment)) return;
    use(segment);
  }
}

bool older(const std::string& a, const std::string& b) {
  return strverscmp(a.c_str(), b.c_str()) < 0;
}

// The highest version in one list of version needs.
std::string highest_glibc(Elf* elf, Elf_Data* needs, size_t strings) {
  std::string best;
  int at = 0;
  for (size_t guard = 0; guard < needs->d_size; ++guard) {
    GElf_Verneed need;
    if (!gelf_getverneed(needs, at, &need)) break;
    int aux_at = at + static_cast<int>(need.vn_aux);
    for (uint16_t i = 0; i < need.vn_cnt; ++i) {
      GElf_Vernaux aux;
      if (!gelf_getvernaux(needs, aux_at, &aux)) break;
      const char* name = elf_strptr(elf, strings, aux.vna_name);
      if (name && strncmp(name, "GLIBC_2.", 8) == 0 && older(best, name + 6)) best = name + 6;
      aux_at += static_cast<int>(aux.vna_next);
    }
    if (need.vn_next == 0) break;
    at += static_cast<int>(need.vn_next);
  }
  return best;
}

}  // namespace

void ElfFile::End::operator()(Elf* elf) const {
  elf_end(elf);
}

std::optional<ElfFile> ElfFile::open(int fd) {
  elf_version(EV_CURRENT);  // libelf wants it said first
  Elf* elf = elf_begin(fd, ELF_C_READ, nullptr);
  if (!elf) return std::nullopt;
  ElfFile file(fd, elf);
  GElf_Ehdr header;
  if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header)) return std::nullopt;
  return file;
}

bool ElfFile::is_64_bit() const {
  return gelf_getclass(elf_.get()) == ELFCLASS64;
}

bool ElfFile::is_native() const {
  GElf_Ehdr header;
  return is_64_bit() && gelf_getehdr(elf_.get(), &header) && header.e_machine == kMachine;
}

std::string ElfFile::interpreter() const {
  std::string found;
  each_segment(elf_.get(), [&](const GElf_Phdr& segment) {
    if (segment.p_type != PT_INTERP || !found.empty()) return;
    const std::string text = read_at(fd_, segment.p_offset, std::min<uint64_t>(segment.p_filesz, kMaxInterpreter));
    found = text.c_str();  // up to its NUL
    if (found.empty()) found = "?";
  });
  return found;
}

bool ElfFile::has_section(std::string_view name) const {
  size_t names = 0;
  if (elf_getshdrstrndx(elf_.get(), &names) != 0) return false;
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_.get(), section)) != nullptr;) {
    GElf_Shdr header;
    const char* own = gelf_getshdr(section, &header) ? elf_strptr(elf_.get(), names, header.sh_name) : nullptr;
    if (own && name == own) return true;
  }
  return false;
}

void ElfFile::each_code_piece(size_t overlap, const std::function<void(std::string_view)>& piece) const {
  each_segment(elf_.get(), [&](const GElf_Phdr& segment) {
    if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) return;
    const uint64_t size = std::min<uint64_t>(segment.p_filesz, kMaxCode);
    for (uint64_t at = 0; at < size; at += kCodePiece) {
      const std::string code = read_at(fd_, segment.p_offset + at, std::min(kCodePiece + overlap, size - at));
      if (code.empty()) break;
      piece(code);
    }
  });
}

bool ElfFile::needs_library(std::string_view prefix) const {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_.get(), section)) != nullptr;) {
    GElf_Shdr header;
    if (!gelf_getshdr(section, &header) || header.sh_type != SHT_DYNAMIC) continue;
    Elf_Data* entries = elf_getdata(section, nullptr);
    GElf_Dyn entry;
    for (int i = 0; entries && gelf_getdyn(entries, i, &entry) && entry.d_tag != DT_NULL; ++i) {
      if (entry.d_tag != DT_NEEDED) continue;
      const char* name = elf_strptr(elf_.get(), header.sh_link, entry.d_un.d_val);
      if (name && std::string_view(name).starts_with(prefix)) return true;
    }
  }
  return false;
}

std::string ElfFile::needed_glibc() const {
  for (Elf_Scn* section = nullptr; (section = elf_nextscn(elf_.get(), section)) != nullptr;) {
    GElf_Shdr header;
    if (!gelf_getshdr(section, &header) || header.sh_type != SHT_GNU_verneed) continue;
    Elf_Data* needs = elf_getdata(section, nullptr);
    if (needs) return highest_glibc(elf_.get(), needs, header.sh_link);
  }
  return "";
}

}  // namespace larder::cli
