// Descriptors that outlive the daemon: whoever starts larderd (systemd's descriptor store, or the keeper) keeps them,
// and passes them to the next larderd.
//
// The protocol is systemd's (sd_listen_fds(3), sd_notify(3)); a keeper speaks the same, so larderd cannot tell them
// apart:
//
//   start    LISTEN_PID = larderd's pid, LISTEN_FDS = n, LISTEN_FDNAMES = names, joined by ':'; descriptors 3 … n + 2
//   store    a datagram to NOTIFY_SOCKET, "FDSTORE=1\nFDNAME=<name>\nFDPOLL=0", with one descriptor (SCM_RIGHTS)
//   remove   "FDSTOREREMOVE=1\nFDNAME=<name>"
//   state    "READY=1", "STOPPING=1"
//
// A descriptor of a name that is stored already is one more of that name to systemd: larderd removes the name before it
// stores it anew. Folders are passed opened O_RDONLY | O_DIRECTORY: systemd's store takes no O_PATH descriptors.
//
// Threads: adopt() once, before any other thread starts; notify() and store() from any.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cached/base/fd.h"

namespace larder {

inline constexpr char kSocketDescriptor[] = "larder-socket";  // the listening socket (SOCK_SEQPACKET)
inline constexpr char kHomeDescriptor[] = "larder-home";      // own home (own_home.h): root of the writable view
inline constexpr char kViewDescriptor[] = "larder-view";      // own home: root of the read-only view

class StoredDescriptors {
 public:
  // Those that this process was started with; none if LISTEN_PID names another process. They get close-on-exec, and the
  // environment forgets them.
  static StoredDescriptors adopt();

  // The descriptor of this name, at most once; invalid if there is none. Others of the same name stay here.
  Fd take(std::string_view name);

 private:
  std::vector<std::pair<std::string, Fd>> named_;
};

// Tells whoever started larderd. OK without NOTIFY_SOCKET: then nobody asked.
Status notify(std::string_view text);

// Has a descriptor kept under this name, instead of those that the name had. ENOTCONN: nobody keeps descriptors
// (NOTIFY_SOCKET is not set). That it was sent does not mean that it is kept: systemd drops what FileDescriptorStoreMax
// does not allow.
Status store(std::string_view name, int fd);
Status remove_stored(std::string_view name);

}  // namespace larder
