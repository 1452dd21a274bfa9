#include "cached/meta/redis/redis_tls.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr size_t kPiece = 64 * 1024;

std::string openssl_text() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code ? ERR_reason_error_string(code) : nullptr;
  return reason ? reason : "unknown error";
}

bool is_address(const std::string& host) {
  std::array<unsigned char, 16> bytes;
  return ::inet_pton(AF_INET, host.c_str(), bytes.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), bytes.data()) == 1;
}

Error file_error(const char* option, const std::string& path) {
  return make_error(EINVAL, fmt::format("{} '{}': {}", option, printable(path), openssl_text()));
}

Status load_files(SSL_CTX* context, const RedisTls& tls) {
  if (tls.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context) != 1
                          : SSL_CTX_load_verify_locations(context, tls.ca_file.c_str(), nullptr) != 1)
    return file_error("tls-ca-cert-file", tls.ca_file);
  if (!tls.cert_file.empty() && SSL_CTX_use_certificate_chain_file(context, tls.cert_file.c_str()) != 1)
    return file_error("tls-cert-file", tls.cert_file);
  const std::string& key = tls.key_file.empty() ? tls.cert_file : tls.key_file;
  if (!key.empty() && SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error("tls-key-file", key);
  return {};
}

}  // namespace

void RedisTlsSession::Free::operator()(ssl_st* ssl) const {
  SSL_free(ssl);
}
void RedisTlsSession::Free::operator()(ssl_ctx_st* context) const {
  SSL_CTX_free(context);
}

Status RedisTlsSession::set_up(const std::string& host, const RedisTls& tls) {
  context_.reset(SSL_CTX_new(TLS_client_method()));
  if (!context_) return make_error(ENOMEM, "TLS: out of memory");
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
  if (auto status = load_files(context_.get(), tls); !status) return status;
  SSL_CTX_set_verify(context_.get(), tls.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
  ssl_.reset(SSL_new(context_.get()));
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  if (!ssl_ || !in || !out) {
    BIO_free(in);
    BIO_free(out);
    return make_error(ENOMEM, "TLS: out of memory");
  }
  SSL_set_bio(ssl_.get(), in, out);  // owned by ssl_ from here on
  const std::string& name = tls.server_name.empty() ? host : tls.server_name;
  const bool address = is_address(name);
  const int named = address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl_.get()), name.c_str())
                            : SSL_set1_host(ssl_.get(), name.c_str());
  if (named != 1) return make_error(EINVAL, fmt::format("TLS: '{}' is no name of a server", printable(name)));
  if (!address) SSL_set_tlsext_host_name(ssl_.get(), name.c_str());
  SSL_set_connect_state(ssl_.get());
  return {};
}

Result<std::unique_ptr<RedisTlsSession>> RedisTlsSession::start(RedisSocket& socket, const std::string& host,
                                                                const RedisTls& tls, Deadline deadline) {
  std::unique_ptr<RedisTlsSession> session(new RedisTlsSession(socket));
  if (auto status = session->set_up(host, tls); !status) return status.error();
  while (true) {
    ERR_clear_error();
    const int done = SSL_do_handshake(session->ssl_.get());
    if (done == 1) break;
    if (auto status = session->step(done, deadline, "TLS handshake"); !status) return status.error();
  }
  if (auto status = session->flush(deadline); !status) return status.error();
  return session;
}

// Serves an SSL_ function that did not succeed: sends what it wrote, receives what it lacks.
Status RedisTlsSession::step(int result, Deadline deadline, const char* doing) {
  const int want = SSL_get_error(ssl_.get(), result);
  const std::string why = want == SSL_ERROR_SSL ? openssl_text() : "";
  Status sent = flush(deadline);  // an alert for the peer, too
  if (want == SSL_ERROR_WANT_READ) return sent ? feed(deadline) : sent;
  if (want == SSL_ERROR_WANT_WRITE) return sent;
  if (want == SSL_ERROR_ZERO_RETURN) return make_error(ECONNRESET, "the connection was closed");
  const long trust = SSL_get_verify_result(ssl_.get());
  if (trust != X509_V_OK)
    return make_error(EACCES, fmt::format("{}: the server's certificate is not trusted: {}; give tls-ca-cert-file",
                                          doing, X509_verify_cert_error_string(trust)));
  return make_error(EIO, fmt::format("{}: {}", doing, why.empty() ? "the connection broke" : why));
}

Status RedisTlsSession::flush(Deadline deadline) {
  BIO* out = SSL_get_wbio(ssl_.get());
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out, &bytes);
  if (size <= 0) return {};
  Status status = socket_.send_plain({bytes, static_cast<size_t>(size)}, deadline);
  (void)BIO_reset(out);
  return status;
}

Status RedisTlsSession::feed(Deadline deadline) {
  std::array<char, kPiece> bytes;
  auto n = socket_.receive_plain(bytes.data(), bytes.size(), deadline);
  if (!n) return n.error();
  if (BIO_write(SSL_get_rbio(ssl_.get()), bytes.data(), static_cast<int>(*n)) != static_cast<int>(*n))
    return make_error(ENOMEM, "TLS: out of memory");
  return {};
}

Status RedisTlsSession::write(std::string_view bytes, Deadline deadline) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPiece);
    ERR_clear_error();
    const int n = SSL_write(ssl_.get(), piece.data(), static_cast<int>(piece.size()));
    Status status = n > 0 ? flush(deadline) : step(n, deadline, "TLS");
    if (!status) return status;
    if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Result<size_t> RedisTlsSession::read(char* to, size_t capacity, Deadline deadline) {
  while (true) {
    ERR_clear_error();
    const int n = SSL_read(ssl_.get(), to, static_cast<int>(std::min(capacity, kPiece)));
    if (n > 0) return static_cast<size_t>(n);
    if (auto status = step(n, deadline, "TLS"); !status) return status.error();
  }
}

}  // namespace larder
