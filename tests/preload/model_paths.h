// Random paths for the model test: existing and missing ones, and the same one in many spellings.
#pragma once
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <string>
#include <vector>

namespace model {

// xorshift64*: the same numbers for the same seed everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL + 0x2545f4914f6cdd1dULL) {
    for (int i = 0; i < 4; ++i)
      next();
  }
  uint64_t next() {
    state_ ^= state_ >> 12, state_ ^= state_ << 25, state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dULL;
  }
  unsigned below(unsigned n) { return static_cast<unsigned>((next() >> 33) % n); }
  bool percent(unsigned p) { return below(100) < p; }
  template <typename T, size_t N>
  const T& pick(const T (&from)[N]) {
    return from[below(N)];
  }

 private:
  uint64_t state_;
};

// Text that ends before an unreadable page: reading one byte too many is SIGSEGV.
class AtTheEdge {
 public:
  AtTheEdge() {
    base_ =
        static_cast<char*>(mmap(nullptr, kBytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + kBytes, 4096, PROT_NONE);
  }
  const char* put(const std::string& text) {
    char* at = base_ + kBytes - text.size() - 1;
    memcpy(at, text.c_str(), text.size() + 1);
    return at;
  }

 private:
  static constexpr size_t kBytes = 3 * 4096;
  char* base_;
};

// The tree of make_probe_tree() (tests/harness/trees.py).
struct Node {
  const char* name;
  std::vector<Node> children;  // none: a file
};
inline const Node& tree() {
  static const Node root = [] {
    Node many{"many", {}};
    static std::string names[100];
    for (int i = 0; i < 100; ++i)
      many.children.push_back({(names[i] = "n" + std::to_string(i)).c_str(), {}});
    Node b{"b", {{"deep", {{"leaf", {}}}}}};
    return Node{"", {{"a", {{"one", {}}, {"empty", {}}, {"big", {}}, b}}, {"sp ace", {{"\xc3\xbc%+", {}}}}, many}};
  }();
  return root;
}

// A place to start from. The trail: the folders from the root of the tree down to it (null where there is no such
// thing); empty for the folder that the tree lies in.
struct Base {
  std::string text;  // "" for a relative path
  std::vector<const Node*> trail{&tree()};
};

inline const Node* child(const Node* of, const std::string& name) {
  for (size_t i = 0; of != nullptr && i < of->children.size(); ++i)
    if (name == of->children[i].name) return &of->children[i];
  return nullptr;
}

// The trail of a path below the tree's root ("" or "/a/b"), as getcwd gives it.
inline std::vector<const Node*> trail_of(const std::string& below) {
  std::vector<const Node*> trail{&tree()};
  for (size_t at = 0; at < below.size();) {
    size_t end = std::min(below.find('/', at + 1), below.size());
    trail.push_back(child(trail.back(), below.substr(at + 1, end - at - 1)));
    at = end;
  }
  return trail;
}

// Never goes up to anything outside the tree unless `out` says so, and then only to the folder that it lies in.
inline std::string random_path(Random& r, const Base& base, bool out) {
  static const char* const kWrong[] = {"none", "one", "n7", "a", "..x", ".h", "b", "deep", "...", "x"};
  std::string path = base.text;
  std::vector<const Node*> trail = base.trail;
  auto join = [&](const std::string& name) {
    if (!path.empty()) path += r.percent(4) ? "//" : "/";
    path += name;
  };
  for (unsigned left = r.below(5); left > 0; --left) {
    const Node* here = trail.empty() ? nullptr : trail.back();
    unsigned dice = r.below(100);
    if (dice < 8) {
      join(".");
    } else if (dice < 20) {
      if (trail.size() < (out ? 1 : 2)) continue;
      join("..");
      trail.pop_back();
    } else if (dice < 30 || here == nullptr || here->children.empty()) {
      if (trail.empty()) break;  // what else is out there is no concern of the test
      std::string name = r.percent(2) ? std::string(r.percent(50) ? 255 : 256, 'x') : r.pick(kWrong);
      join(name);
      trail.push_back(child(here, name));
    } else {
      const Node& to = here->children[r.below(static_cast<unsigned>(here->children.size()))];
      join(to.name);
      trail.push_back(&to);
    }
  }
  if (r.percent(1) && r.percent(30) && !trail.empty()) join(std::string(5000, 'y'));
  if (!path.empty() && r.percent(10)) path += r.percent(60) ? "/" : "/.";
  return path;
}

}  // namespace model
