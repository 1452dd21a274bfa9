#include "cached/store/file/file_writer.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "cached/base/text.h"
#include "cached/store/file/beneath.h"
#include "larder/hash.h"

namespace larder {
namespace {

constexpr size_t kMaxName = 255;  // NAME_MAX of every file system that matters

timespec timespec_of(int64_t ns) {
  timespec out{ns / 1'000'000'000, static_cast<long>(ns % 1'000'000'000)};
  if (out.tv_nsec < 0) {
    --out.tv_sec;
    out.tv_nsec += 1'000'000'000;
  }
  return out;
}

Status write_all(int fd, Bytes data, uint64_t offset) {
  while (!data.empty()) {
    const ssize_t done = pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) return os_error("cannot write");
    data = data.subspan(static_cast<size_t>(done));
    offset += static_cast<uint64_t>(done);
  }
  return {};
}

std::string random_name() {
  thread_local std::mt19937_64 random{std::random_device{}()};
  return fmt::format("{}{:016x}.tmp", kUnfinishedPrefix, random());
}

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  std::getline(file, text);
  return text;
}

std::string unfinished_name(const NewObject& object) {
  static const std::string boot = boot_id();
  const std::string text =
      fmt::format("{}\n{}\n{}\n{}\n{}", object.key, object.version, object.size, object.part_bytes, boot);
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return fmt::format("{}{:016x}{:016x}.part", kUnfinishedPrefix, hash.high64, hash.low64);
}

// Gives a finished file its time and its name.
Status publish(int folder, int file, const std::string& from, std::string_view to, int64_t mtime_ns) {
  const timespec times[2] = {{0, UTIME_NOW}, timespec_of(mtime_ns)};
  if (futimens(file, times) != 0) return os_error("cannot set the time");
  if (renameat(folder, from.c_str(), folder, std::string(to).c_str()) != 0) {
    if (errno == EISDIR || errno == EEXIST || errno == ENOTEMPTY)
      return make_error(EISDIR, "a directory is in the file's place");
    return os_error("cannot rename the finished file");
  }
  return {};
}

// Its own, regular, with one name, and nobody else's: what an interrupted run left, or new.
Result<Fd> open_own(int folder, const std::string& name) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    Fd file(openat(folder, name.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666));
    struct stat st {};
    if (file.valid() && fstat(file.get(), &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        st.st_nlink == 1)
      return file;
    if (!file.valid() && errno != ELOOP && errno != ENXIO && errno != EISDIR && errno != EACCES) break;
    if (unlinkat(folder, name.c_str(), 0) != 0) break;
  }
  return os_error("cannot make an unfinished file");
}

}  // namespace

FileWriter::FileWriter(std::string directory)
    : directory_(std::move(directory)), root_(open(directory_.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {}

std::string FileWriter::name(std::string_view key) const {
  return printable(directory_ + "/" + std::string(key), 1200);
}

Result<Fd> FileWriter::folder_of(std::string_view key, bool make) const {
  auto folder = directory_beneath(root_.get(), parent_of(key), make);
  if (!folder.ok()) return make_error(folder.error().code, name(key) + ": " + folder.error().message);
  return folder;
}

Status FileWriter::check_key(std::string_view key) const {
  if (!plain_key(key))
    return make_error(EINVAL, "no file can have this name (an empty part, '.', '..', or a '/' at an end)");
  while (!key.empty()) {
    const std::string_view part = key.substr(0, key.find('/'));
    if (part.size() > kMaxName) return make_error(ENAMETOOLONG, "a part of the name is longer than 255 bytes");
    if (part.starts_with(kUnfinishedPrefix)) return make_error(EINVAL, "the name is one of unfinished files");
    key.remove_prefix(std::min(part.size() + 1, key.size()));
  }
  return {};
}

Status FileWriter::put(const NewObject& object, Bytes data) {
  auto folder = folder_of(object.key, true);
  if (!folder.ok()) return folder.error();
  const std::string temporary = random_name();
  const Fd file(openat(folder->get(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
  if (!file.valid()) return os_error(name(object.key) + ": cannot make a file");
  (void)flock(file.get(), LOCK_EX | LOCK_NB);  // keeps remove_unfinished() of another process away
  Status status = write_all(file.get(), data, 0);
  if (status.ok()) status = publish(folder->get(), file.get(), temporary, name_of(object.key), object.mtime_ns);
  if (status.ok()) return status;
  unlinkat(folder->get(), temporary.c_str(), 0);
  return make_error(status.error().code, name(object.key) + ": " + status.error().message);
}

Result<std::shared_ptr<FileWriter::Unfinished>> FileWriter::open_unfinished(const NewObject& object) {
  auto out = std::make_shared<Unfinished>();
  auto folder = folder_of(object.key, true);
  if (!folder.ok()) return folder.error();
  out->folder = std::move(*folder);
  out->name = unfinished_name(object);
  auto file = open_own(out->folder.get(), out->name);
  if (!file.ok()) return make_error(file.error().code, name(object.key) + ": " + file.error().message);
  out->file = std::move(*file);
  if (flock(out->file.get(), LOCK_EX | LOCK_NB) != 0)
    return make_error(EBUSY, name(object.key) + ": another larder sync is writing it");
  return out;
}

Result<std::string> FileWriter::create_upload(const NewObject& object) {
  auto opened = open_unfinished(object);
  if (!opened.ok()) return opened.error();
  const int fd = (*opened)->file.get();
  const auto wanted =
      static_cast<off_t>(object.size + static_cast<uint64_t>(part_count(object.size, object.part_bytes)));
  struct stat st {};
  const bool goes_on = fstat(fd, &st) == 0 && st.st_size == wanted;
  if (!goes_on && (ftruncate(fd, 0) != 0 || ftruncate(fd, wanted) != 0))
    return os_error(name(object.key) + ": cannot set the size");
  const std::string id(parent_of(object.key));
  MutexLock lock(mutex_);
  const std::string upload = id + "/" + (*opened)->name;
  open_[upload] = std::move(*opened);
  return upload;
}

Result<std::shared_ptr<FileWriter::Unfinished>> FileWriter::find(const std::string& upload) {
  MutexLock lock(mutex_);
  auto it = open_.find(upload);
  if (it == open_.end()) return make_error(ENOENT, "there is no such upload");
  return it->second;
}

void FileWriter::forget(const std::string& upload) {
  MutexLock lock(mutex_);
  open_.erase(upload);
}

Result<std::vector<PartInfo>> FileWriter::list_parts(const NewObject& object, const std::string& upload) {
  auto open = find(upload);
  if (!open.ok()) return open.error();
  std::string marks(static_cast<size_t>(part_count(object.size, object.part_bytes)), '\0');
  const ssize_t got = pread((*open)->file.get(), marks.data(), marks.size(), static_cast<off_t>(object.size));
  if (got != static_cast<ssize_t>(marks.size()))
    return os_error(name(object.key) + ": cannot read the unfinished file");
  std::vector<PartInfo> out;
  for (size_t i = 0; i < marks.size(); ++i) {
    const int number = static_cast<int>(i + 1);
    if (marks[i] == '1') out.push_back({number, part_size(object, number), {}});
  }
  return out;
}

Result<PartInfo> FileWriter::put_part(const NewObject& object, const std::string& upload, int number, Bytes data) {
  auto open = find(upload);
  if (!open.ok()) return open.error();
  const int fd = (*open)->file.get();
  Status status = write_all(fd, data, part_offset(object, number));
  const std::byte done{'1'};
  if (status.ok()) status = write_all(fd, {&done, 1}, object.size + static_cast<uint64_t>(number - 1));
  if (!status.ok()) return make_error(status.error().code, name(object.key) + ": " + status.error().message);
  return PartInfo{number, data.size(), {}};
}

Status FileWriter::read_back(const NewObject& object, const std::string& upload, uint64_t offset,
                             std::span<std::byte> out) {
  auto open = find(upload);
  if (!open.ok()) return open.error();
  while (!out.empty()) {
    const ssize_t n = pread((*open)->file.get(), out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os_error(name(object.key) + ": cannot read the unfinished file", n < 0 ? errno : EIO);
    out = out.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return {};
}

Status FileWriter::complete_upload(const NewObject& object, const std::string& upload,
                                   const std::vector<PartInfo>& parts) {
  auto open = find(upload);
  if (!open.ok()) return open.error();
  auto written = list_parts(object, upload);
  if (!written.ok()) return written.error();
  if (written->size() != parts.size() ||
      parts.size() != static_cast<size_t>(part_count(object.size, object.part_bytes)))
    return make_error(EIO, name(object.key) + ": not all parts were written");
  const Unfinished& file = **open;
  if (ftruncate(file.file.get(), static_cast<off_t>(object.size)) != 0)
    return os_error(name(object.key) + ": cannot set the size");
  Status status = publish(file.folder.get(), file.file.get(), file.name, name_of(object.key), object.mtime_ns);
  if (!status.ok()) {
    (void)abort_upload(object, upload);
    return make_error(status.error().code, name(object.key) + ": " + status.error().message);
  }
  forget(upload);
  return status;
}

Status FileWriter::abort_upload(const NewObject&, const std::string& upload) {
  auto open = find(upload);
  if (!open.ok()) return {};
  unlinkat((*open)->folder.get(), (*open)->name.c_str(), 0);
  forget(upload);
  return {};
}

std::vector<RemoveFailure> FileWriter::remove(const std::vector<std::string>& keys) {
  std::vector<RemoveFailure> failures;
  for (auto& key : keys) {
    if (auto status = remove_one(key); !status.ok()) failures.push_back({key, status.error()});
  }
  return failures;
}

Status FileWriter::remove_one(const std::string& key) {
  auto folder = folder_of(key, false);
  if (!folder.ok()) return folder.error().code == ENOENT ? Status() : Status(folder.error());
  if (unlinkat(folder->get(), std::string(name_of(key)).c_str(), 0) != 0 && errno != ENOENT)
    return os_error(name(key) + ": cannot remove it");
  remove_empty_folders(parent_of(key));
  return {};
}

void FileWriter::remove_empty_folders(std::string_view path) {
  while (!path.empty()) {
    auto above = directory_beneath(root_.get(), parent_of(path), false);
    if (!above.ok() || unlinkat(above->get(), std::string(name_of(path)).c_str(), AT_REMOVEDIR) != 0) return;
    path = parent_of(path);
  }
}

void FileWriter::remove_unfinished(const std::vector<std::string>& keys) {
  for (auto& key : keys) {
    auto folder = folder_of(key, false);
    if (!folder.ok()) continue;
    const std::string last(name_of(key));
    const Fd file(openat(folder->get(), last.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (file.valid() && flock(file.get(), LOCK_EX | LOCK_NB) == 0) unlinkat(folder->get(), last.c_str(), 0);
  }
}

Status FileWriter::make_directory(std::string_view path) {
  auto folder = directory_beneath(root_.get(), path, true);
  return folder.ok() ? Status() : Status(folder.error());
}

}  // namespace larder
