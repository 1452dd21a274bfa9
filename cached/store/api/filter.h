// Selects the keys that a listing shows or a sync looks at by ordered rules: the first rule that matches decides; a key
// that none matches is included.
//
// A pattern is written as in gitignore:
//   *        any run of bytes but '/'          **      any run of bytes ("**/": any number of folders, or none)
//   ?        one character but '/'             [a-z]   one of a class; [!a-z] one that is not in it
//   \x       x itself
//   a/b      with a '/' at the front or inside: from the root of the transfer;  a   without: a name at any depth
//   a/       folders only
// A pattern that matches a folder matches everything below it. Threads: const members from any thread.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

// Matches the whole of `text`; a '/' at either end of the pattern has no special meaning here.
bool glob_match(std::string_view glob, std::string_view text);

class Filter {
 public:
  // EINVAL: a pattern that could never match: it is empty, or has a class without an end.
  Status add(bool include, std::string_view pattern);
  bool includes(std::string_view key) const;
  // Is everything below this folder (no slash at its end) excluded?
  bool excludes_folder(std::string_view folder) const;
  bool empty() const { return rules_.empty(); }

 private:
  struct Rule {
    bool include = true;
    bool from_root = false;
    bool folders_only = false;
    std::string glob;
    bool matches(std::string_view key) const;
    bool matches_part(std::string_view path, bool folder) const;
  };
  std::vector<Rule> rules_;
};

// Excludes what the patterns match, which are separated by blanks ("\ " is a blank within a pattern).
Result<Filter> exclude_filter(std::string_view patterns);

}  // namespace larder
