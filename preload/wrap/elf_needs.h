// What a shared library says of the libraries that it needs: read from its bytes, which are anybody's. 64 bits alone;
// of anything else there is nothing to read.
#pragma once
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

namespace larder {

class ElfNeeds {
 public:
  // The bytes stay the caller's.
  ElfNeeds(const void* bytes, size_t size) : base_(static_cast<const char*>(bytes)), size_(size) { find_dynamic(); }

  // Calls each(name) for the libraries that it needs, in their order.
  template <typename Each>
  void needed(Each each) const {
    for_each(DT_NEEDED, each);
  }

  // Calls each(list) for its lists of folders, separated by colons. `inherited`: those that hold for what its needed
  // libraries need as well, which are none if there is a RUNPATH.
  template <typename Each>
  void folders(bool inherited, Each each) const {
    bool runpath = false;
    for_each(DT_RUNPATH, [&](const char* list) {
      runpath = true;
      if (!inherited) each(list);
    });
    if (!runpath) for_each(DT_RPATH, each);
  }

 private:
  template <typename T>
  const T* at(uint64_t offset, uint64_t count = 1) const {
    const bool inside = offset <= size_ && count <= (size_ - offset) / sizeof(T) && offset % alignof(T) == 0;
    return inside ? reinterpret_cast<const T*>(base_ + offset) : nullptr;
  }

  template <typename Each>
  void for_each(int64_t tag, Each each) const {
    for (uint64_t i = 0; i < dynamic_count_ && dynamic_[i].d_tag != DT_NULL; ++i)
      if (dynamic_[i].d_tag == tag)
        if (const char* text = string(dynamic_[i].d_un.d_val)) each(text);
  }

  const char* string(uint64_t offset) const {
    if (strings_ >= size_ || offset >= size_ - strings_) return nullptr;
    const char* text = base_ + strings_ + offset;
    return memchr(text, 0, size_ - strings_ - offset) != nullptr ? text : nullptr;
  }

  // Where an address of the program lies in the file; size_: nowhere.
  uint64_t offset_of(uint64_t address) const {
    for (uint16_t i = 0; i < segment_count_; ++i) {
      const Elf64_Phdr& s = segments_[i];
      if (s.p_type == PT_LOAD && address >= s.p_vaddr && address - s.p_vaddr < s.p_filesz)
        return s.p_offset + (address - s.p_vaddr);
    }
    return size_;
  }

  void find_dynamic() {
    const auto* header = at<Elf64_Ehdr>(0);
    if (header == nullptr || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) return;
    if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_phentsize != sizeof(Elf64_Phdr)) return;
    segments_ = at<Elf64_Phdr>(header->e_phoff, header->e_phnum);
    if (segments_ == nullptr) return;
    segment_count_ = header->e_phnum;
    for (uint16_t i = 0; i < segment_count_; ++i) {
      const Elf64_Phdr& s = segments_[i];
      if (s.p_type != PT_DYNAMIC) continue;
      dynamic_ = at<Elf64_Dyn>(s.p_offset, s.p_filesz / sizeof(Elf64_Dyn));
      if (dynamic_ != nullptr) dynamic_count_ = s.p_filesz / sizeof(Elf64_Dyn);
    }
    strings_ = size_;
    for (uint64_t i = 0; i < dynamic_count_ && dynamic_[i].d_tag != DT_NULL; ++i)
      if (dynamic_[i].d_tag == DT_STRTAB) strings_ = offset_of(dynamic_[i].d_un.d_ptr);
  }

  const char* base_;
  uint64_t size_;
  const Elf64_Phdr* segments_ = nullptr;
  uint16_t segment_count_ = 0;
  const Elf64_Dyn* dynamic_ = nullptr;
  uint64_t dynamic_count_ = 0;
  uint64_t strings_ = 0;
};

}  // namespace larder
