#include "cached/meta/segment.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "larder/hash.h"

namespace larder {
namespace {

constexpr uint32_t kMagic = 0x3147534c;  // "LSG1"
constexpr size_t kHeaderBytes = 24;
constexpr size_t kMaxEtag = 255;
constexpr uint64_t kMaxSize = uint64_t{1} << 62;

enum EtagForm : uint8_t { kNone = 0, kHex = 1, kHexParts = 2, kText = 3 };
constexpr int64_t kUnits[] = {0, 1'000'000'000, 1'000'000, 1};  // seconds, milliseconds, nanoseconds

void put_varint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

uint64_t zigzag(int64_t value) {
  return (static_cast<uint64_t>(value) << 1) ^ static_cast<uint64_t>(value >> 63);
}
int64_t unzigzag(uint64_t value) {
  return static_cast<int64_t>(value >> 1) ^ -static_cast<int64_t>(value & 1);
}

template <typename T>
void put_fixed(std::string& out, T value) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <typename T>
T get_fixed(const char* p) {
  T value;
  memcpy(&value, p, sizeof value);
  return value;
}

int hex_value(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool is_hex32(std::string_view text) {
  return text.size() == 32 && std::all_of(text.begin(), text.end(), [](char c) { return hex_value(c) >= 0; });
}

// "hex-N" with a plain N: the text must come back the same ("-01" would not).
bool parts_of(std::string_view etag, uint32_t& parts) {
  if (etag.size() < 34 || etag.size() > 42 || etag[32] != '-' || etag[33] == '0' || !is_hex32(etag.substr(0, 32)))
    return false;
  uint64_t value = 0;
  for (char c : etag.substr(33)) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<uint64_t>(c - '0');
  }
  parts = static_cast<uint32_t>(value);
  return value <= UINT32_MAX;
}

void put_hex(std::string& out, std::string_view digits) {
  for (size_t i = 0; i < 32; i += 2)
    out.push_back(static_cast<char>(hex_value(digits[i]) * 16 + hex_value(digits[i + 1])));
}

EtagForm form_of(std::string_view etag, uint32_t& parts) {
  if (etag.empty()) return kNone;
  if (is_hex32(etag)) return kHex;
  return parts_of(etag, parts) ? kHexParts : kText;
}

// Differences wrap around, so every pair of times comes back as it was.
int unit_of(int64_t difference) {
  if (difference == 0) return 0;
  if (difference % kUnits[1] == 0) return 1;
  return difference % kUnits[2] == 0 ? 2 : 3;
}

Error broken(const char* what) {
  return make_error(EIO, fmt::format("damaged segment: {}", what));
}

// Reads inside [p, end) or fails; never beyond.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : p_(bytes.data()), end_(bytes.data() + bytes.size()) {}
  bool at_end() const { return p_ == end_; }

  bool varint(uint64_t& value) {
    value = 0;
    for (int shift = 0; shift < 64 && p_ < end_; shift += 7) {
      const auto byte = static_cast<unsigned char>(*p_++);
      if (shift == 63 && byte > 1) return false;
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return true;
    }
    return false;
  }

  bool bytes(uint64_t count, std::string_view& out) {
    if (count > static_cast<uint64_t>(end_ - p_)) return false;
    out = {p_, static_cast<size_t>(count)};
    p_ += count;
    return true;
  }

  bool byte(uint8_t& out) {
    if (p_ == end_) return false;
    out = static_cast<uint8_t>(*p_++);
    return true;
  }

 private:
  const char* p_;
  const char* end_;
};

constexpr size_t kMaxHexParts = 32 + 1 + 10;  // "hex-4294967295"

char* put_digits(char* to, std::string_view raw) {
  static const char kHexDigits[] = "0123456789abcdef";
  for (unsigned char c : raw) {
    *to++ = kHexDigits[c >> 4];
    *to++ = kHexDigits[c & 15];
  }
  return to;
}

// The etag as a part of the segment, or in `buffer`.
bool read_etag(Reader& in, uint8_t form, char (&buffer)[kMaxHexParts], std::string_view& etag) {
  std::string_view raw;
  uint64_t number = 0;
  if (form == kNone) return true;
  if (form == kText) return in.varint(number) && number != 0 && number <= kMaxEtag && in.bytes(number, etag);
  if (!in.bytes(16, raw)) return false;
  char* end = put_digits(buffer, raw);
  if (form == kHexParts) {
    if (!in.varint(number) || number == 0 || number > UINT32_MAX) return false;
    *end++ = '-';
    end = std::to_chars(end, buffer + kMaxHexParts, number).ptr;
  }
  etag = {buffer, static_cast<size_t>(end - buffer)};
  return true;
}

// The key into `key`, which holds the one before.
Status read_key(Reader& in, std::string& key, bool may_share, bool first) {
  uint64_t shared = 0, length = 0;
  std::string_view suffix;
  if (!in.varint(shared) || !in.varint(length)) return broken("a key ends too soon");
  if (shared > (may_share ? key.size() : 0)) return broken("a key shares more than there is");
  if (length > kMaxKeyBytes || shared + length > kMaxKeyBytes) return broken("a key is too long");
  if (!in.bytes(length, suffix)) return broken("a key ends too soon");
  const bool ascends = first || suffix > std::string_view(key).substr(shared);
  if (!ascends) return broken("keys do not ascend");
  key.resize(shared);
  key += suffix;
  return {};
}

Result<std::string_view> checked_payload(std::string_view bytes, uint32_t& count) {
  if (bytes.size() < kHeaderBytes || bytes.size() > kMaxSegmentBytes) return broken("wrong size");
  if (get_fixed<uint32_t>(bytes.data()) != kMagic) return broken("not a segment of this version");
  count = get_fixed<uint32_t>(bytes.data() + 4);
  const std::string_view payload = bytes.substr(kHeaderBytes);
  if (get_fixed<uint32_t>(bytes.data() + 8) != payload.size()) return broken("wrong size");
  if (get_fixed<uint32_t>(bytes.data() + 12) != 0) return broken("not a segment of this version");
  if (count > kSegmentObjects) return broken("too many objects");
  if (get_fixed<uint64_t>(bytes.data() + 16) != XXH3_64bits_withSeed(payload.data(), payload.size(), count)) {
    return broken("wrong checksum");
  }
  return payload;
}

}  // namespace

Status SegmentWriter::add(const ObjectInfo& object) {
  if (object.key.size() > kMaxKeyBytes) return make_error(EINVAL, "a key of more than 65,535 bytes");
  if (object.etag.size() > kMaxEtag) return make_error(EINVAL, "an etag of more than 255 bytes");
  if (object.size > kMaxSize) return make_error(EINVAL, "an object of more than 2^62 bytes");
  if (any_ && object.key <= last_key_)
    return make_error(EINVAL, fmt::format("keys must ascend: '{}' after '{}'", object.key, last_key_));
  size_t shared = 0;
  if (count_ > 0) {
    const size_t most = std::min(last_key_.size(), object.key.size());
    while (shared < most && last_key_[shared] == object.key[shared])
      ++shared;
  }
  uint32_t parts = 0;
  const EtagForm form = form_of(object.etag, parts);
  const auto difference =
      static_cast<int64_t>(static_cast<uint64_t>(object.mtime_ns) - static_cast<uint64_t>(count_ ? last_mtime_ : 0));
  const int unit = unit_of(difference);
  put_varint(payload_, shared);
  put_varint(payload_, object.key.size() - shared);
  payload_.append(object.key, shared);
  payload_.push_back(static_cast<char>(form | unit << 2));
  put_varint(payload_, object.size);
  if (unit != 0) put_varint(payload_, zigzag(difference / kUnits[unit]));
  if (form == kHex || form == kHexParts) put_hex(payload_, object.etag);
  if (form == kHexParts) put_varint(payload_, parts);
  if (form == kText) {
    put_varint(payload_, object.etag.size());
    payload_ += object.etag;
  }
  last_key_ = object.key;
  last_mtime_ = object.mtime_ns;
  any_ = true;
  ++count_;
  return {};
}

std::string SegmentWriter::finish() {
  std::string out;
  out.reserve(kHeaderBytes + payload_.size());
  put_fixed(out, kMagic);
  put_fixed(out, count_);
  put_fixed(out, static_cast<uint32_t>(payload_.size()));
  put_fixed(out, uint32_t{0});
  put_fixed(out, XXH3_64bits_withSeed(payload_.data(), payload_.size(), count_));
  out += payload_;
  payload_.clear();
  count_ = 0;
  return out;
}

Status decode_segment(std::string_view bytes, std::string* last_key, bool first,
                      const std::function<Status(const ObjectView&)>& object) {
  uint32_t count = 0;
  auto payload = checked_payload(bytes, count);
  if (!payload.ok()) return payload.error();
  Reader in(*payload);
  std::string& key = *last_key;
  uint64_t mtime = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (auto status = read_key(in, key, i > 0, first && i == 0); !status.ok()) return status;
    ObjectView one;
    char etag[kMaxHexParts];
    uint8_t form = 0;
    uint64_t delta = 0;
    if (!in.byte(form) || form > 15 || !in.varint(one.size) || one.size > kMaxSize)
      return broken("an object ends too soon");
    const int unit = form >> 2;
    if (unit != 0 && !in.varint(delta)) return broken("an object ends too soon");
    mtime += static_cast<uint64_t>(unzigzag(delta)) * static_cast<uint64_t>(kUnits[unit]);
    one.mtime_ns = static_cast<int64_t>(mtime);
    if (!read_etag(in, form & 3, etag, one.etag)) return broken("an etag ends too soon");
    one.key = key;
    if (auto status = object(one); !status.ok()) return status;
  }
  if (!in.at_end()) return broken("bytes after the last object");
  return {};
}

}  // namespace larder
