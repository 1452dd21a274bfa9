#include "cached/meta/redis/redis_cluster.h"

#include <algorithm>
#include <charconv>

namespace larder {
namespace {

constexpr size_t kMaxNodes = 1000;  // the specification's own limit

uint16_t crc16(std::string_view bytes) {
  uint16_t crc = 0;
  for (unsigned char c : bytes) {
    crc = static_cast<uint16_t>(crc ^ (c << 8));
    for (int bit = 0; bit < 8; ++bit)
      crc = static_cast<uint16_t>(crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1);
  }
  return crc;
}

std::string_view next_word(std::string_view& text) {
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(std::min(text.size(), word.size() + 1));
  return word;
}

std::optional<RedisEndpoint> node_of(const RedisReply& node, const RedisEndpoint& from) {
  using Type = RedisReply::Type;
  if (!node.is(Type::kArray) || node.items.size() < 2 || !node.items[1].is(Type::kInteger)) return {};
  const RedisReply& host = node.items[0];
  const int64_t port = node.items[1].integer;
  if (port < 1 || port > 65535 || !(host.is_text() || host.is(Type::kNil))) return {};
  RedisEndpoint out{host.text.empty() || host.text == "?" ? from.host : host.text, static_cast<uint16_t>(port)};
  if (out.host.size() > 255) return {};
  return out;
}

}  // namespace

uint16_t cluster_slot(std::string_view key) {
  if (const size_t open = key.find('{'); open != std::string_view::npos) {
    const size_t close = key.find('}', open + 1);
    if (close != std::string_view::npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  }
  return crc16(key) % kClusterSlots;
}

std::optional<Redirection> parse_redirection(std::string_view error, const RedisEndpoint& from) {
  const std::string_view kind = next_word(error), slot = next_word(error), where = next_word(error);
  Redirection out;
  out.ask = kind == "ASK";
  if (!out.ask && kind != "MOVED") return {};
  auto [end, failed] = std::from_chars(slot.data(), slot.data() + slot.size(), out.slot);
  if (failed != std::errc() || end != slot.data() + slot.size() || out.slot >= kClusterSlots) return {};
  // An IPv6 address comes without brackets: the port is after the last colon.
  const size_t colon = where.rfind(':');
  if (colon == std::string_view::npos) return {};
  const std::string host = colon == 0 ? from.host : std::string(where.substr(0, colon));
  auto port = parse_redis_endpoint("x" + std::string(where.substr(colon)), 0);
  if (!port || port->port == 0 || host.size() > 255) return {};
  out.to = {host, port->port};
  return out;
}

Status SlotMap::update(const RedisReply& reply, const RedisEndpoint& from) {
  const Error wrong = make_error(EIO, "Redis: CLUSTER SLOTS answered something else");
  if (!reply.is(RedisReply::Type::kArray)) return wrong;
  SlotMap fresh;
  for (const RedisReply& range : reply.items) {
    if (!range.is(RedisReply::Type::kArray) || range.items.size() < 3) return wrong;
    const int64_t first = range.items[0].integer, last = range.items[1].integer;
    auto master = node_of(range.items[2], from);
    if (!master || first < 0 || last < first || last >= kClusterSlots || fresh.nodes_.size() >= kMaxNodes) return wrong;
    std::fill(fresh.owner_.begin() + first, fresh.owner_.begin() + last + 1, fresh.index_of(*master));
  }
  if (fresh.nodes_.empty()) return make_error(EAGAIN, "Redis: the cluster has no slots");
  *this = std::move(fresh);
  return {};
}

void SlotMap::move(uint16_t slot, const RedisEndpoint& to) {
  if (slot < kClusterSlots &&
      (nodes_.size() < kMaxNodes || std::find(nodes_.begin(), nodes_.end(), to) != nodes_.end()))
    owner_[slot] = index_of(to);
}

std::optional<RedisEndpoint> SlotMap::find(uint16_t slot) const {
  if (slot >= kClusterSlots || owner_[slot] == kNobody) return {};
  return nodes_[owner_[slot]];
}

uint16_t SlotMap::index_of(const RedisEndpoint& node) {
  auto it = std::find(nodes_.begin(), nodes_.end(), node);
  if (it == nodes_.end()) it = nodes_.insert(nodes_.end(), node);
  return static_cast<uint16_t>(it - nodes_.begin());
}

}  // namespace larder
