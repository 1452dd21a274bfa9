// What the command line wants to know of an ELF file, read with libelf. Every number in a file is untrusted; what a
// broken file does not tell is empty. An ElfFile borrows its descriptor and is for one thread.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

struct Elf;

namespace larder::cli {

class ElfFile {
 public:
  // Nothing if the descriptor's file is no ELF file.
  static std::optional<ElfFile> open(int fd);

  bool is_64_bit() const;
  // 64 bits, for the architecture that this program runs on.
  bool is_native() const;
  // The program that loads it (PT_INTERP), "?" if that cannot be read; empty: there is none, it is static.
  std::string interpreter() const;
  bool has_section(std::string_view name) const;
  // True if it is linked to a library whose name begins so ("libseccomp.so").
  bool needs_library(std::string_view prefix) const;
  // Hands out the executable segments in pieces that overlap by `overlap` bytes.
  void each_code_piece(size_t overlap, const std::function<void(std::string_view)>& piece) const;
  // Highest GLIBC_2.y that its version needs name, as "2.y"; empty: none.
  std::string needed_glibc() const;

 private:
  struct End {
    void operator()(Elf* elf) const;
  };
  ElfFile(int fd, Elf* elf) : fd_(fd), elf_(elf) {}

  int fd_;
  std::unique_ptr<Elf, End> elf_;
};

}  // namespace larder::cli
