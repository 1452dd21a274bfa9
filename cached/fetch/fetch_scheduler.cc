#include "cached/fetch/fetch_scheduler.h"

#include "cached/base/log.h"

namespace larder {

bool says_changed(const Status& status) {
  return !status && (status.error().code == ESTALE || status.error().code == ENOENT);
}

Error wait_for_descriptors(const Error& error) {
  if (error.code != EMFILE && error.code != ENFILE) return error;
  return make_error(EAGAIN, error.message + ": larderd has too many files open");
}

void hurry(const Object& object) {
  if (Result<std::shared_ptr<Store>> store = object.dataset->store()) (*store)->hurry(object.path);
}

void log_failure(const Object& object, std::string_view what, const Error& error, bool background) {
  if (error.code == ECANCELED || error.code == EAGAIN || (error.code == ENOSPC && background)) return;
  spdlog::warn("{}: {} was not fetched: {}", object.dataset->label(), what, error.message);
}

}  // namespace larder
