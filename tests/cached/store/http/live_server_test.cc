// The test servers themselves: the proxy must break what it is told to break, or the tests behind it prove nothing.
#include "tests/cached/store/http/live_server.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <filesystem>
#include <future>
#include <random>
#include <stdexcept>
#include <thread>

#include "cached/store/api/percent.h"
#include "cached/store/auth/sigv4.h"

namespace larder::testing {
namespace {

size_t collect(char* data, size_t size, size_t count, void* out) {
  static_cast<std::string*>(out)->append(data, size * count);
  return size * count;
}

std::string read_line(int fd) {
  std::string line;
  char c;
  while (read(fd, &c, 1) == 1 && c != '\n')
    line.push_back(c);
  return line;
}

}  // namespace

JsonChild::JsonChild(std::vector<std::string> command) {
  int in[2], out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  std::vector<char*> argv;
  for (auto& word : command)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  if (posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environ) != 0) pid_ = -1;
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  stdin_ = in[1];
  line_ = nlohmann::json::parse(read_line(out[0]), nullptr, false);
  close(out[0]);
}

JsonChild::~JsonChild() {
  if (stdin_ >= 0) close(stdin_);
  if (pid_ > 0) waitpid(pid_, nullptr, 0);
}

HttpAnswer http(const std::string& method, const std::string& url, const std::string& body,
                const std::vector<std::string>& headers) {
  HttpAnswer out;
  const std::unique_ptr<CURL, void (*)(CURL*)> easy(curl_easy_init(), curl_easy_cleanup);
  curl_slist* list = nullptr;
  for (auto& line : headers)
    list = curl_slist_append(list, line.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy.get(), CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy.get(), CURLOPT_PROXY, "");
  curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, list);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, &collect);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &out.body);
  if (method != "GET") {
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy.get(), CURLOPT_CUSTOMREQUEST, method.c_str());
  }
  if (curl_easy_perform(easy.get()) == CURLE_OK) {
    long status = 0;
    curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
    out.status = static_cast<int>(status);
  }
  curl_slist_free_all(list);
  return out;
}

TempDir::TempDir() {
  std::string pattern_text = (std::filesystem::temp_directory_path() / "larder-test-XXXXXX").string();
  if (mkdtemp(pattern_text.data()) == nullptr) throw std::runtime_error("mkdtemp");
  path_ = pattern_text;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

LiveS3* LiveS3::instance(std::string& why) {
  static std::string failure;
  static const std::unique_ptr<LiveS3> server = []() -> std::unique_ptr<LiveS3> {
    if (access("tests/tools/s3_server.py", R_OK) != 0) {
      failure = "not run from the top of the source tree (tests/tools/s3_server.py is not here)";
      return nullptr;
    }
    const char* venv = getenv("LARDER_TEST_VENV");
    const std::string where = venv ? venv : "build/venv";
    if (access((where + "/bin/weed").c_str(), X_OK) != 0) {
      failure = "no S3 server: " + where + "/bin/weed is missing (tests/tools/venv.sh makes it)";
      return nullptr;
    }
    std::unique_ptr<LiveS3> out(new LiveS3);
    out->child_.reset(
        new JsonChild({"python3", "tests/tools/s3_server.py", "--dir", out->dir_.path(), "--venv", where}));
    if (!out->child_->line().is_object())
      throw std::runtime_error("the S3 server did not start");  // a failure, no skip
    out->endpoint = out->child_->line()["endpoint"];
    out->access_key = out->child_->line()["access_key"];
    out->secret_key = out->child_->line()["secret_key"];
    return out;
  }();
  why = failure;
  return server.get();
}

StoreOptions LiveS3::options() const {
  return {{"endpoint", endpoint}, {"region", "us-east-1"}, {"access_key", access_key}, {"secret_key", secret_key}};
}

void LiveS3::make_bucket(const std::string& bucket) {
  put(bucket, "", "");
}

void LiveS3::put(const std::string& bucket, const std::string& key, const std::string& data) {
  SigningRequest request;
  request.method = "PUT";
  request.path = "/" + bucket + (key.empty() ? "" : "/" + percent_encode(key, true));
  request.payload_hash = kUnsignedPayload;
  const int64_t now = time(nullptr);
  request.headers = {
      {"host", endpoint.substr(7)}, {"x-amz-content-sha256", request.payload_hash}, {"x-amz-date", amz_date(now)}};
  SigV4 signer;
  const std::string authorization = signer.authorization(request, {access_key, secret_key, "", 0}, "us-east-1", now);
  const auto send = [&] {
    return http("PUT", endpoint + request.path, data,
                {"x-amz-content-sha256: " + request.payload_hash, "x-amz-date: " + amz_date(now),
                 "Authorization: " + authorization, "Expect:"});
  };
  auto answer = send();
  // SeaweedFS makes volumes for a new bucket at its first object, and says 500 where that takes too long on a busy
  // machine.
  for (int i = 0; i < 20 && answer.status == 500; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    answer = send();
  }
  if (answer.status != 200 && answer.status != 409)
    throw std::runtime_error("PUT " + bucket + "/" + key + ": " + answer.body);
}

FaultProxy::FaultProxy(const std::string& target)
    : child_(new JsonChild({"python3", "tests/tools/fault_proxy.py", "--target", target})) {
  endpoint = child_->line()["endpoint"];
}

void FaultProxy::rules(const nlohmann::json& rules) {
  http("PUT", endpoint + "/__fault__/rules", rules.dump());
}
void FaultProxy::latency(int ms) {
  http("PUT", endpoint + "/__fault__/latency?ms=" + std::to_string(ms));
}
void FaultProxy::clear_log() {
  http("DELETE", endpoint + "/__fault__/log");
}
nlohmann::json FaultProxy::log() {
  return nlohmann::json::parse(http("GET", endpoint + "/__fault__/log").body);
}

Result<std::vector<ObjectInfo>> list_all(Store& store) {
  std::vector<ObjectInfo> out;
  auto status = store.list([&](std::vector<ObjectInfo>&& page) -> Status {
    for (auto& object : page)
      out.push_back(std::move(object));
    return {};
  });
  if (!status.ok()) return status.error();
  return out;
}

Got get_range(Store& store, const ObjectInfo& object, uint64_t offset, uint64_t length, bool demand) {
  Got out;
  std::promise<Status> done;
  GetRequest request;
  request.key = object.key;
  request.etag = object.etag;
  request.mtime_ns = object.mtime_ns;
  request.offset = offset;
  request.length = length;
  request.object_size = object.size;
  request.demand = demand;
  request.on_data = [&](std::span<const std::byte> data) -> Status {
    out.data.append(reinterpret_cast<const char*>(data.data()), data.size());
    ++out.pieces;
    return {};
  };
  request.on_done = [&](Status status) { done.set_value(std::move(status)); };
  store.get(std::move(request));
  out.status = done.get_future().get();
  return out;
}

std::string pattern(size_t bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string out(bytes + 8, '\0');
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = random();
    memcpy(&out[i], &word, 8);
  }
  out.resize(bytes);
  return out;
}

TEST(FaultProxy, BreaksWhatItIsToldAndCounts) {
  std::string why;
  LiveS3* server = LiveS3::instance(why);
  if (server == nullptr) GTEST_SKIP() << why;
  FaultProxy proxy(server->endpoint);
  EXPECT_EQ(http("GET", proxy.endpoint + "/nobucket/x").status, 403) << "unsigned: refused by the real server";
  proxy.rules(
      nlohmann::json::array({{{"match", "^GET /b"}, {"fault", "status"}, {"status", 418}, {"skip", 1}, {"count", 1}}}));
  EXPECT_EQ(http("GET", proxy.endpoint + "/bucket/x").status, 403);
  EXPECT_EQ(http("GET", proxy.endpoint + "/bucket/x").status, 418);
  EXPECT_EQ(http("GET", proxy.endpoint + "/bucket/x").status, 403);
  auto log = proxy.log();
  EXPECT_EQ(log["paths"]["GET /bucket/x"], 3);
  EXPECT_EQ(log["faults"]["status"], 1);
}

}  // namespace larder::testing
