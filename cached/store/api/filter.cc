#include "cached/store/api/filter.h"

#include <fmt/format.h>

namespace larder {
namespace {

constexpr size_t kNone = std::string_view::npos;

// The bytes of the character at `at`: in UTF-8 text, '?' and classes match characters, not bytes.
size_t character(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  const size_t length = lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  return std::min(length, text.size() - at);
}

// One end of a range in a class: a character, perhaps escaped. Moves `at` behind it.
std::string_view class_item(std::string_view glob, size_t& at) {
  if (glob[at] == '\\' && at + 1 < glob.size()) ++at;
  const size_t length = character(glob, at);
  at += length;
  return glob.substr(at - length, length);
}

// The class that begins at glob[at] == '['; `end` is behind its ']'. UTF-8 sorts as its characters do.
bool class_match(std::string_view glob, size_t at, std::string_view one, size_t& end) {
  size_t i = at + 1;
  const bool negated = i < glob.size() && (glob[i] == '!' || glob[i] == '^');
  if (negated) ++i;
  bool found = false;
  for (bool first = true; i < glob.size() && (first || glob[i] != ']'); first = false) {
    const std::string_view low = class_item(glob, i);
    std::string_view high = low;
    if (i + 1 < glob.size() && glob[i] == '-' && glob[i + 1] != ']') {
      ++i;
      high = class_item(glob, i);
    }
    if (low <= one && one <= high) found = true;
  }
  end = i + 1;
  return found != negated;
}

size_t class_end(std::string_view glob, size_t at) {
  size_t end = 0;
  class_match(glob, at, "", end);
  return end > glob.size() ? kNone : end;
}

// Where a failed match continues: behind the last '*', which takes one byte more but never a '/'; else behind the last
// "**", which may take it. Earlier ones are never needed, so the time is bounded by text x glob.
struct Retry {
  size_t text = kNone, glob = kNone;
  bool whole_folders = false;  // "**/"
};

class Matcher {
 public:
  Matcher(std::string_view glob, std::string_view text) : glob_(glob), text_(text) {}

  bool run() {
    while (i_ < text_.size()) {
      if (j_ < glob_.size() && glob_[j_] == '*') {
        if (stars()) return true;
      } else if (!(j_ < glob_.size() && take_one()) && !go_back()) {
        return false;
      }
    }
    while (j_ < glob_.size() && glob_[j_] == '*')
      ++j_;
    return j_ == glob_.size();
  }

 private:
  // True if the rest matches any text.
  bool stars() {
    ++j_;
    if (j_ == glob_.size() || glob_[j_] != '*') {
      star_ = {i_, j_, false};
      return false;
    }
    while (j_ < glob_.size() && glob_[j_] == '*')
      ++j_;
    if (j_ == glob_.size()) return true;
    const bool at_boundary = i_ == 0 || text_[i_ - 1] == '/';
    const bool folders = glob_[j_] == '/' && at_boundary;
    if (folders) ++j_;
    star_ = {};
    globstar_ = {i_, j_, folders};
    return false;
  }

  bool take_one() {
    const size_t length = character(text_, i_);
    switch (glob_[j_]) {
      case '?':
        if (text_[i_] == '/') return false;
        i_ += length;
        ++j_;
        return true;
      case '[': {
        size_t end = 0;
        if (text_[i_] == '/' || !class_match(glob_, j_, text_.substr(i_, length), end)) return false;
        i_ += length;
        j_ = end;
        return true;
      }
      default: {
        const size_t at = glob_[j_] == '\\' && j_ + 1 < glob_.size() ? j_ + 1 : j_;
        if (glob_[at] != text_[i_]) return false;
        ++i_;
        j_ = at + 1;
        return true;
      }
    }
  }

  bool go_back() {
    if (star_.glob != kNone && text_[star_.text] != '/') {
      i_ = ++star_.text;
      j_ = star_.glob;
      return true;
    }
    if (globstar_.glob == kNone) return false;
    star_ = {};
    if (globstar_.whole_folders) {
      const size_t slash = text_.find('/', globstar_.text);
      if (slash == kNone) return false;
      globstar_.text = slash;
    }
    i_ = ++globstar_.text;
    j_ = globstar_.glob;
    return true;
  }

  const std::string_view glob_, text_;
  size_t i_ = 0, j_ = 0;
  Retry star_, globstar_;
};

Error bad_pattern(std::string_view pattern, std::string_view why) {
  return make_error(EINVAL, fmt::format("pattern '{}' {}", pattern, why));
}

}  // namespace

bool glob_match(std::string_view glob, std::string_view text) {
  return Matcher(glob, text).run();
}

Status Filter::add(bool include, std::string_view pattern) {
  Rule rule;
  rule.include = include;
  std::string_view glob = pattern;
  if (glob.ends_with('/') && !glob.ends_with("\\/")) {
    rule.folders_only = true;
    glob.remove_suffix(1);
  }
  rule.from_root = glob.find('/') != kNone;
  if (glob.starts_with('/')) glob.remove_prefix(1);
  if (glob.empty()) return bad_pattern(pattern, "is empty and matches nothing");
  for (size_t i = 0; i < glob.size(); ++i) {
    if (glob[i] == '\\') {
      ++i;
    } else if (glob[i] == '[') {
      const size_t end = class_end(glob, i);
      if (end == kNone) return bad_pattern(pattern, "has a '[' without a ']': write \\[ for the character itself");
      i = end - 1;
    }
  }
  rule.glob = glob;
  rules_.push_back(std::move(rule));
  return {};
}

bool Filter::includes(std::string_view key) const {
  for (auto& rule : rules_) {
    if (rule.matches(key)) return rule.include;
  }
  return true;
}

bool Filter::excludes_folder(std::string_view folder) const {
  const std::string below = std::string(folder) + "/";
  for (auto& rule : rules_) {
    if (rule.include) return false;  // it may include something below
    if (rule.matches(below)) return true;
  }
  return false;
}

Result<Filter> exclude_filter(std::string_view patterns) {
  Filter out;
  std::string pattern;
  for (size_t i = 0; i <= patterns.size(); ++i) {
    const bool escaped = i + 1 < patterns.size() && patterns[i] == '\\';
    if (i < patterns.size() && patterns[i] != ' ') {
      pattern.push_back(patterns[i]);
      if (escaped) pattern.push_back(patterns[++i]);
      continue;
    }
    if (pattern.empty()) continue;
    if (auto status = out.add(false, std::exchange(pattern, {})); !status.ok()) return status.error();
  }
  return out;
}

// The key itself, or any folder that it lies in.
bool Filter::Rule::matches(std::string_view key) const {
  for (size_t slash = key.find('/'); slash != kNone; slash = key.find('/', slash + 1)) {
    if (matches_part(key.substr(0, slash), true)) return true;
  }
  return !key.ends_with('/') && matches_part(key, false);
}

bool Filter::Rule::matches_part(std::string_view path, bool folder) const {
  if (folders_only && !folder) return false;
  return glob_match(glob, from_root ? path : path.substr(path.rfind('/') + 1));
}

}  // namespace larder
