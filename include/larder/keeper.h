// What the keeper (cached/keeper) and larderd say to each other: frames of one size over a SEQPACKET socket pair, which
// larderd gets under the name kKeeperDescriptor. Descriptors for larderd's successor go over NOTIFY_SOCKET, as to
// systemd (cached/home/descriptor_store.h).
//
// A greeting that larderd has stored is answered by the keeper while larderd does not: its `reply` and descriptors are
// what a peer gets that belongs to no group.
//
// Version history: 1 first. Both are of one release: larderd refuses a keeper of another version at its start.
#pragma once
#include <cstdint>

#include "larder/wire.h"

namespace larder {

inline constexpr uint32_t kKeeperMagic = 0x3150454b;  // "KEP1"
inline constexpr char kKeeperDescriptor[] = "larder-keeper";
inline constexpr char kConfigDescriptor[] = "larder-config";  // larderd's configuration, instead of a file
inline constexpr uint32_t kAnyUid = ~0U;

// Of larderd's environment, set by the keeper.
inline constexpr char kLastEndVariable[] = "LARDER_LAST_END";  // how its predecessor died; unset: it did not
inline constexpr char kRestartsVariable[] = "LARDER_RESTARTS";
inline constexpr char kKeeperPidVariable[] = "LARDER_KEEPER_PID";

enum class KeeperOp : uint32_t {
  kGreeting = 1,    // larderd: replaces the stored greeting, with its descriptors; without any, there is none
  kIdle = 2,        // larderd: ends now, and is to be started again when somebody asks for something
  kEnd = 3,         // larderd: ends now, and so shall the keeper
  kConnection = 4,  // keeper: a connection (one descriptor) that larderd did not accept; nothing was read from it
  kProbe = 5,       // keeper: does larderd read?
};

struct KeeperFrame {
  uint32_t magic;
  KeeperOp op;
  uint32_t only_uid;  // kGreeting: whom it is for besides root; kAnyUid: everybody
  uint32_t reserved;
  Reply reply;  // kGreeting
};
static_assert(sizeof(KeeperFrame) == 56);

// Requests at the socket that the keeper answers while there is no larderd; larderd says EALREADY to them. Peers: root
// and the keeper's own user, else EPERM. No payload.
//
// kLaunch: starts larderd from now on with three descriptors: its configuration, its environment (texts, each ended by
// a NUL), its log. kEndKeeper: the keeper ends, and with it what it keeps.
inline constexpr Op kLaunch = static_cast<Op>(32);
inline constexpr Op kEndKeeper = static_cast<Op>(33);

}  // namespace larder
