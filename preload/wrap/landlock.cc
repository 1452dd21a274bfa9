#include "preload/wrap/landlock.h"

#include <errno.h>
#include <string.h>

#include "larder/names.h"
#include "preload/base/sys.h"
#include "preload/resolve/fd_paths.h"

#ifndef SYS_landlock_add_rule
#define SYS_landlock_add_rule 445
#endif

namespace larder {
namespace {

constexpr int kPathBeneath = 1;
constexpr uint64_t kReadFile = 1 << 2, kReadFolder = 1 << 3;

// struct landlock_path_beneath_attr, which is packed.
struct __attribute__((packed)) PathBeneath {
  uint64_t allowed;
  int32_t parent;
};

class Rules {
 public:
  Rules(int ruleset, uint64_t allowed) : ruleset_(ruleset), allowed_(allowed) {}

  void allow(const CacheName& name, uint64_t access) {
    const uint64_t wanted = allowed_ & access;
    const int root = process.root_fd.load(std::memory_order_acquire);
    if (wanted == 0 || !is_cache_root(root)) return;
    sys::Fd fd(sys::openat(root, name.c_str(), O_PATH | O_CLOEXEC | O_NOFOLLOW));
    const PathBeneath rule = {wanted, fd.get()};
    if (fd.get() >= 0) sys::call(SYS_landlock_add_rule, ruleset_, kPathBeneath, sys::arg(&rule), 0);
  }

  void allow_dataset(uint64_t id) {
    if (any_++ == 0) allow_attaching();
    allow(dataset_path(id), kReadFile | kReadFolder);
  }

 private:
  // What a program that is started under the rules needs before it knows the mounts.
  void allow_attaching() {
    const Control* control = process.control.load(std::memory_order_acquire);
    if (control == nullptr) return;
    allow(CacheName().add(kControlFile), kReadFile);
    allow(CacheName().add(kPresenceFile), kReadFile);
    allow(inode_table_name(control->inode_table), kReadFile);
    allow(dataset_path(0), kReadFile | kReadFolder);
  }

  int ruleset_;
  uint64_t allowed_;
  int any_ = 0;
};

// The datasets that are mounted at a folder or below it.
void allow_below(const char* folder, size_t n, Rules* rules) {
  for (;;) {
    Session session;
    if (!enter(&session)) return;
    uint64_t ids[kMaxMounts];
    uint32_t count = 0;
    for (uint32_t i = 0; i < session.state->mount_count; ++i) {
      const StateMount& m = session.state->mounts[i];
      if (m.path_len < n || memcmp(m.path, folder, n) != 0 || (m.path_len > n && m.path[n] != '/')) continue;
      ids[count++] = m.dataset_id;
    }
    if (!left_intact(session)) continue;
    for (uint32_t i = 0; i < count; ++i)
      rules->allow_dataset(ids[i]);
    return;
  }
}

void allow_what_lies_at(int parent, Rules* rules) {
  struct stat st;
  if (current_state() == nullptr || sys::fstat(parent, &st) != 0) return;
  const Identity id = identify(st);
  if (id.kind == Kind::kDirectory || id.lazy) return rules->allow_dataset(id.dataset_id);
  char path[PATH_MAX];
  const long n = id.kind == Kind::kAbove  ? directory_path(id, path)
                 : id.kind == Kind::kNone ? ancestor_path(st, path)
                                          : -1;
  if (n >= 0) allow_below(path, static_cast<size_t>(n), rules);
}

}  // namespace

long call_landlock_add_rule(int ruleset, int type, const void* attributes, uint32_t flags) {
  const long r =
      libc_result(sys::call(SYS_landlock_add_rule, ruleset, type, sys::arg(attributes), static_cast<long>(flags)));
  if (r != 0 || type != kPathBeneath || attributes == nullptr) return r;
  PathBeneath rule;
  memcpy(&rule, attributes, sizeof(rule));
  Rules rules(ruleset, rule.allowed);
  const int error = errno;
  allow_what_lies_at(rule.parent, &rules);
  errno = error;
  return r;
}

}  // namespace larder
