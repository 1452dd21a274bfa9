// Directory streams over catalogs: what opendir, fdopendir, scandir and getdents64 read from.
//
// A stream holds its views (state.h), so that it lists one state of the dataset to the end. As with libc's streams, one
// thread at a time uses one stream; different streams need no lock. Errors: errno, as libc sets it.
#pragma once
#include <dirent.h>

#include "preload/resolve/dispatch.h"

namespace larder {

// A directory stream of ours. Lists, in this order: "." and "..", the children in the dataset's catalog (or, for a real
// folder above mount points, what libc's stream gives), then mount points that are not among them.
// Streams lie in one range of addresses, so that a DIR* of libc is told apart by a comparison.
struct DirectoryStream {
  int fd;  // first, as in libc's: un-hooked dirfd() reads it. -1: not opened yet
  Kind kind;
  uint64_t dataset_id;
  uint64_t inode;  // virtual; of the parent, too
  uint64_t parent_inode;
  DIR* native;  // a real folder above mount points, or null
  View* view;   // children [first, first + count)
  uint32_t first, count;
  View* ns;  // mount points [ns_first, ns_first + ns_count)
  uint32_t ns_first, ns_count;
  uint64_t pos;          // what comes next: 0 ".", 1 "..", 2.. children, ns_pos.. mount points
  uint64_t ns_pos;       // behind the last child; kFirstMountPoint if `native` has the children
  uint64_t native_seen;  // bit i: the real folder has a name like mount point i
  struct dirent64 entry;
};

// Negative to telldir's callers: real file systems give any positive number. The children of a catalog are counted
// instead, since getdents64 keeps the position in a descriptor, and the kernel seeks to no negative one.
inline constexpr uint64_t kFirstMountPoint = 1ULL << 63;

// The stream behind a DIR*, or null: it is libc's.
DirectoryStream* our_stream(DIR* dir);

// A stream over a folder of ours; fd -1 or the descriptor it came from, which it owns then. Null and errno, fd still
// open. Looks up again if the views of `f` are no longer the process's.
DIR* open_directory_stream(Found& f, int fd);

// The same over libc's stream of a real folder, if it lies above mount points (they are listed behind its entries) or a
// mount covers it; else `dir` itself. Owns `dir`, which may be null.
DIR* with_mount_points(DIR* dir);

// Closes what the stream owns, and gives it back. closedir's result.
int close_stream(DirectoryStream* s);

// The next entry. False at the end; errno is left alone then, and set if libc's stream failed.
bool read_entry(DirectoryStream* s, struct dirent64* out);

// A position is 0 or what read_entry() put into d_off.
void seek_stream(DirectoryStream* s, uint64_t pos);
long tell_stream(const DirectoryStream* s);

// The stream's descriptor, which it owns; opened at the first call. -1 and errno.
int stream_fd(DirectoryStream* s);

// Entry of the namespace catalog if this real directory is one above mount points, else kNoEntry.
uint32_t ancestor_entry(const struct stat& st);

#if defined(__x86_64__)
// getdents(2), the older form, which only syscall() has: right for files alone.
long old_getdents(int fd, void* buffer, unsigned size);
#endif

}  // namespace larder
