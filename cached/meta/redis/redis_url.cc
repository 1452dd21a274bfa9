#include "cached/meta/redis/redis_url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <optional>

#include "cached/base/text.h"

namespace larder {
namespace {

constexpr uint16_t kRedisPort = 6379;
constexpr uint16_t kSentinelPort = 26379;
constexpr size_t kMaxPassword = 4096;

Error bad(std::string_view what) {
  return make_error(EINVAL, fmt::format("metadata URL: {}", what));
}

template <typename T>
bool number(std::string_view text, T min, T max, T& out) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && out >= min && out <= max;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

// A '%' that encodes nothing stays as it is.
std::string decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool encoded =
        text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
    out += encoded ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2])) : text[i];
    if (encoded) i += 2;
  }
  return out;
}

Result<std::string> read_password(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (!file || !std::getline(file, text))
    return bad(fmt::format("the password file '{}' cannot be read, or is empty", printable(path)));
  if (!text.empty() && text.back() == '\r') text.pop_back();
  if (text.empty() || text.size() > kMaxPassword)
    return bad(fmt::format("the first line of the password file '{}' must be the password", printable(path)));
  return text;
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

struct Parts {
  bool tls = false, is_unix = false;
  std::optional<std::string_view> login;
  std::string_view hosts, db;
  std::map<std::string, std::string, std::less<>> options;
};

Result<Parts> split(std::string_view text) {
  Parts p;
  const size_t colon = text.find("://");
  const std::string_view scheme = text.substr(0, std::min(colon, text.size()));
  p.tls = scheme == "rediss";
  p.is_unix = scheme == "unix";
  if (colon == std::string_view::npos || (scheme != "redis" && !p.tls && !p.is_unix))
    return bad("it must begin with redis://, rediss:// or unix://");
  std::string_view rest = text.substr(colon + 3), query;
  if (const size_t mark = rest.find('?'); mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (query.find('@') != std::string_view::npos)
    return bad("there is an '@' after the '?'; write '?' in a password as %3F and '@' in an option as %40");
  if (const size_t at = rest.rfind('@'); at != std::string_view::npos) {
    p.login = rest.substr(0, at);
    rest = rest.substr(at + 1);
  }
  p.hosts = rest;
  if (const size_t slash = rest.find('/'); slash != std::string_view::npos && !p.is_unix) {
    p.hosts = rest.substr(0, slash);
    p.db = rest.substr(slash + 1);
  }
  while (!query.empty()) {
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(std::min(query.size(), pair.size() + 1));
    const size_t equals = pair.find('=');
    if (equals == std::string_view::npos) return bad(fmt::format("option '{}' needs a value", printable(pair, 60)));
    p.options[std::string(pair.substr(0, equals))] = decoded(pair.substr(equals + 1));
  }
  return p;
}

std::vector<std::string_view> split_commas(std::string_view text) {
  std::vector<std::string_view> out;
  while (true) {
    const size_t comma = text.find(',');
    out.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    text.remove_prefix(comma + 1);
  }
}

// As JuiceFS tells them apart: in "master,s1,s2:26379" a comma comes before any colon.
bool names_sentinels(std::string_view hosts) {
  const size_t comma = hosts.find(','), colon = hosts.find(':');
  return comma != std::string_view::npos && comma < colon;
}

Status set_hosts(RedisUrl& url, std::string_view hosts) {
  std::vector<std::string_view> list = split_commas(hosts);
  uint16_t port = kRedisPort;
  if (names_sentinels(hosts)) {
    url.master = list.front();
    list.erase(list.begin());
    if (url.master.empty())
      return bad("the name of the master is empty; write redis://MASTER,SENTINEL1,SENTINEL2:26379/0");
    auto last = parse_redis_endpoint(list.back(), kSentinelPort);
    if (last)
      port = last->port;  // the last port applies to all
    else
      port = kSentinelPort;
  }
  for (std::string_view host : list) {
    auto endpoint = parse_redis_endpoint(host, port);
    if (!endpoint) return bad(fmt::format("host '{}': write host:port", printable(host, 100)));
    url.endpoints.push_back(*endpoint);
  }
  return {};
}

bool valid_prefix(std::string_view prefix) {
  auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("._-:").find(c) != std::string_view::npos;
  };
  return prefix.size() <= 64 && std::all_of(prefix.begin(), prefix.end(), good);
}

Status set_option(RedisUrl& url, const Parts& parts, const std::string& key, const std::string& value) {
  auto wrong = [&](const char* want) {
    return bad(fmt::format("option {}='{}': {}", key, printable(value, 100), want));
  };
  const std::map<std::string, std::string*> tls = {{"tls-ca-cert-file", &url.tls.ca_file},
                                                   {"tls-cert-file", &url.tls.cert_file},
                                                   {"tls-key-file", &url.tls.key_file},
                                                   {"tls-server-name", &url.tls.server_name}};
  if (key == "prefix") {
    if (!valid_prefix(value)) return wrong("use up to 64 letters, digits and . _ - :");
    url.prefix = value;
  } else if (key == "timeout") {
    if (!number<uint32_t>(value, 10, 600'000, url.timeout_ms)) return wrong("give 10 to 600000 milliseconds");
  } else if (key == "db" && parts.is_unix) {
    if (!number(value, 0, 65535, url.db)) return wrong("give a number");
  } else if (auto it = tls.find(key); it != tls.end()) {
    if (!parts.tls) return wrong("it needs rediss://");
    *it->second = value;
  } else if (key == "insecure-skip-verify") {
    if (!parts.tls || (value != "true" && value != "false")) return wrong("true or false, with rediss://");
    url.tls.verify = value == "false";
  } else if (key != "password-file" && key != "sentinel-password-file") {
    return bad(fmt::format("there is no option '{}'", printable(key, 60)));
  }
  return {};
}

Status set_passwords(RedisUrl& url, const Parts& parts) {
  auto given = [&](const char* option, const char* variable) -> Result<std::string> {
    auto file = parts.options.find(option);
    return file != parts.options.end() ? read_password(file->second) : Result<std::string>(environment(variable));
  };
  auto elsewhere = given("password-file", "REDIS_PASSWORD");
  if (!elsewhere) return elsewhere.error();
  auto sentinel = given("sentinel-password-file", "SENTINEL_PASSWORD");
  if (!sentinel) return sentinel.error();
  url.sentinel_password = *sentinel;
  if (parts.login) {
    const size_t colon = parts.login->find(':');
    if (colon != std::string_view::npos) {
      url.user = decoded(parts.login->substr(0, colon));
      url.password = decoded(parts.login->substr(colon + 1));
    } else {
      (elsewhere->empty() ? url.password : url.user) = decoded(*parts.login);
    }
  }
  if (url.password.empty()) url.password = *elsewhere;
  if (!url.user.empty() && url.password.empty())
    return bad("there is a user and no password; set REDIS_PASSWORD or the option password-file");
  return {};
}

}  // namespace

std::string RedisEndpoint::text() const {
  if (is_unix()) return host;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port) : fmt::format("[{}]:{}", host, port);
}

std::string RedisUrl::text() const {
  if (endpoints.front().is_unix())
    return fmt::format("unix://{}{}", endpoints.front().host, db ? fmt::format("?db={}", db) : "");
  std::string out = tls.on ? "rediss://" : "redis://";
  if (!master.empty()) out += master + ",";
  for (size_t i = 0; i < endpoints.size(); ++i)
    out += (i ? "," : "") + endpoints[i].text();
  return out + fmt::format("/{}", db) + (prefix.empty() ? "" : "?prefix=" + prefix);
}

Result<RedisEndpoint> parse_redis_endpoint(std::string_view text, uint16_t default_port) {
  RedisEndpoint out;
  out.port = default_port;
  std::string_view host = text, port;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == std::string_view::npos) return bad("an IPv6 address needs its ']'");
    host = text.substr(1, end - 1);
    if (end + 1 < text.size() && text[end + 1] != ':') return bad("a ':' and a port must follow ']'");
    port = text.substr(std::min(text.size(), end + 2));
  } else if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
  }
  auto plain = [](char c) { return static_cast<unsigned char>(c) > ' ' && c != '/' && c != '[' && c != 0x7f; };
  if (host.empty() || host.size() > 255 || !std::all_of(host.begin(), host.end(), plain))
    return bad("a host's name is missing or wrong");
  if (!port.empty() && !number<uint16_t>(port, 1, 65535, out.port)) return bad("a port must be a number up to 65535");
  out.host = host;
  return out;
}

Result<RedisUrl> parse_redis_url(std::string_view text) {
  auto parts = split(text);
  if (!parts) return parts.error();
  RedisUrl url;
  url.tls.on = parts->tls;
  if (parts->is_unix) {
    const std::string path = decoded(parts->hosts);
    if (!path.starts_with('/') || path.size() > 107)
      return bad("unix:// needs the absolute path of a socket, of at most 107 bytes");
    url.endpoints.push_back({path, 0});
  } else if (auto status = set_hosts(url, parts->hosts); !status) {
    return status.error();
  }
  if (!parts->db.empty() && !number(parts->db, 0, 65535, url.db))
    return bad(fmt::format("database '{}' is not a number", printable(parts->db, 60)));
  for (const auto& [key, value] : parts->options)
    if (auto status = set_option(url, *parts, key, value); !status) return status.error();
  if (auto status = set_passwords(url, *parts); !status) return status.error();
  return url;
}

}  // namespace larder
