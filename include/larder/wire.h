// The protocol between programs and larderd: a Unix SEQPACKET connection carries one request and its replies.
// docs/protocol.md.
//
// Every request carries magic and version, so the greeting costs no round trip of its own: a daemon that does not speak
// the version answers status EPROTO with its own version and does nothing else. Both sides treat what they receive as
// untrusted. All numbers are little-endian.
//
// Version history: 1 first. `accepts` was a reserved 0, which larderds that do not know it do not look at.
#pragma once
#include <cstdint>

#include "larder/hash.h"

namespace larder {

inline constexpr uint32_t kWireMagic = 0x4452414c;  // "LARD"
inline constexpr uint16_t kWireVersion = 1;
inline constexpr uint32_t kMaxPacket = 160 * 1024;  // below the default socket buffer, so a packet is never refused
inline constexpr uint32_t kMaxPathBytes = 4096;
inline constexpr const char* kDefaultSocket = "/run/larder/larder.sock";

enum class Op : uint16_t {
  // Reply: descriptors [cache directory (O_PATH), stats, touch of mounts[0], touch of mounts[1], ...] as of
  // `generation`, at most kMaxHelloFds. /dev/null stands for a mount whose dataset the peer may not read.
  kHello = 1,
  // Path of a file in `dataset_id`. Waits until the object is in the cache. Reply: one fresh O_RDONLY descriptor of the
  // whole cache file. ESTALE: the caller's catalog is old (`oid` is not the current one); look again in a newer one.
  kFetch = 2,
  // Path of a directory. Makes its mirror directory. Reply: one O_RDONLY|O_DIRECTORY descriptor. dataset_id 0: an
  // absolute path (without the leading slash) in the namespace catalog.
  kDirectory = 3,
  // ChunkRequest: waits until the chunks of a lazy object are there. Reply: no descriptors. ESTALE: the object changed
  // in the store, or the handle no longer belongs to an object.
  kChunks = 4,
  // JSON text after the header; replies carry JSON. kReplyMore in flags: another reply (progress) follows.
  // docs/protocol.md.
  kAdmin = 16,
};

inline constexpr uint32_t kMaxHelloFds = 62;
inline constexpr uint32_t kReplyMore = 1;

// Request::accepts: while a request is worked on, replies with kReplyMore and nothing else may come, every
// kSignOfLifeMs, so that who waits can tell a transfer that lasts from a larderd that does not answer. Not for kAdmin.
inline constexpr uint32_t kAcceptsSignsOfLife = 1;
inline constexpr uint32_t kAcceptsASignAtOnce = 2;  // the first when the request was read, not after kSignOfLifeMs
inline constexpr uint32_t kSignOfLifeMs = 500;
inline constexpr uint32_t kLeastSilenceMs = 4 * kSignOfLifeMs;  // before a client may take larderd for dead

struct Request {
  uint32_t magic;
  uint16_t version;
  Op op;
  uint64_t dataset_id;
  ObjectId oid;          // kFetch: which version of the object the caller's catalog names
  uint32_t payload_len;  // bytes after this header: the path or the JSON text
  uint32_t flags;        // 0
  uint32_t accepts;      // what of the replies the client understands: kAcceptsSignsOfLife
  uint32_t reserved;
};
static_assert(sizeof(Request) == 48);

// Payload of kChunks. include/larder/chunks.h.
struct ChunkRequest {
  uint64_t handle_inode;  // real inode number of the handle
  uint32_t first;         // chunk
  uint32_t count;         // 1 to kMaxChunkCount, 0 with kChunksWhole
  uint32_t flags;
  uint32_t reserved;
};
static_assert(sizeof(ChunkRequest) == 24);
inline constexpr uint32_t kMaxChunkCount = 512;  // 128 MiB of the usual chunks
inline constexpr uint32_t kChunksAdvise = 1;     // nobody waits: fetch ahead; the reply may be left unread
inline constexpr uint32_t kChunksWhole = 2;  // all of it, until it is an ordinary cache file: EFBIG if that cannot fit
inline constexpr uint32_t kChunksAhead = 4;  // waits for the first chunk alone: the others will be wanted next
inline constexpr uint32_t kChunksFiles =
    8;  // waits for nothing. Reply: descriptors of the chunk map and of the data file

struct Reply {
  uint32_t magic;
  uint16_t version;
  Op op;
  int32_t status;  // 0 or an errno
  uint32_t flags;
  uint64_t generation;  // of control, when the reply was made
  uint64_t instance;    // of control
  uint32_t fd_count;    // descriptors sent with it
  uint32_t payload_len;
};
static_assert(sizeof(Reply) == 40);

}  // namespace larder
