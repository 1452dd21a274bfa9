#include "cached/home/open_home.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "cached/base/log.h"
#include "cached/home/memory.h"

namespace larder {

// The smallest object takes a page, and no more inodes than pages are wanted.
static constexpr uint64_t kBytesAnInode = 4096;

static Result<Home> folder_home(const Config& c, std::string why) {
  const mode_t mode = c.is_private ? 0700 : 0755;
  Result<Home> home = c.cache_dir_readonly.empty() ? Home::folder(c.cache_dir, mode)
                                                   : Home::folder(c.cache_dir, mode, c.cache_dir_readonly);
  if (home) home->set_reason(std::move(why));
  return home;
}

// cache_size bounds what lies in it; the file systems may be as large as the memory.
static Result<Home> new_home() {
  const uint64_t bytes = memory().total;
  Result<Home> home = bytes == UINT64_MAX ? Home::own(0, 0) : Home::own(bytes, bytes / kBytesAnInode);
  if (home)
    home->set_reason(home->unlocked() ? "made at start; the kernel refused the lock of what programs get"
                                      : "made at start");
  return home;
}

// What a former daemon had kept is not wanted any more: its memory is to come free.
static void forget_kept(StoredDescriptors& stored) {
  const bool kept = stored.take(kHomeDescriptor).valid() || stored.take(kViewDescriptor).valid();
  for (const char* name : {kHomeDescriptor, kViewDescriptor})
    if (kept) (void)remove_stored(name);
}

// It is of no use after the home is made, and of much to whoever might take larderd over.
static void give_up_mounting() {
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return;
  constexpr uint32_t bit = CAP_TO_MASK(CAP_SYS_ADMIN);
  if ((data[CAP_TO_INDEX(CAP_SYS_ADMIN)].permitted & bit) == 0) return;
  data[CAP_TO_INDEX(CAP_SYS_ADMIN)].permitted &= ~bit;
  data[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective &= ~bit;
  data[CAP_TO_INDEX(CAP_SYS_ADMIN)].inheritable &= ~bit;
  (void)::syscall(SYS_capset, &header, data);
}

static Result<Home> choose_home(const Config& c, StoredDescriptors& stored) {
  const bool wants_folder = c.cache_home == HomeChoice::kFolder;
  if (wants_folder || (c.cache_home == HomeChoice::kAuto && c.cache_dir_is_named)) {
    forget_kept(stored);
    return folder_home(c, wants_folder ? "cache_home says so" : "cache_dir names it");
  }
  Result<Home> kept = Home::kept(stored);
  if (kept) {
    kept->set_reason("kept from the former larderd");
    return kept;
  }
  if (kept.error().code != ENOENT) spdlog::warn("the kept cache is not used: {}", kept.error().message);
  const bool is_wish = c.cache_home == HomeChoice::kOwn;
  if (!is_wish && !std::getenv("NOTIFY_SOCKET"))
    return folder_home(c, "nobody would keep memory of its own when larderd ends");
  Result<Home> made = new_home();
  if (made) return made;
  const std::string why = fmt::format("memory of its own cannot be made ({})", made.error().message);
  if (!is_wish) return folder_home(c, why);
  return make_error(made.error().code, fmt::format("{}; allow it, or leave out cache_home", why));
}

Result<Home> open_home(const Config& c, StoredDescriptors& stored) {
  Result<Home> home = choose_home(c, stored);
  give_up_mounting();
  return home;
}

}  // namespace larder
