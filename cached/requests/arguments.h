// Reads the members of an admin request. What is missing or of another type is an error; the first one is kept, and a
// value that does no harm is returned, so that a command reads all that it needs and asks status() once. One thread.
#pragma once
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "cached/store/api/store.h"
#include "larder/result.h"

namespace larder {

class Arguments {
 public:
  // The object outlives this.
  explicit Arguments(const nlohmann::json& args) : args_(args) {}

  std::string text(const char* key);
  std::string text_or_empty(const char* key);
  bool flag(const char* key, bool otherwise);
  // Above 0.
  uint64_t number(const char* key, uint64_t otherwise);
  // An object whose values are texts; absent or null: empty.
  StoreOptions texts(const char* key);
  // "path", or "paths"; at least one.
  std::vector<std::string> paths();

  // EINVAL: the first error of all that was read.
  const Status& status() const { return status_; }

 private:
  void wrong(std::string message);

  const nlohmann::json& args_;
  Status status_;
};

}  // namespace larder
