#include "cached/requests/admin_call.h"

#include <algorithm>

namespace larder {

using nlohmann::json;

static constexpr uint64_t kOldestMs = 3'600'000;

static std::string to_text(const json& j) {
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

void send_answer(Replier& reply, const AdminAnswer& answer) {
  if (answer)
    reply.text(0, to_text(*answer));
  else
    reply.text(to_errno(answer.error()), to_text({{"error", answer.error().message}}));
}

AdminCall::AdminCall(json args, Peer peer, std::shared_ptr<Replier> reply, const std::atomic<bool>& stopping,
                     const MayAdminister& may_administer)
    : args_(std::move(args)),
      peer_(std::move(peer)),
      reply_(std::move(reply)),
      stopping_(stopping),
      may_administer_(may_administer) {}

AdminCall::Clock::time_point AdminCall::asked() const {
  auto it = args_.find("age_ms");
  const bool given = it != args_.end() && it->is_number_unsigned();
  const uint64_t age_ms = given ? std::min(it->get<uint64_t>(), kOldestMs) : 0;
  return received_ - std::chrono::milliseconds(age_ms);
}

Progress AdminCall::progress() const {
  auto last = std::make_shared<Clock::time_point>();
  auto to = reply_;
  Progress p;
  p.cancelled = [this] { return cancelled(); };
  p.report = [last, to](uint64_t done, uint64_t total, uint64_t bytes, uint64_t total_bytes, uint64_t failed) {
    if (Clock::now() - *last < kProgressEvery) return;
    *last = Clock::now();
    json counts = {
        {"done", done}, {"total", total}, {"bytes", bytes}, {"total_bytes", total_bytes}, {"failed", failed}};
    to->text(0, to_text({{"progress", std::move(counts)}}), true);
  };
  return p;
}

}  // namespace larder
