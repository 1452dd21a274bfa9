// FetchLanes: what each dataset has in a scheduler, and whose turn it is. A store in trouble is its own dataset's
// trouble: every dataset has a lane with its own queue and its own count of GETs.
//
// A dataset alone may have every connection. Beside others it has what they leave, and an eighth at the least, whatever
// they do. A GET that has brought nothing for kStalled does not count against the others, so that they get back what a
// store that hangs holds. It still counts against its own dataset, which so has never more than every connection.
//
// Threads: the scheduler's lock.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <unordered_set>
#include <vector>

namespace larder {

enum class Rank { kDemand, kAhead, kFill };  // the first goes first

struct Connections {
  uint32_t all;          // GETs at once
  uint32_t background;   // of them, for nobody who waits
  bool demand_is_apart;  // demand may have `all` besides what background work has
};

// Flight, Get: as in fetch_scheduler.h.
template <typename Flight, typename Get>
class FetchLanes {
 public:
  using Clock = std::chrono::steady_clock;
  using FlightPtr = std::shared_ptr<Flight>;
  static constexpr std::chrono::seconds kStalled{1};
  static constexpr uint32_t kLeastShare = 8;  // an eighth

  explicit FetchLanes(Connections connections) : connections_(connections) {}

  // ---- queues of demand and of what is read ahead; the smallest place goes first
  void put(const FlightPtr& f, Rank rank, int64_t place) { queue(lanes_[f->dataset()], rank).emplace(place, f); }
  void take_out(const Flight& f, Rank rank, int64_t place) {
    const auto lane = lanes_.find(f.dataset());
    queue(lane->second, rank).erase(place);
    drop_if_unused(lane);
  }
  size_t queued(uint64_t dataset, Rank rank) const {
    const auto lane = lanes_.find(dataset);
    return lane == lanes_.end() ? 0 : queue(lane->second, rank).size();
  }
  // Of a dataset that has some.
  FlightPtr first(uint64_t dataset, Rank rank) { return queue(lanes_.at(dataset), rank).begin()->second; }
  size_t queued(Rank rank) const {
    size_t sum = 0;
    for (auto& [id, lane] : lanes_)
      sum += queue(lane, rank).size();
    return sum;
  }
  std::vector<FlightPtr> take_all() {
    std::vector<FlightPtr> out;
    for (auto& [id, lane] : lanes_) {
      for (auto& queue : lane.queues) {
        for (auto& [place, f] : queue)
          out.push_back(f);
        queue.clear();
      }
    }
    return out;
  }

  // ---- whose turn it is
  // The flight that may start: of the dataset with the fewest GETs, the first. Null: none may.
  FlightPtr next(Rank rank) const {
    const Lane* best = nullptr;
    for (auto& [id, lane] : lanes_)
      if (!queue(lane, rank).empty() && may_start(lane, rank) && (!best || goes_before(lane, *best, rank)))
        best = &lane;
    return best ? queue(*best, rank).begin()->second : nullptr;
  }
  bool may_start(uint64_t dataset, Rank rank) const {
    const auto lane = lanes_.find(dataset);
    return may_start(lane == lanes_.end() ? Lane() : lane->second, rank);
  }

  // ---- GETs under way
  void started(Get& get) {
    get.dataset = get.flights.front()->dataset();
    get.moved = Clock::now();
    Lane& lane = lanes_[get.dataset];
    lane.gets.insert(&get);
    lane.background += get.background;
    ++running_;
    moving_.all += 1;
    moving_.background += get.background;
  }
  void ended(const Get& get) {
    const auto lane = lanes_.find(get.dataset);
    lane->second.gets.erase(const_cast<Get*>(&get));
    lane->second.background -= get.background;
    --running_;
    count_moving();
    drop_if_unused(lane);
  }
  uint32_t running() const { return running_; }
  // Looks which GETs move. Call now and then.
  void look(Clock::time_point now) {
    for (auto& [id, lane] : lanes_) {
      lane.stalled = {};
      for (const Get* get : lane.gets) {
        if (now - get->moved.load() < kStalled) continue;
        lane.stalled.all += 1;
        lane.stalled.background += get->background;
      }
    }
    count_moving();
  }

 private:
  struct Count {
    uint32_t all = 0, background = 0;
  };
  struct Lane {
    std::map<int64_t, FlightPtr> queues[2];  // demand, ahead
    std::unordered_set<Get*> gets;
    uint32_t background = 0;  // of them
    Count stalled;            // as of the last look

    uint32_t all() const { return static_cast<uint32_t>(gets.size()); }
    Count moving() const {
      return {all() - std::min(all(), stalled.all), background - std::min(background, stalled.background)};
    }
  };
  using Lanes = std::map<uint64_t, Lane>;

  template <typename L>
  static auto& queue(L& lane, Rank rank) {
    return lane.queues[static_cast<int>(rank)];
  }
  static bool goes_before(const Lane& a, const Lane& b, Rank rank) {
    if (a.gets.size() != b.gets.size()) return a.gets.size() < b.gets.size();
    return queue(a, rank).begin()->first < queue(b, rank).begin()->first;
  }
  static bool has_room(uint32_t own, uint32_t others, uint32_t limit) {
    return own < limit && (own + others < limit || own < std::max(1U, limit / kLeastShare));
  }
  bool may_start(const Lane& lane, Rank rank) const {
    const bool demand = rank == Rank::kDemand;
    const Count moving = lane.moving();
    const uint32_t background_of_others = moving_.background - moving.background;
    if (!demand && !has_room(lane.background, background_of_others, connections_.background)) return false;
    const bool apart = demand && connections_.demand_is_apart;
    const uint32_t own = lane.all() - (apart ? lane.background : 0);
    const uint32_t of_others = moving_.all - moving.all - (apart ? background_of_others : 0);
    return has_room(own, of_others, connections_.all);
  }
  void count_moving() {
    moving_ = {};
    for (auto& [id, lane] : lanes_) {
      moving_.all += lane.moving().all;
      moving_.background += lane.moving().background;
    }
  }
  void drop_if_unused(typename Lanes::iterator lane) {
    const Lane& l = lane->second;
    if (l.gets.empty() && l.queues[0].empty() && l.queues[1].empty()) lanes_.erase(lane);
  }

  const Connections connections_;
  Lanes lanes_;  // by dataset
  uint32_t running_ = 0;
  Count moving_;  // sums over all lanes
};

}  // namespace larder
