// Real servers for tests: SeaweedFS (tests/tools/s3_server.py) and the fault proxy, one of each for the whole test
// program.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "cached/store/api/store.h"

namespace larder::testing {

// A child that prints one JSON line, then runs until its stdin closes.
class JsonChild {
 public:
  explicit JsonChild(std::vector<std::string> command);
  ~JsonChild();
  JsonChild(const JsonChild&) = delete;
  JsonChild& operator=(const JsonChild&) = delete;
  const nlohmann::json& line() const { return line_; }

 private:
  int pid_ = -1;
  int stdin_ = -1;
  nlohmann::json line_;
};

struct HttpAnswer {
  int status = 0;
  std::string body;
};
HttpAnswer http(const std::string& method, const std::string& url, const std::string& body = {},
                const std::vector<std::string>& headers = {});

// A temporary directory that goes away.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class LiveS3 {
 public:
  // Null, with the reason in `why`, if there is no server to run.
  static LiveS3* instance(std::string& why);
  std::string endpoint, access_key, secret_key;
  StoreOptions options() const;  // straight to the server
  void make_bucket(const std::string& bucket);
  void put(const std::string& bucket, const std::string& key, const std::string& data);

 private:
  TempDir dir_;
  std::unique_ptr<JsonChild> child_;
};

// A proxy of its own in front of a store.
class FaultProxy {
 public:
  explicit FaultProxy(const std::string& target);
  std::string endpoint;
  void rules(const nlohmann::json& rules);
  void latency(int ms);
  void clear_log();
  nlohmann::json log();

 private:
  std::unique_ptr<JsonChild> child_;
};

// Runs list()/get() to their end.
Result<std::vector<ObjectInfo>> list_all(Store& store);
struct Got {
  Status status;
  std::string data;
  int pieces = 0;
};
Got get_range(Store& store, const ObjectInfo& object, uint64_t offset, uint64_t length, bool demand = true);
inline Got get_all(Store& store, const ObjectInfo& object) {
  return get_range(store, object, 0, object.size);
}

std::string pattern(size_t bytes, uint64_t seed = 1);  // reproducible bytes without repetition

}  // namespace larder::testing
