// SHA-256, HMAC-SHA256 and MD5 over OpenSSL, without EVP's costs per call (looking the algorithm up, allocating a
// context): SHA-256 uses SHA256_CTX, which OpenSSL 3 deprecates, and MD5 is looked up once. Out of memory is
// std::bad_alloc. Threads: all functions and const members may be called from any thread.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace larder {

using Sha256 = std::array<unsigned char, 32>;
using Md5 = std::array<unsigned char, 16>;

Sha256 sha256(std::string_view data);
std::string hex(std::span<const unsigned char> bytes);
void hex_append(std::string& out, std::span<const unsigned char> bytes);
std::string base64(std::span<const unsigned char> bytes);
std::string from_base64(std::string_view text);  // empty: not base64
inline std::string sha256_hex(std::string_view data) {
  return hex(sha256(data));
}

// A key, prepared to sign many messages.
class HmacSha256 {
 public:
  explicit HmacSha256(std::string_view key);
  explicit HmacSha256(const Sha256& key);
  ~HmacSha256();
  HmacSha256(HmacSha256&&) noexcept;
  HmacSha256& operator=(HmacSha256&&) noexcept;
  Sha256 sign(std::string_view message) const;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// MD5 of a stream. Not for security: S3 names the MD5 of an object as its ETag.
class Md5Stream {
 public:
  Md5Stream();
  ~Md5Stream();
  Md5Stream(Md5Stream&&) noexcept;
  Md5Stream& operator=(Md5Stream&&) noexcept;
  void reset();
  void update(std::span<const std::byte> data);
  Md5 finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace larder
