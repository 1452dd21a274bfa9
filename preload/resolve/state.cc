#include "preload/resolve/state.h"

#include <errno.h>
#include <string.h>

#include "larder/names.h"
#include "preload/base/next.h"
#include "preload/base/process_lock.h"
#include "preload/base/sys.h"
#include "preload/resolve/catalog_mapping.h"
#include "preload/resolve/daemon_client.h"
#include "preload/resolve/filters.h"
#include "preload/resolve/greeting.h"
#include "preload/resolve/unserved.h"

extern "C" {
extern char** environ;
int __register_atfork(void (*)(), void (*)(), void (*)(), void*);
extern void* __dso_handle __attribute__((visibility("hidden")));
}

namespace larder {

constinit Process process;

namespace {

constexpr int64_t kGraceMs = 1'000;
constexpr int kExactAttempts = 10;  // about as many milliseconds; larderd's own greeting fits at the first or second

constinit State states[kStates] = {};
constinit Range inode_range;
constinit uint64_t inode_table_id = 0;
constinit uint64_t instance = 0;
constinit std::atomic<int> build_lock{0};       // ProcessLock: of whoever builds a State
constinit std::atomic<int64_t> retry_at_ms{0};  // after a greeting that failed
constinit std::atomic<int> greeting_error{0};   // of the last greeting; 0: it was answered
constinit const void* presence = nullptr;
constinit Control no_control{};  // generation 0, as an unserved State's: it moves when there is a real one

// ---- states ---------------------------------------------------------------------------------------------------------

void release_state(State* s) {
  for (uint32_t i = 0; i < s->mount_count; ++i)
    drop_view(s->mounts[i].view);
  drop_view(s->ns);
  s->mount_count = 0;
  s->ns = nullptr;
  s->generation = 0;
  s->unserved = false;
}

// Empties the States that nobody can be reading any more, and returns one of them. Null: refreshes come too quickly.
State* take_state() {
  State* free = nullptr;
  for (State& s : states) {
    if (&s == process.current.load()) continue;
    if (s.retired_ms != 0) {
      if (s.retired_ms + kGraceMs > sys::now_ms()) continue;
      s.stamp.fetch_add(2, std::memory_order_acq_rel);
      release_state(&s);
      s.retired_ms = 0;
    }
    free = &s;
  }
  empty_unused_views();
  return free;
}

// ---- building -------------------------------------------------------------------------------------------------------

const Control* map_control(int root) {
  sys::Fd fd(sys::openat(root, kControlFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat st;
  if (fd.get() < 0 || sys::fstat(fd.get(), &st) != 0 || st.st_size < static_cast<long>(sizeof(Control))) return nullptr;
  auto* c = static_cast<const Control*>(sys::mmap(nullptr, pages(sizeof(Control)), PROT_READ, MAP_SHARED, fd.get(), 0));
  if (c == nullptr) return nullptr;
  if (c->magic == kControlMagic && c->format == kControlFormat && c->bytes == sizeof(Control)) return c;
  sys::munmap(const_cast<Control*>(c), pages(sizeof(Control)));
  return nullptr;
}

void map_presence(int root) {
  sys::Fd fd(sys::openat(root, kPresenceFile, O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (fd.get() < 0) return;
  const void* page = sys::mmap(nullptr, kPage, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (page == nullptr) return;
  if (presence != nullptr) sys::munmap(const_cast<void*>(presence), kPage);
  presence = page;
}

void map_inodes(int root, State* s, uint64_t id) {
  if (id != inode_table_id) {
    sys::Fd fd(open_in(root, inode_table_name(id)));
    if (fd.get() < 0) return;
    Range range;  // never over the old one: its readers take no stamp
    uint64_t bytes = map_over(&range, fd.get(), PROT_READ);
    auto* t = static_cast<const InodeTable*>(range.base);
    if (bytes < sizeof(InodeTable) || t->magic != kInodeTableMagic || t->slot_count == 0 ||
        (t->slot_count & (t->slot_count - 1)) != 0 || bytes < inode_table_bytes(t->slot_count)) {
      return;
    }
    inode_range = range;
    inode_table_id = id;
  }
  s->inodes = static_cast<const InodeTable*>(inode_range.base);
  s->inode_mask = s->inodes->slot_count - 1;
}

// The mount points and the folders above them that exist in this process's view of the file system.
void find_ancestors(State* s) {
  s->ancestor_count = s->covered_count = 0;
  if (s->ns == nullptr) return;
  const Catalog& c = s->ns->catalog;
  for (uint32_t i = 0; i < c.entry_count && s->ancestor_count < kMaxMounts * 2; ++i) {
    char path[kMaxMountPath + 2];
    path[0] = '/';
    long n = c.path_of(i, path + 1, kMaxMountPath);
    if (n < 0) continue;
    path[1 + n] = 0;
    struct stat st;
    if (sys::fstatat(AT_FDCWD, path, &st, 0) != 0 || !S_ISDIR(st.st_mode)) continue;
    s->ancestors[s->ancestor_count++] = {st.st_dev, st.st_ino, i};
    s->covered_count += c.entries[i].type == EntryType::kMount;
  }
}

Head head_of(const StateMount& m) {
  Head h;
  size_t n = m.path_len < sizeof(h.bytes) ? m.path_len : sizeof(h.bytes);
  memcpy(&h.bytes, m.path, n);
  memset(&h.mask, 0xff, n);
  return h;
}

// What all the mounts' heads have in common, byte by byte from the start.
Head common_head(const State* s) {
  if (s->mount_count == 0) return {1, ~0ULL};  // a path that begins with 1 and NUL
  Head h = head_of(s->mounts[0]);
  for (uint32_t i = 1; i < s->mount_count; ++i) {
    Head other = head_of(s->mounts[i]);
    h.mask &= other.mask;
    while (!h.matches(other.bytes))
      h.mask >>= 8;  // the lowest byte is the first one
  }
  return h;
}

// Copies the mounts out of control under its seqlock. False if control moved meanwhile or is being written.
bool copy_mounts(const Control* c, State* s, uint64_t* ns_version, uint64_t versions[], uint64_t* inodes) {
  uint64_t before = c->generation.load(std::memory_order_acquire);
  if (before & 1) return false;
  uint32_t n = c->mount_count;
  if (n > kMaxMounts) return false;
  for (uint32_t i = 0; i < n; ++i) {
    const ControlMount& from = c->mounts[i];
    StateMount& to = s->mounts[i];
    to.view = nullptr;
    to.dataset_id = from.dataset_id;
    to.dev = dataset_dev(from.dataset_id);
    to.total_bytes = from.total_bytes;
    to.file_count = from.file_count;
    to.fallback = from.fallback;
    to.path_len = from.path_len <= kMaxMountPath ? from.path_len : 0;
    memcpy(to.path, from.path, sizeof(to.path));
    versions[i] = from.version;
  }
  *ns_version = c->namespace_version;
  *inodes = c->inode_table;
  s->wait_ms = c->wait_ms;
  s->uid = c->uid;
  s->gid = c->gid;
  s->cache_dev = c->cache_dev;
  s->chunks_dev = c->chunks_dev;
  std::atomic_thread_fence(std::memory_order_acquire);
  if (c->generation.load(std::memory_order_relaxed) != before) return false;
  s->generation = before;
  s->mount_count = n;
  s->head = common_head(s);
  return true;
}

// Fills a State from control and the greeting's descriptors. False: something moved, try again.
bool fill_state(State* s, const Control* control, const Greeting& g) {
  uint64_t versions[kMaxMounts];
  uint64_t ns_version, inodes;
  s->mount_count = 0;
  s->ns = nullptr;
  if (!copy_mounts(control, s, &ns_version, versions, &inodes)) return false;
  const bool exact = g.generation == s->generation;  // then the touch files are in the order of control's mounts
  if (!exact && g.generation != 0) return false;
  uint32_t mounts = s->mount_count;
  for (s->mount_count = 0; s->mount_count < mounts; ++s->mount_count) {
    uint32_t i = s->mount_count;
    int touch = exact && static_cast<int>(i) + 2 < g.count ? g.fds[i + 2] : -1;
    StateMount& m = s->mounts[i];
    bool shortage;
    m.view = use_view(g.root, m.dataset_id, versions[i], touch, &shortage);
    if (shortage) return greeting_error.store(EMFILE, std::memory_order_relaxed), false;
    // A dataset that this user may not read keeps its mount point, and everything in it is EACCES (view stays null).
    if (m.view == nullptr && control->generation.load() != s->generation) return false;
  }
  map_inodes(g.root, s, inodes);
  if (s->inodes == nullptr) return false;
  if (ns_version != 0) {
    bool shortage;
    s->ns = use_view(g.root, 0, ns_version, -1, &shortage);
    if (shortage) greeting_error.store(EMFILE, std::memory_order_relaxed);
    if (s->ns == nullptr) return false;
  }
  find_ancestors(s);
  return true;
}

// Keeps the descriptor we have if it still is the cache directory. If the program put something else there, it stays.
void adopt_fds(const Greeting& g) {
  struct stat st;
  if (sys::fstat(g.root, &st) == 0) {
    process.root_dev.store(st.st_dev, std::memory_order_relaxed);
    process.root_inode.store(st.st_ino, std::memory_order_relaxed);
  }
  if (!is_cache_root(process.root_fd.load())) {
    const int parked = park(g.root);
    if (parked >= 0) process.root_fd.store(parked, std::memory_order_release);
  }
  if (process.stat_slots.load() == nullptr && g.count >= 2) {
    void* p = sys::mmap(nullptr, kStatSlots * sizeof(StatSlot), PROT_READ | PROT_WRITE, MAP_SHARED, g.fds[1], 0);
    process.stat_slots.store(static_cast<StatSlot*>(p), std::memory_order_release);
  }
}

// Maps control if it is another one than the one we have (the cache directory was made anew). The old page stays
// mapped.
const Control* newest_control(int root) {
  const Control* have = process.control.load();
  const Control* fresh = map_control(root);
  if (fresh == nullptr || have == nullptr || fresh->instance != instance) return fresh;
  sys::munmap(const_cast<Control*>(fresh), pages(sizeof(Control)));
  return have;
}

// Fills `s` and makes it ready to be published. False: something moved meanwhile.
bool build_from(State* s, const Control* control, const Greeting& g) {
  if (control->instance != instance) inode_table_id = 0;
  s->stamp.fetch_add(1, std::memory_order_acq_rel);
  bool good = fill_state(s, control, g);
  if (good) {
    adopt_fds(g);
    if (control->instance != instance) map_presence(g.root);
    instance = control->instance;
    process.control.store(control, std::memory_order_release);
  } else {
    release_state(s);
  }
  s->stamp.fetch_add(1, std::memory_order_release);
  return good;
}

// `exact`: of the greeting's generation. The keeper's may be older than control for as long as larderd starts.
State* build_once(bool exact, bool* again) {
  *again = false;
  State* s = take_state();
  Greeting g;
  if (s == nullptr) return nullptr;
  const int error = greet(&g);
  greeting_error.store(error, std::memory_order_relaxed);
  if (error != 0) return nullptr;
  if (!exact) g.generation = 0;
  const Control* control = newest_control(g.root);
  bool good = control != nullptr && build_from(s, control, g);
  *again = control != nullptr && !good;
  close_greeting(&g);
  return good ? s : nullptr;
}

State* build_state() {
  for (int attempt = 0; attempt < 50; ++attempt) {
    bool again;
    if (State* s = build_once(attempt < kExactAttempts, &again)) return s;
    if (!again) return nullptr;
    sys::sleep_ms(1 + attempt / 10);
  }
  return nullptr;
}

// Nobody answers. A State of the mounts that the mounts file names; null if there is none.
State* build_unserved() {
  const Control* file = read_mounts_file();
  State* s = file != nullptr && file->mount_count > 0 ? take_state() : nullptr;
  if (s == nullptr) return nullptr;
  uint64_t versions[kMaxMounts], ns_version, inodes;
  s->stamp.fetch_add(1, std::memory_order_acq_rel);
  s->mount_count = 0;
  s->ns = nullptr;
  const bool good = copy_mounts(file, s, &ns_version, versions, &inodes);
  s->generation = 0;
  s->cache_dev = 0;
  s->inodes = nullptr;
  s->ancestor_count = s->covered_count = 0;
  s->unserved = true;
  if (good)
    process.control.store(&no_control, std::memory_order_release);
  else
    release_state(s);
  s->stamp.fetch_add(1, std::memory_order_release);
  return good ? s : nullptr;
}

void child_after_fork() {
  process.pid.store(sys::getpid(), std::memory_order_relaxed);
  build_lock.store(0, std::memory_order_relaxed);
}

const char* variable(const char* name) {
  if (environ == nullptr) return nullptr;
  size_t n = strlen(name);
  for (char** e = environ; *e != nullptr; ++e) {
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
  }
  return nullptr;
}

}  // namespace

void start_process() {
  inherit_filters(variable("LARDER_FORBIDDEN"));
  configure_socket(variable("LARDER_SOCKET"), variable("XDG_RUNTIME_DIR"));
  const char* mappings = variable("LARDER_MAPPINGS");
  process.whole_mappings = mappings != nullptr && strcmp(mappings, "whole") == 0;
  configure_notices(variable("LARDER_QUIET") != nullptr);
  resolve_next();
  __register_atfork(nullptr, nullptr, child_after_fork, &__dso_handle);
  process.pid.store(sys::getpid(), std::memory_order_release);
}

bool own_process() {
  return sys::getpid() == process.pid.load(std::memory_order_relaxed);
}

namespace {

State* refresh_state(State* seen) {
  if (process.pid.load(std::memory_order_acquire) == 0 || !own_process()) return seen;
  ProcessLock lock(build_lock);
  State* now = process.current.load();
  const Control* control = process.control.load();
  if (now != nullptr && !now->unserved && control->generation.load() == now->generation)
    return now;  // another thread did it
  const int64_t began = sys::now_ms();
  if (began < retry_at_ms.load(std::memory_order_relaxed)) return now;
  State* built = build_state();
  process.tried.store(true, std::memory_order_release);
  if (built == nullptr) {  // a daemon that hangs may take a tenth of the program's time, not all of it
    const int64_t spent = sys::now_ms() - began;
    const bool served = now != nullptr && !now->unserved;
    retry_at_ms.store(began + spent + 10 * spent + (served ? 20 : 1000), std::memory_order_relaxed);
    if (now != nullptr || (built = build_unserved()) == nullptr) {
      const int error = greeting_error.load(std::memory_order_relaxed);
      if (now == nullptr && socket_is_given() && (error == ENOENT || error == ECONNREFUSED))
        give_notice(Notice::kNobodyAtSocket, nullptr);
      return now;
    }
  }
  if (now != nullptr) now->retired_ms = sys::now_ms();
  process.cwd.store(static_cast<int>(CwdClass::kUnknown), std::memory_order_relaxed);
  process.current.store(built, std::memory_order_release);
  return built;
}

}  // namespace

State* moved_state() {
  State* s = process.current.load(std::memory_order_acquire);
  return s == nullptr && process.tried.load(std::memory_order_relaxed) ? nullptr : refresh_state(s);
}

bool attach_late() {
  if (process.pid.load(std::memory_order_acquire) == 0) return false;
  if (sys::now_ms() < retry_at_ms.load(std::memory_order_relaxed)) return false;
  return refresh_state(nullptr) != nullptr;
}

int await_daemon(uint32_t wait_ms, Fallback fallback, const char* path) {
  const int64_t deadline = sys::now_ms() + (fallback == Fallback::kWait ? wait_ms : 0);
  for (int pause_ms = 10;; pause_ms = pause_ms < 200 ? pause_ms * 2 : pause_ms) {
    retry_at_ms.store(0, std::memory_order_relaxed);
    const State* s = refresh_state(process.current.load(std::memory_order_acquire));
    if (s != nullptr && !s->unserved) return 0;
    const int error = greeting_error.load(std::memory_order_relaxed);
    if (error == EMFILE || error == ENFILE) return error;
    if (error == EPERM) return error;  // a filter forbids to ask (filters.h): time changes nothing
    if (sys::now_ms() + pause_ms > deadline) break;
    sys::sleep_ms(pause_ms);
  }
  give_notice(Notice::kNobodyForPath, path);
  return EIO;
}

void note_answer() {
  const auto lost = [] {
    const uint64_t answered = answered_instance.load(std::memory_order_relaxed);
    const Control* c = process.control.load(std::memory_order_acquire);
    return answered != 0 && c != nullptr && c != &no_control && c->instance != answered;
  };
  if (!lost() || !own_process()) return;
  ProcessLock lock(build_lock);
  if (!lost()) return;
  process.control.store(&no_control, std::memory_order_release);
  instance = 0;
  retry_at_ms.store(0, std::memory_order_relaxed);
}

int error_of_missing(int error) {
  const int greeting = greeting_error.load(std::memory_order_relaxed);
  const bool unknown = process.current.load(std::memory_order_relaxed) == nullptr;
  if (!unknown || (greeting != EMFILE && greeting != ENFILE)) return error;
  struct stat st;
  const bool expected = socket_is_given() || sys::fstatat(AT_FDCWD, kDefaultSocket, &st, 0) == 0;
  return expected ? greeting : error;
}

bool is_cache_root(int fd) {
  struct stat st;
  return fd >= 0 && sys::fstat(fd, &st) == 0 && st.st_ino == process.root_inode.load(std::memory_order_relaxed) &&
         st.st_dev == process.root_dev.load(std::memory_order_relaxed);
}

void reopen_root(int lost_fd) {
  if (!own_process()) return;
  ProcessLock lock(build_lock);
  const int have = process.root_fd.load();
  if (have != lost_fd || is_cache_root(have)) return;  // another thread did it
  Greeting g;
  if (greet(&g) != 0) return;
  adopt_fds(g);
  close_greeting(&g);
}

}  // namespace larder
