// The memory that the cache can have: the node's, and what the control groups of this process leave of it (v1, v2). A
// tmpfs does not say: its own size may be larger than both, and its pages are charged to whoever writes them.
//
// No state; any thread. What cannot be read does not limit.
#pragma once
#include <cstdint>
#include <string>

namespace larder {

struct Memory {
  uint64_t total = UINT64_MAX;      // of the node
  uint64_t available = UINT64_MAX;  // without swapping: of the node, and within the group's limit
  uint64_t limit = UINT64_MAX;      // of the tightest group; UINT64_MAX: none
  std::string limited_by;           // that group's file
};

// `root` is the folder above proc/ and sys/; tests have their own.
Memory memory(const std::string& root = "/");

// Memory::available alone: about 10 us, for who asks often.
uint64_t available_memory();

}  // namespace larder
