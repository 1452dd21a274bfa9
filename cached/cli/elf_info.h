// What kind of program a file is, as far as it decides whether a preloaded library can serve it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder::cli {

enum class ProgramKind {
  kDynamic,  // an ELF program with an interpreter: LD_PRELOAD works
  kStatic,   // an ELF program without one: it passes by
  kScript,   // "#!": its interpreter decides
  kUnknown,  // neither: the kernel refuses it, a shell may read it
};

struct ProgramInfo {
  std::string path;
  ProgramKind kind = ProgramKind::kUnknown;
  std::string interpreter;             // ELF: PT_INTERP; script: the first word after "#!"
  std::string script_program;          // script: the program that reads it ("/usr/bin/env python3" gives python3)
  bool go = false;                     // made by Go's compiler: it calls the kernel without libc
  bool musl = false;                   // its interpreter is musl's: another libc than the library's
  bool other_machine = false;          // another architecture or word size than this program's
  std::vector<std::string> raw_calls;  // calls about paths that its own code makes without libc (raw_calls.h)
  bool filters = false;                // linked to libseccomp: it may filter its own calls
  bool secure = false;                 // set-user-ID, set-group-ID or file capabilities: the loader drops LD_PRELOAD
};

// Reads the file's headers. Every number in it is untrusted. ENOENT, EACCES, ... if it cannot be read.
Result<ProgramInfo> inspect_file(const std::string& path);

// Finds `command` as execvp does (PATH unless it has a slash). ENOENT or EACCES.
Result<std::string> find_command(std::string_view command);

// The chain of a command: itself, then what reads it if it is a script, and so on (at most 5, as the kernel allows).
Result<std::vector<ProgramInfo>> inspect_command(std::string_view command);

// What of a dynamic program's own calls passes by, or "": said beside why_not_served(), for the rest of it is served.
std::string what_passes_by(const std::vector<ProgramInfo>& chain);

// Why the preload cannot serve the last program of a chain, or "" if it can.
std::string why_not_served(const std::vector<ProgramInfo>& chain);

// Highest GLIBC_x.y that a library needs ("2.17"), or "" if it names none; from its .gnu.version_r.
Result<std::string> needed_glibc(const std::string& path);

}  // namespace larder::cli
