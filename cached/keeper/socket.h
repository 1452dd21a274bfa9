// The socket at which programs find larderd: its name, and the lock beside it that makes the keeper the only one.
#pragma once

namespace larder::keeper {

// Binds and listens, as cached/server/listener.h says: 0666, or (is_private) 0600 in a folder of the user's own that
// others cannot enter. A stale socket is replaced. The descriptor, non-blocking; -1, with the reason in the log.
int open_socket(const char* path, bool is_private);

// Takes away the socket's name, its lock, and (is_private) the mounts file.
void remove_socket(const char* path, bool is_private);

// A datagram socket for larderd's notifications (sd_notify(3)); its address, "@...", is written to `address`. -1:
// logged.
int open_notify(char* address, unsigned long size);

// A datagram to the one who started the keeper (systemd), if it asked for any; `fd` is -1 for none.
void notify(const char* text, unsigned long length, int fd);

}  // namespace larder::keeper
