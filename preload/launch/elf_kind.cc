#include "preload/launch/elf_kind.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace larder {
namespace {

constexpr size_t kHeaderBytes = 4096;  // the program headers of real programs end far before

// The interpreter's name if it lies in the headers that were read; "" if there is an interpreter elsewhere.
ElfKind kind_of_headers(const char* bytes, size_t size) {
  Elf64_Ehdr header;
  if (size < sizeof header) return ElfKind::kOther;
  memcpy(&header, bytes, sizeof header);
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return ElfKind::kOther;
  bool has_interpreter = false;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    if (header.e_phoff > size || i * sizeof segment + sizeof segment > size - header.e_phoff) return ElfKind::kOther;
    memcpy(&segment, bytes + header.e_phoff + i * sizeof segment, sizeof segment);
    if (segment.p_type != PT_INTERP) continue;
    has_interpreter = true;
    if (segment.p_offset > size || segment.p_filesz > size - segment.p_offset) continue;
    if (memmem(bytes + segment.p_offset, segment.p_filesz, "ld-musl", 7) != nullptr) return ElfKind::kMusl;
  }
  return has_interpreter ? ElfKind::kOther : ElfKind::kStatic;
}

ElfKind kind_of_file(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ElfKind::kOther;
  char bytes[kHeaderBytes];
  const ssize_t n = read(fd, bytes, sizeof bytes);
  close(fd);
  return n > 0 ? kind_of_headers(bytes, static_cast<size_t>(n)) : ElfKind::kOther;
}

}  // namespace

ElfKind kind_of_command(const char* name) {
  if (strchr(name, '/') != nullptr) return kind_of_file(name);
  const char* folders = getenv("PATH");
  if (folders == nullptr) folders = "/bin:/usr/bin";
  char path[4096];
  while (true) {
    const size_t length = strcspn(folders, ":");
    if (length + 1 + strlen(name) < sizeof path) {
      memcpy(path, folders, length);
      size_t end = length;
      if (length > 0) path[end++] = '/';
      strcpy(path + end, name);
      if (access(path, X_OK) == 0) return kind_of_file(path);
    }
    if (folders[length] == 0) return ElfKind::kOther;
    folders += length + 1;
  }
}

}  // namespace larder
