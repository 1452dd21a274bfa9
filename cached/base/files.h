// Small helpers over the daemon's own files and folders. All paths are relative to a directory descriptor, or absolute.
// Threads: any. Errors carry the errno of the system call.
#pragma once
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>
#include <string>
#include <string_view>

#include "cached/base/fd.h"

namespace larder {

// Opens a directory without following a symlink in its last component.
Result<Fd> open_dir(int dir_fd, const std::string& path);

// Opens a directory; makes it with exactly this mode if there is none. `created` tells whether it was made.
Result<Fd> make_dir(int dir_fd, const std::string& path, mode_t mode, bool* created = nullptr);

// Makes a directory and its missing parents.
Status make_dirs(const std::string& path, mode_t mode);

// Writes all of `bytes` at `offset`; continues after short writes and signals.
Status pwrite_all(int fd, const void* bytes, size_t len, uint64_t offset);

// Reads exactly `len` bytes at `offset`. EIO: the file ends before that.
Status pread_all(int fd, void* bytes, size_t len, uint64_t offset);

// The content of a regular file. EFBIG: it has more than `limit` bytes.
Result<std::string> read_file(int dir_fd, const std::string& path, size_t limit);

// Replaces a file atomically: writes it under another name, syncs and renames it. Leaves nothing behind if it fails.
Status replace_file(int dir_fd, const std::string& path, std::string_view text, mode_t mode);

// The same without syncing, for what a crash of the machine may lose.
Status replace_volatile_file(const std::string& path, std::string_view text, mode_t mode);

// Links an O_TMPFILE file under a name in `dir_fd`. EEXIST: the name is taken.
Status link_file(int fd, int dir_fd, const std::string& name);

// As link_file, but replaces a file of that name. `tmp_dir` is on the same file system.
Status link_file_over(int fd, int tmp_dir, int dir_fd, const std::string& name);

// An unnamed file in a directory, open for reading and writing whatever its mode says (less the umask).
Result<Fd> unnamed_file(int dir_fd, mode_t mode = 0600);

// Calls `each` with the names in a directory, without "." and "..".
Status for_each_name(int dir_fd, const std::function<void(const char*)>& each);

// The same, but stops when `each` returns false.
Status for_names_while(int dir_fd, const std::function<bool(const char*)>& each);

// Bytes a file of this size takes on tmpfs (whole pages).
inline uint64_t on_disk(uint64_t size) {
  return (size + 4095) & ~uint64_t{4095};
}

// Text for logs and messages: control bytes and bytes above 0x7e as \xNN, at most `limit` characters.
std::string shown(std::string_view text, size_t limit = 300);

// Exactly `digits` lower-case hex digits.
bool parse_hex(std::string_view text, size_t digits, uint64_t* value);

// Nanoseconds since 1970. Times that 64 bits cannot hold (after 2262) become the last one that they can.
inline int64_t as_ns(time_t seconds, int64_t nanoseconds) {
  constexpr int64_t kLast = INT64_MAX / 1'000'000'000 - 1;
  return std::clamp<int64_t>(seconds, -kLast, kLast) * 1'000'000'000 + nanoseconds;
}

// CLOCK_REALTIME.
int64_t wall_ns();

}  // namespace larder
