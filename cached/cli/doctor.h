// `larder doctor [CMD]`: checks everything that a run needs, and says what to do about each problem.
#pragma once
#include <string>
#include <vector>

#include "cached/cli/elf_info.h"

namespace larder::cli {

enum class Verdict { kOk, kWarn, kFail };

struct Finding {
  Verdict verdict;
  std::string what;    // what was checked
  std::string detail;  // what is there
  std::string remedy;  // what to do; empty if nothing
};

// Prints a line a finding. 0 if nothing failed (warnings are allowed), else 1.
int run_doctor(const std::string& command);

// Findings about a command: whether the preload can serve it.
std::vector<Finding> diagnose_command(const std::vector<ProgramInfo>& chain);

std::string render_finding(const Finding& finding);

}  // namespace larder::cli
