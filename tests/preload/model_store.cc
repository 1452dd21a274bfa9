// An S3 store in trouble, for the store model: two datasets (prefixes a/ and b/) whose objects change, and replies that
// hang, are cut, lie, refuse or crawl, as a seed says. Prints its port, and runs until its standard input ends.
//
//   model_store VERSIONS SEED PERCENT      of the requests that go wrong; in every other stretch of 300 none does
//
// PUT /-/percent/N sets how many go wrong. Requests are counted; what happens to one depends on the seed and its number
// alone. a/ has ETags that are MD5s, so that a wrong byte can be noticed, and now and then sends one; b/ has opaque
// ones. Nothing is sent that no client could tell from the right reply.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <sys/socket.h>

#include <chrono>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/preload/versioned_objects.h"

namespace {

using namespace versioned;

Versions* versions;
uint64_t seed;
std::atomic<uint64_t> requests{0};
std::atomic<int> percent{0};

constexpr uint64_t kStretch = 300;
constexpr auto kHang = std::chrono::milliseconds(1500);  // longer than the clients' stall_timeout_ms

enum class Fault { kNone, kHang, kCut, kReset, kLength, kFlip, kShifted, kWhole, kStatus, kDrip };

// What is drawn for one request.
struct Fate {
  explicit Fate(uint64_t number) : state(mix(seed ^ number * 0x9e3779b97f4a7c15)) {}
  uint64_t below(uint64_t n) { return (state = mix(state)) % n; }
  uint64_t state;
};

std::string etag_of(int dataset, int object, uint32_t version) {
  if (dataset == 1) return "o" + std::to_string(object) + "v" + std::to_string(version) + "-1";
  static std::mutex mutex;
  static std::map<std::pair<int, uint32_t>, std::string> known;
  const std::lock_guard lock(mutex);
  std::string& text = known[{object, version}];
  if (!text.empty()) return text;
  std::string data(size_of(dataset, object, version), 0);
  fill(data.data(), data.size(), 0, seed_of(dataset, object, version));
  unsigned char md5[16];
  EVP_Digest(data.data(), data.size(), md5, nullptr, EVP_md5(), nullptr);
  char hex[3];
  for (unsigned char byte : md5)
    snprintf(hex, sizeof hex, "%02x", byte), text += hex;
  return text;
}

std::string date(int64_t seconds, const char* format) {
  const time_t t = seconds;
  struct tm utc;
  char text[64];
  strftime(text, sizeof text, format, gmtime_r(&t, &utc));
  return text;
}

bool send_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n <= 0) return false;
    data += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

// One request, and its reply. False: the connection ends.
class Exchange {
 public:
  Exchange(int fd, const std::string& head) : fd_(fd), head_(head), fate_(requests.fetch_add(1)) {
    const uint64_t number = requests.load();
    if (number / kStretch % 2 == 1 || fate_.below(100) >= static_cast<uint64_t>(percent.load())) return;
    static constexpr Fault kAll[] = {Fault::kHang,   Fault::kCut,     Fault::kReset, Fault::kLength,
                                     Fault::kFlip,   Fault::kShifted, Fault::kWhole, Fault::kStatus,
                                     Fault::kStatus, Fault::kStatus,  Fault::kDrip};
    fault_ = kAll[fate_.below(std::size(kAll))];
  }

  bool run() {
    const size_t begin = head_.find(' ') + 1;
    const std::string target = head_.substr(begin, head_.find(' ', begin) - begin);
    if (target.rfind("/-/percent/", 0) == 0) {
      percent = atoi(target.c_str() + 11);
      return reply(200, "", "");
    }
    if (fault_ == Fault::kHang) {
      std::this_thread::sleep_for(kHang);
      return false;
    }
    if (fault_ == Fault::kStatus) return refuse();
    const size_t query = target.find('?');
    return query != std::string::npos ? list(target.substr(query)) : get(target);
  }

 private:
  std::string header(const char* name) const {
    const size_t at = head_.find(std::string("\r\n") + name + ": ");
    if (at == std::string::npos) return {};
    const size_t from = at + 4 + strlen(name);
    return head_.substr(from, head_.find("\r\n", from) - from);
  }

  bool refuse() {
    static constexpr struct {
      int status;
      const char* code;
    } kRefusals[] = {{403, "AccessDenied"}, {412, "PreconditionFailed"}, {404, "NoSuchKey"},
                     {503, "SlowDown"},     {500, "InternalError"},      {429, "TooManyRequests"}};
    const auto& r = kRefusals[fate_.below(std::size(kRefusals))];
    return reply(r.status, "",
                 std::string("<Error><Code>") + r.code + "</Code><Message>a drawn fault</Message></Error>");
  }

  bool list(const std::string& query) {
    const int dataset = query.find("prefix=b") != std::string::npos;
    std::string body = "<ListBucketResult><KeyCount>60</KeyCount><IsTruncated>false</IsTruncated>";
    std::map<std::string, int> sorted;
    for (int i = 0; i < kObjects; ++i)
      sorted[name_of(i)] = i;
    for (auto& [name, i] : sorted) {
      const uint32_t v = versions->now[dataset][i];
      body += "<Contents><Key>" + std::string(dataset ? "b/" : "a/") + name + "</Key><ETag>\"" +
              etag_of(dataset, i, v) + "\"</ETag><Size>" + std::to_string(size_of(dataset, i, v)) +
              "</Size><LastModified>" + date(time_of(v), "%Y-%m-%dT%H:%M:%SZ") + "</LastModified></Contents>";
    }
    return reply(200, "", body + "</ListBucketResult>");
  }

  // "/model/a/d0/f00"
  bool get(const std::string& target) {
    const int dataset = target.size() > 7 && target[7] == 'b';
    const int object = target.size() > 13 ? atoi(target.c_str() + 13) : -1;
    if (object < 0 || object >= kObjects) return reply(404, "", "<Error><Code>NoSuchKey</Code></Error>");
    std::atomic<uint32_t>& now = versions->now[dataset][object];
    if (percent > 0 && fate_.below(150) == 0) ++now;
    const uint32_t v = now;
    const uint64_t size = size_of(dataset, object, v);
    const std::string etag = "\"" + etag_of(dataset, object, v) + "\"", match = header("if-match");
    if (!match.empty() && match != etag) return reply(412, "", "<Error><Code>PreconditionFailed</Code></Error>");
    unsigned long long first = 0, last = size == 0 ? 0 : size - 1;
    const bool ranged =
        sscanf(header("range").c_str(), "bytes=%llu-%llu", &first, &last) == 2 && fault_ != Fault::kWhole;
    if (fault_ == Fault::kWhole) first = 0, last = size == 0 ? 0 : size - 1;
    if (last >= size && size > 0) last = size - 1;
    std::string body(size == 0 ? 0 : last - first + 1, 0);
    fill(body.data(), body.size(), first, seed_of(dataset, object, v));
    if (fault_ == Fault::kFlip && dataset == 0 && !ranged && !body.empty()) body[fate_.below(body.size())] ^= 1;
    std::string more = "ETag: " + etag + "\r\nLast-Modified: " + date(time_of(v), "%a, %d %b %Y %H:%M:%S GMT") + "\r\n";
    if (ranged) {
      const unsigned long long shift = fault_ == Fault::kShifted ? 1 : 0;
      more += "Content-Range: bytes " + std::to_string(first + shift) + "-" + std::to_string(last + shift) + "/" +
              std::to_string(size) + "\r\n";
    }
    return reply(ranged ? 206 : 200, more, body);
  }

  bool reply(int status, const std::string& headers, const std::string& body) {
    const size_t told = body.size() + (fault_ == Fault::kLength ? 1 + fate_.below(9) : 0);
    const std::string head = "HTTP/1.1 " + std::to_string(status) +
                             " Drawn\r\nContent-Length: " + std::to_string(told) + "\r\n" + headers + "\r\n";
    if (!send_all(fd_, head.data(), head.size())) return false;
    if (head_.starts_with("HEAD")) return fault_ == Fault::kNone;
    if (fault_ == Fault::kCut || fault_ == Fault::kReset) return cut(body);
    if (fault_ == Fault::kDrip) return drip(body);
    return send_all(fd_, body.data(), body.size()) && fault_ != Fault::kLength;
  }

  bool cut(const std::string& body) {
    send_all(fd_, body.data(), fate_.below(body.size() + 1));
    const struct linger hard = {1, 0};
    if (fault_ == Fault::kReset) setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    return false;
  }

  // A byte now and then, for longer than the clients' patience, and then the rest.
  bool drip(const std::string& body) {
    size_t sent = 0;
    for (; sent < body.size() && sent < 12; ++sent) {
      if (!send_all(fd_, &body[sent], 1)) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return send_all(fd_, body.data() + sent, body.size() - sent);
  }

  const int fd_;
  const std::string& head_;
  Fate fate_;
  Fault fault_ = Fault::kNone;
};

void serve(int fd) {
  const int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  std::string head;
  char piece[4096];
  for (;;) {
    const ssize_t n = recv(fd, piece, sizeof piece, 0);
    if (n <= 0) break;
    head.append(piece, static_cast<size_t>(n));
    const size_t end = head.find("\r\n\r\n");
    if (end == std::string::npos) continue;
    const std::string one_head = head.substr(0, end + 4);
    head.erase(0, end + 4);
    if (!Exchange(fd, one_head).run()) break;
  }
  close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4 || (versions = map_versions(argv[1])) == nullptr) return 2;
  seed = strtoull(argv[2], nullptr, 10);
  percent = atoi(argv[3]);
  for (auto& dataset : versions->now)
    for (auto& version : dataset)
      version = 1;
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener, 512) != 0) return 1;
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  std::thread([] {
    char c;
    while (read(0, &c, 1) > 0) {
    }
    _exit(0);
  }).detach();
  for (;;)
    std::thread(serve, accept(listener, nullptr, nullptr)).detach();
}
