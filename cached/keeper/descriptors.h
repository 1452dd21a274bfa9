// Descriptors under names: what larderd's successor gets. systemd's protocol (sd_notify(3), FDSTORE), of which exactly
// the texts of cached/home/descriptor_store.h are known.
#pragma once

namespace larder::keeper {

inline constexpr int kMostStored = 128;
inline constexpr int kNameBytes = 64;

struct Stored {
  char name[kNameBytes];
  int fd;
};

class Descriptors {
 public:
  // Those that the keeper was started with (LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES), close-on-exec from now on. The
  // environment forgets them.
  void adopt();

  // Takes `fd`, instead of what had the name. False, and `fd` is closed: the table is full, or it is no name.
  bool put(const char* name, int fd);
  // The descriptor of a name, which is the caller's from now on; -1: there is none.
  int take(const char* name);
  void remove(const char* name);

  int count() const { return count_; }
  const Stored& operator[](int i) const { return stored_[i]; }

 private:
  int find(const char* name) const;

  Stored stored_[kMostStored];
  int count_ = 0;
};

}  // namespace larder::keeper
