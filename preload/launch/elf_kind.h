// Whether a command is a program that liblarder.so can serve, as far as its ELF header tells.
#pragma once

namespace larder {

enum class ElfKind {
  kOther,   // dynamic, a script, or nothing that can be told
  kStatic,  // no interpreter: LD_PRELOAD means nothing to it
  kMusl,    // its interpreter is musl's, which cannot load a glibc library
};

// Looks `name` up as execvp(3) does and reads the headers of what it finds: at most 4 KiB of the file. Keeps no
// descriptor. A command that cannot be read is kOther: exec tells what is wrong with it.
ElfKind kind_of_command(const char* name);

}  // namespace larder
