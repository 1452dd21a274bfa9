#include "cached/store/checksum/digest.h"

#define OPENSSL_SUPPRESS_DEPRECATED  // SHA256_CTX: digest.h says why
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <new>
#include <utility>

namespace larder {
namespace {

struct FreeMd {
  void operator()(EVP_MD* p) const { EVP_MD_free(p); }
};
struct FreeMdCtx {
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
};
using Md = std::unique_ptr<EVP_MD, FreeMd>;
using MdCtx = std::unique_ptr<EVP_MD_CTX, FreeMdCtx>;

// OpenSSL fails here only when memory is out or the default provider is missing; both are fatal to any signature.
template <typename T>
T must(T p) {
  if (!p) throw std::bad_alloc();
  return p;
}
void must(int ok) {
  if (ok != 1) throw std::bad_alloc();
}

const EVP_MD* fetched_md5() {
  static const Md md(must(EVP_MD_fetch(nullptr, "MD5", nullptr)));
  return md.get();
}

Sha256 finish(SHA256_CTX& context) {
  Sha256 out;
  must(SHA256_Final(out.data(), &context));
  return out;
}

}  // namespace

Sha256 sha256(std::string_view data) {
  SHA256_CTX context;
  must(SHA256_Init(&context));
  must(SHA256_Update(&context, data.data(), data.size()));
  return finish(context);
}

void hex_append(std::string& out, std::span<const unsigned char> bytes) {
  static const char kHex[] = "0123456789abcdef";
  for (unsigned char byte : bytes)
    out.append({kHex[byte >> 4], kHex[byte & 15]});
}

std::string hex(std::span<const unsigned char> bytes) {
  std::string out;
  out.reserve(bytes.size() * 2);
  hex_append(out, bytes);
  return out;
}

std::string base64(std::span<const unsigned char> bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and the NUL that OpenSSL adds
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

std::string from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.find_first_of(" \t\r\n-") != std::string_view::npos) return {};
  std::string out(text.size() / 4 * 3, '\0');
  const int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(text.data()),
                      static_cast<int>(text.size()));
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  if (length < 0) return {};
  out.resize(static_cast<size_t>(length) - padding);
  return out;
}

struct HmacSha256::Context {
  SHA256_CTX inner, outer;  // after the key's block
};

HmacSha256::HmacSha256(std::string_view key) : context_(std::make_unique<Context>()) {
  unsigned char block[SHA256_CBLOCK] = {}, padded[SHA256_CBLOCK];
  const Sha256 short_key = key.size() > sizeof block ? sha256(key) : Sha256{};
  if (key.size() > sizeof block) key = {reinterpret_cast<const char*>(short_key.data()), short_key.size()};
  std::copy(key.begin(), key.end(), block);
  const auto start = [&](SHA256_CTX& context, unsigned char pad) {
    std::transform(std::begin(block), std::end(block), padded,
                   [pad](unsigned char c) { return static_cast<unsigned char>(c ^ pad); });
    must(SHA256_Init(&context));
    must(SHA256_Update(&context, padded, sizeof padded));
  };
  start(context_->inner, 0x36);
  start(context_->outer, 0x5c);
  OPENSSL_cleanse(block, sizeof block);
  OPENSSL_cleanse(padded, sizeof padded);
}

HmacSha256::HmacSha256(const Sha256& key)
    : HmacSha256(std::string_view(reinterpret_cast<const char*>(key.data()), key.size())) {}
HmacSha256::~HmacSha256() {
  if (context_) OPENSSL_cleanse(context_.get(), sizeof *context_);
}
HmacSha256::HmacSha256(HmacSha256&&) noexcept = default;
HmacSha256& HmacSha256::operator=(HmacSha256&&) noexcept = default;

Sha256 HmacSha256::sign(std::string_view message) const {
  SHA256_CTX inner = context_->inner, outer = context_->outer;
  must(SHA256_Update(&inner, message.data(), message.size()));
  const Sha256 hash = finish(inner);
  must(SHA256_Update(&outer, hash.data(), hash.size()));
  return finish(outer);
}

struct Md5Stream::Context {
  MdCtx md;
};

Md5Stream::Md5Stream() : context_(std::make_unique<Context>()) {
  context_->md.reset(must(EVP_MD_CTX_new()));
  reset();
}
Md5Stream::~Md5Stream() = default;
Md5Stream::Md5Stream(Md5Stream&&) noexcept = default;
Md5Stream& Md5Stream::operator=(Md5Stream&&) noexcept = default;

void Md5Stream::reset() {
  must(EVP_DigestInit_ex2(context_->md.get(), fetched_md5(), nullptr));
}

void Md5Stream::update(std::span<const std::byte> data) {
  must(EVP_DigestUpdate(context_->md.get(), data.data(), data.size()));
}

Md5 Md5Stream::finish() {
  Md5 out;
  must(EVP_DigestFinal_ex(context_->md.get(), out.data(), nullptr));
  return out;
}

}  // namespace larder
