// Redis Cluster: which node serves a key. https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
//
// Nothing here uses the network. Nodes' answers are untrusted: text that does not parse is neither a redirection nor a
// map. Threads: none of its own; a SlotMap needs its owner's lock.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cached/meta/redis/redis_connection.h"

namespace larder {

inline constexpr uint16_t kClusterSlots = 16384;

// CRC16/XMODEM of the key, or of what is between its first '{' and the next '}' unless that is empty; modulo 16,384.
uint16_t cluster_slot(std::string_view key);

// "MOVED 3999 127.0.0.1:6381", "ASK 3999 127.0.0.1:6381". An empty host is that of `from`.
struct Redirection {
  bool ask = false;
  uint16_t slot = 0;
  RedisEndpoint to;
};
std::optional<Redirection> parse_redirection(std::string_view error, const RedisEndpoint& from);

// The masters of all slots.
class SlotMap {
 public:
  // Takes a reply to CLUSTER SLOTS; keeps the old map if it does not parse.
  Status update(const RedisReply& reply, const RedisEndpoint& from);
  void move(uint16_t slot, const RedisEndpoint& to);
  std::optional<RedisEndpoint> find(uint16_t slot) const;
  const std::vector<RedisEndpoint>& nodes() const { return nodes_; }

 private:
  uint16_t index_of(const RedisEndpoint& node);
  static constexpr uint16_t kNobody = 0xffff;
  std::vector<RedisEndpoint> nodes_;
  std::vector<uint16_t> owner_ = std::vector<uint16_t>(kClusterSlots, kNobody);
};

}  // namespace larder
