// Lua that runs inside Redis. Each script is one atomic step and safe to run twice, because a reply may be lost.
// Comments read: keys | arguments -> result.
#pragma once

namespace larder::redis_scripts {

// def | schema id source options group -> "ok", or the kind of refusal and what is there.
// A new dataset's version numbers begin at the time in milliseconds: after Redis was emptied, or the dataset was
// removed and made again, no number comes back for which a node may still have a catalog.
inline constexpr const char* kPutDataset = R"(
local s = redis.call('HMGET', KEYS[1], 'schema', 'source')
if s[1] and (tonumber(s[1]) or 0) > tonumber(ARGV[1]) then return {'schema', s[1]} end
if s[2] and s[2] ~= ARGV[3] then return {'exists', s[2]} end
if not s[2] then
  local t = redis.call('TIME')
  redis.call('HSET', KEYS[1], 'last', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
end
redis.call('HSET', KEYS[1], 'schema', ARGV[1], 'id', ARGV[2], 'source', ARGV[3], 'options', ARGV[4], 'group', ARGV[5])
return {'ok', ''})";

// segment | sha1 seconds -> 1 if exactly these bytes are there; they stay for that long at least.
inline constexpr const char* kTouchSegment = R"(
local v = redis.call('GET', KEYS[1])
if not v or redis.sha1hex(v) ~= ARGV[1] then return 0 end
if redis.call('TTL', KEYS[1]) >= 0 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1)";

// segment | bytes seconds: stores it. A segment that a version names stays for ever, another one for that long.
inline constexpr const char* kStoreSegment = R"(
local named = redis.call('TTL', KEYS[1]) == -1
redis.call('SET', KEYS[1], ARGV[1])
if not named then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return 1)";

// segments... | seconds: those that no version names stay for that long, from now.
inline constexpr const char* kTouchMany = R"(
for _, k in ipairs(KEYS) do if redis.call('TTL', k) >= 0 then redis.call('EXPIRE', k, ARGV[1]) end end
return 1)";

// lock | token ms -> 1 if the lock is ours now.
inline constexpr const char* kLock = R"(
local t = redis.call('GET', KEYS[1])
if t and t ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1)";

inline constexpr const char* kUnlock = R"(
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0)";

// def lock | token id -> a number never given before; -1: the dataset is another one now; -2: the lock is lost.
inline constexpr const char* kReserve = R"(
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -2 end
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[2] then return -1 end
return redis.call('HINCRBY', KEYS[1], 'last', 1))";

// meta dir | directory seconds fields...: describes a version that nothing names yet.
inline constexpr const char* kDescribe = R"(
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1)";

// def lock cur versions meta dir segments... | token id version channel name -> 1: published. -1,
// -2 as kReserve; -3: a part expired.
inline constexpr const char* kPublish = R"(
if redis.call('GET', KEYS[3]) == ARGV[3] then return 1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return -2 end
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[2] then return -1 end
for i = 5, #KEYS do if redis.call('EXISTS', KEYS[i]) == 0 then return -3 end end
for i = 5, #KEYS do redis.call('PERSIST', KEYS[i]) end
redis.call('ZADD', KEYS[4], ARGV[3], ARGV[3])
redis.call('SET', KEYS[3], ARGV[3])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1)";

// lock versions keys... | token seconds version: the version is no longer offered; its keys expire in that time.
inline constexpr const char* kDrop = R"(
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
for i = 3, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
redis.call('ZREM', KEYS[2], ARGV[3])
return 1)";

// def nodes | node value seconds -> 0: no such dataset. Appends the time of expiry to `value`.
inline constexpr const char* kBeat = R"(
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local t = redis.call('TIME')
local ms = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3] * 1000
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', ms))
redis.call('EXPIRE', KEYS[2], 3600)
return 1)";

// def nodes -> {exists, now_ms, node, value, ...}; drops the expired ones.
inline constexpr const char* kNodes = R"(
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local out = {redis.call('EXISTS', KEYS[1]), string.format('%.0f', now)}
local all = redis.call('HGETALL', KEYS[2])
for i = 1, #all, 2 do
  local expires = tonumber(string.match(all[i + 1], ' (%d+)$') or '0')
  if expires < now then redis.call('HDEL', KEYS[2], all[i]) else out[#out + 1] = all[i]; out[#out + 1] = all[i + 1] end
end
return out)";

}  // namespace larder::redis_scripts
