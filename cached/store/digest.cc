#include "cached/store/digest.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <new>

namespace larder {
namespace {

struct FreeMd {
  void operator()(EVP_MD* p) const { EVP_MD_free(p); }
};
struct FreeMdCtx {
  void operator()(EVP_MD_CTX* p) const { EVP_MD_CTX_free(p); }
};
struct FreeMac {
  void operator()(EVP_MAC* p) const { EVP_MAC_free(p); }
};
struct FreeMacCtx {
  void operator()(EVP_MAC_CTX* p) const { EVP_MAC_CTX_free(p); }
};
using Md = std::unique_ptr<EVP_MD, FreeMd>;
using MdCtx = std::unique_ptr<EVP_MD_CTX, FreeMdCtx>;
using Mac = std::unique_ptr<EVP_MAC, FreeMac>;
using MacCtx = std::unique_ptr<EVP_MAC_CTX, FreeMacCtx>;

// OpenSSL fails here only when memory is out or the default provider is missing; both are fatal to any signature.
template <typename T>
T must(T p) {
  if (!p) throw std::bad_alloc();
  return p;
}
void must(int ok) {
  if (ok != 1) throw std::bad_alloc();
}

const EVP_MD* fetched_sha256() {
  static const Md md(must(EVP_MD_fetch(nullptr, "SHA256", nullptr)));
  return md.get();
}
const EVP_MD* fetched_md5() {
  static const Md md(must(EVP_MD_fetch(nullptr, "MD5", nullptr)));
  return md.get();
}
EVP_MAC* fetched_hmac() {
  static const Mac mac(must(EVP_MAC_fetch(nullptr, "HMAC", nullptr)));
  return mac.get();
}

}  // namespace

Sha256 sha256(std::string_view data) {
  thread_local const MdCtx context(must(EVP_MD_CTX_new()));
  Sha256 out;
  must(EVP_DigestInit_ex2(context.get(), fetched_sha256(), nullptr));
  must(EVP_DigestUpdate(context.get(), data.data(), data.size()));
  must(EVP_DigestFinal_ex(context.get(), out.data(), nullptr));
  return out;
}

std::string hex(std::span<const unsigned char> bytes) {
  static const char kHex[] = "0123456789abcdef";
  std::string out(bytes.size() * 2, '0');
  for (size_t i = 0; i < bytes.size(); ++i) {
    out[2 * i] = kHex[bytes[i] >> 4];
    out[2 * i + 1] = kHex[bytes[i] & 15];
  }
  return out;
}

std::string base64(std::span<const unsigned char> bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and the NUL that OpenSSL adds
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(), static_cast<int>(bytes.size()));
  out.resize(static_cast<size_t>(length));
  return out;
}

struct HmacSha256::Context {
  MacCtx keyed;
};

HmacSha256::HmacSha256(std::string_view key) : context_(std::make_unique<Context>()) {
  context_->keyed.reset(must(EVP_MAC_CTX_new(fetched_hmac())));
  char digest[] = "SHA256";
  OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                         OSSL_PARAM_construct_end()};
  // An empty key is legal for HMAC, a null pointer would mean "keep the key".
  const char* bytes = key.empty() ? "" : key.data();
  must(EVP_MAC_init(context_->keyed.get(), reinterpret_cast<const unsigned char*>(bytes), key.size(), params));
}

HmacSha256::HmacSha256(const Sha256& key)
    : HmacSha256(std::string_view(reinterpret_cast<const char*>(key.data()), key.size())) {}
HmacSha256::~HmacSha256() = default;
HmacSha256::HmacSha256(HmacSha256&&) noexcept = default;
HmacSha256& HmacSha256::operator=(HmacSha256&&) noexcept = default;

Sha256 HmacSha256::sign(std::string_view message) const {
  const MacCtx copy(must(EVP_MAC_CTX_dup(context_->keyed.get())));
  Sha256 out;
  size_t length = 0;
  must(EVP_MAC_update(copy.get(), reinterpret_cast<const unsigned char*>(message.data()), message.size()));
  must(EVP_MAC_final(copy.get(), out.data(), &length, out.size()));
  return out;
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

void Md5Stream::reset() { must(EVP_DigestInit_ex2(context_->md.get(), fetched_md5(), nullptr)); }

void Md5Stream::update(std::span<const std::byte> data) {
  must(EVP_DigestUpdate(context_->md.get(), data.data(), data.size()));
}

Md5 Md5Stream::finish() {
  Md5 out;
  must(EVP_DigestFinal_ex(context_->md.get(), out.data(), nullptr));
  return out;
}

}  // namespace larder
