// Packets with descriptors (SCM_RIGHTS), both ways.
#pragma once
#include <stddef.h>
#include <sys/types.h>

namespace larder::keeper {

inline constexpr int kMostDescriptors = 64;

// One packet. Does not block: -1 and EAGAIN.
ssize_t send_packet(int socket, const void* bytes, size_t size, const int* fds, int count);

// One packet and its descriptors, close-on-exec, which are the caller's; -1: none, or it came with more than fit.
// `pid`, if not null: of the sender (SO_PASSCRED), 0 if the kernel does not say.
ssize_t receive_packet(int socket, void* bytes, size_t size, int* fds, int* count, pid_t* pid);

}  // namespace larder::keeper
