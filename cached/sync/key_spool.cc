#include "cached/sync/key_spool.h"

#include "cached/base/fd.h"

namespace larder {

Status KeySpool::add(std::string_view key) {
  if (!file_) file_.reset(tmpfile());
  const uint32_t size = static_cast<uint32_t>(key.size());
  if (!file_ || fwrite(&size, sizeof size, 1, file_.get()) != 1 ||
      fwrite(key.data(), 1, key.size(), file_.get()) != key.size()) {
    return os_error("cannot keep the keys to remove in a temporary file");
  }
  ++count_;
  return {};
}

Status KeySpool::rewind() {
  read_ = 0;
  if (file_ && (fflush(file_.get()) != 0 || fseek(file_.get(), 0, SEEK_SET) != 0))
    return os_error("cannot read the keys to remove");
  return {};
}

Result<bool> KeySpool::next(std::string& key) {
  if (read_ == count_) return false;
  uint32_t size = 0;
  if (fread(&size, sizeof size, 1, file_.get()) != 1) return os_error("cannot read the keys to remove");
  key.resize(size);
  if (fread(key.data(), 1, size, file_.get()) != size) return os_error("cannot read the keys to remove");
  ++read_;
  return true;
}

}  // namespace larder
