// The URL of a Redis, as users of JuiceFS write it:
//
//   redis[s]://[user:password@]host[:port][/db][?options]               standalone, or one node of a Cluster
//   redis[s]://[user:password@]master,sentinel1,sentinel2[:port][/db]   Sentinel: the first comma is before any colon
//   redis[s]://[user:password@]host1:port,host2:port[/db]               Cluster: some of its nodes
//   unix://[user:password@]/path/to/socket[?db=N]
//
// ":password@" has no user. A single word before the '@' is the password, or the user if the password comes from
// elsewhere. A Cluster has no databases: db N becomes the prefix "dbN:" there, so that two file systems do not meet.
// Passwords come from the URL (percent-encoded; everybody who can read the command line sees it), else the option
// password-file, else the environment's REDIS_PASSWORD; for sentinels sentinel-password-file, else SENTINEL_PASSWORD.
//
// Options: prefix=TENANT (letters, digits, . _ - :), timeout=MILLISECONDS (of one attempt), password-file,
// sentinel-password-file, db (unix only); of rediss: tls-ca-cert-file, tls-cert-file, tls-key-file, tls-server-name,
// insecure-skip-verify=true.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "larder/result.h"

namespace larder {

struct RedisEndpoint {
  std::string host;  // or the path of a Unix socket, with port 0
  uint16_t port = 0;
  bool is_unix() const { return port == 0; }
  std::string text() const;
  bool operator==(const RedisEndpoint&) const = default;
};

struct RedisTls {
  bool on = false;
  bool verify = true;
  std::string ca_file, cert_file, key_file;  // empty: the system's authorities; no certificate of our own
  std::string server_name;                   // empty: the host's name
};

struct RedisUrl {
  std::vector<RedisEndpoint> endpoints;  // at least one; the sentinels if there is a master name
  std::string master;                    // Sentinel only
  std::string user, password, sentinel_password;
  int db = 0;
  std::string prefix;
  uint32_t timeout_ms = 5000;
  RedisTls tls;
  std::string text() const;  // for messages: without user and passwords
};

// EINVAL, with a message that never repeats what may be part of a password.
Result<RedisUrl> parse_redis_url(std::string_view text);

// "host:port", "[v6]:port", or "host" with the default port. The text is untrusted: a redirection, a sentinel's answer.
Result<RedisEndpoint> parse_redis_endpoint(std::string_view text, uint16_t default_port);

}  // namespace larder
