// The processes that `larder run` has become. A private daemon stays while one lives: it may be a static program that
// starts programs under the library later. Thread-safe.
#pragma once
#include <sys/types.h>

#include <utility>
#include <vector>

#include "cached/base/fd.h"
#include "cached/base/mutex.h"

namespace larder {

class Runs {
 public:
  // The process that asked: alive, since it waits for the reply. Not noted where the kernel has no pidfd (before 5.3),
  // or where its pid means nothing here (another pid namespace).
  void add(pid_t pid) EXCLUDES(mutex_);
  // True while one of them lives.
  bool alive() EXCLUDES(mutex_);

 private:
  Mutex mutex_;
  std::vector<std::pair<pid_t, Fd>> processes_ GUARDED_BY(mutex_);  // pid, pidfd
};

}  // namespace larder
