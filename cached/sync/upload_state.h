// Remembers uploads in parts across processes, one small file each, so that the next sync continues where an
// interrupted one stopped. The files are in $XDG_STATE_HOME/larder/sync (~/.local/state/larder/sync), mode 0600.
// Without a home directory nothing is kept, and an interrupted upload starts again. Threads: any.
#pragma once
#include <optional>
#include <string>

#include "cached/store/api/upload.h"

namespace larder {

class UploadState {
 public:
  // `target`: the store's endpoint and URL. `directory`: where the files are; empty: keep nothing.
  UploadState(std::string directory, std::string target);
  // The id of an upload of exactly this content in parts of this size.
  std::optional<std::string> find(const NewObject& object) const;
  void save(const NewObject& object, const std::string& upload) const;
  void erase(const NewObject& object) const;

  static std::string default_directory();

 private:
  std::string path(const NewObject& object) const;
  const std::string directory_, target_;
};

}  // namespace larder
