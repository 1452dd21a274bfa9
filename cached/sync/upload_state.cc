#include "cached/sync/upload_state.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cached/base/fd.h"
#include "larder/hash.h"

namespace larder {
namespace {

constexpr std::string_view kMagic = "larder-upload 1";

}  // namespace

UploadState::UploadState(std::string directory, std::string target)
    : directory_(std::move(directory)), target_(std::move(target)) {}

std::string UploadState::default_directory() {
  auto from = [](const char* name) { return std::string(getenv(name) ? getenv(name) : ""); };
  std::string state = from("XDG_STATE_HOME");
  if (state.empty() && !from("HOME").empty()) state = from("HOME") + "/.local/state";
  return state.starts_with('/') ? state + "/larder/sync" : std::string();
}

// The name is a hash of all that must be the same, so a file that is found fits.
std::string UploadState::path(const NewObject& object) const {
  const std::string text =
      fmt::format("{}\n{}\n{}\n{}\n{}", target_, object.key, object.version, object.size, object.part_bytes);
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{}/{:016x}{:016x}", directory_, hash.high64, hash.low64);
}

std::optional<std::string> UploadState::find(const NewObject& object) const {
  if (directory_.empty()) return std::nullopt;
  std::ifstream file(path(object));
  std::string magic, upload;
  if (!std::getline(file, magic) || magic != kMagic || !std::getline(file, upload) || upload.empty())
    return std::nullopt;
  return upload;
}

void UploadState::save(const NewObject& object, const std::string& upload) const {
  if (directory_.empty() || upload.find('\n') != std::string::npos) return;
  std::error_code ignored;
  std::filesystem::create_directories(directory_, ignored);
  const std::string name = path(object), temporary = name + fmt::format(".{}", getpid());
  const std::string text = fmt::format("{}\n{}\n", kMagic, upload);
  {
    const Fd file(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!file.valid() || write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) return;
  }
  rename(temporary.c_str(), name.c_str());
}

void UploadState::erase(const NewObject& object) const {
  if (!directory_.empty()) unlink(path(object).c_str());
}

}  // namespace larder
