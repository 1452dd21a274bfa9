// Keeps keys on disk: what a sync will remove once it knows that it may. Memory does not grow with their number.
// Threads: one at a time. Errors are those of the temporary file.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "larder/result.h"

namespace larder {

class KeySpool {
 public:
  Status add(std::string_view key);
  uint64_t count() const { return count_; }
  // After the last add(): the keys in their order. False at the end.
  Status rewind();
  Result<bool> next(std::string& key);

 private:
  struct Close {
    void operator()(FILE* file) const { fclose(file); }
  };
  std::unique_ptr<FILE, Close> file_;  // without a name; made by the first add()
  uint64_t count_ = 0, read_ = 0;
};

}  // namespace larder
