// What a Redis, a Sentinel or whoever sits behind that address answers: the protocol, in pieces of any size, and
// everything that reads a reply's content.
#include "cached/meta/redis/redis_reply.h"

#include "cached/meta/redis/redis_cluster.h"
#include "cached/meta/redis/redis_records.h"
#include "cached/meta/redis/redis_values.h"
#include "cached/meta/redis/redis_version.h"
#include "tests/fuzz/fuzz.h"

using namespace larder;

namespace {

size_t size_of(const RedisReply& reply) {
  size_t out = 1 + reply.text.size();
  for (const RedisReply& item : reply.items)
    out += size_of(item);
  return out;
}

void read_records(const RedisReply& reply) {
  const RedisUrl url{{{"host", 6379}}, "", "", "", "", 0, "", 1000, {}};
  if (auto def = parse_definition(url, "a", reply)) fuzz_check(def->id != 0 && def->source.size() <= 4096);
  if (auto info = parse_version_info("a", 1, reply)) fuzz_check(info->version == 1);
  for (size_t i = 0; i + 1 < reply.items.size(); i += 2)
    if (auto node =
            parse_beat(reply.items[i].text, reply.items[i + 1].text, whole_number<int64_t>(reply.text).value_or(0)))
      fuzz_check(valid_node_name(node->node) && node->age_s <= kNodeExpirySeconds);
}

void read_topology(const RedisReply& reply) {
  const RedisEndpoint from{"from", 1};
  if (auto to = parse_redirection(reply.text, from))
    fuzz_check(to->slot < kClusterSlots && !to->to.host.empty() && to->to.port != 0);
  SlotMap map;
  if (map.update(reply, from)) fuzz_check(!map.nodes().empty());
  (void)map.find(0);
  (void)parse_redis_endpoint(reply.text, 6379);
  (void)redis_error_kind(reply.text);
}

}  // namespace

// The first byte: how long the pieces are in which the rest arrives.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = data[0] == 0 ? size : data[0];
  std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  RedisReplyReader reader;
  for (; !rest.empty(); rest.remove_prefix(std::min(piece, rest.size()))) {
    if (!reader.feed(rest.substr(0, piece))) return 0;
    for (;;) {
      auto reply = reader.next();
      if (!reply) return fuzz_check(reply.error().code == EIO && !reader.next()), 0;
      if (!*reply) break;
      fuzz_check(size_of(**reply) <= 4 * size);
      read_records(**reply);
      read_topology(**reply);
    }
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  auto flat = [](const std::vector<std::string>& words) {
    RedisCommand command(words[0]);
    for (size_t i = 1; i < words.size(); ++i)
      command.add(words[i]);
    return command.wire();  // a command is an array of texts, as the reply to HGETALL is
  };
  const std::string definition = flat(
      {"schema", "1", "id", "77", "source", "s3://b/", "options", R"({"region":"x"})", "group", "ml", "last", "9"});
  const std::string version = flat({"created_ns", "5", "objects", "3", "bytes", "9", "skipped", "0", "segments", "1"});
  const std::string slots =
      "*2\r\n*3\r\n:0\r\n:8191\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nid\r\n*3\r\n:8192\r\n:16383\r\n*2\r\n$"
      "0\r\n\r\n:7001\r\n";
  return {std::string(1, 0) + definition + version,
          "\x05" + version + "-MOVED 3999 127.0.0.1:6381\r\n-ASK 1 [::1]:7\r\n",
          "\x01+OK\r\n:-12\r\n$-1\r\n*-1\r\n" + slots,
          std::string(1, 0) + slots + flat({"n1", "1 2 3 1700000000000", "n2", "x"}) + "*1\r\n*1\r\n*1\r\n*0\r\n"};
}
