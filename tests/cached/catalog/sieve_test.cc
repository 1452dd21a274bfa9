#include "cached/catalog/sieve.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <map>
#include <random>
#include <set>

namespace larder {
namespace {

// The paper's algorithm, word for word, on a list of objects.
struct Reference {
  std::list<uint32_t> queue;  // newest first
  std::map<uint32_t, bool> visited;
  std::list<uint32_t>::iterator hand = queue.end();

  void add(uint32_t e) {
    queue.push_front(e);
    visited[e] = false;
  }
  uint32_t evict() {
    if (hand == queue.end()) hand = std::prev(queue.end());
    while (visited[*hand]) {
      visited[*hand] = false;
      hand = hand == queue.begin() ? std::prev(queue.end()) : std::prev(hand);
    }
    uint32_t gone = *hand;
    auto next = hand == queue.begin() ? queue.end() : std::prev(hand);
    queue.erase(hand);
    hand = next;
    visited.erase(gone);
    return gone;
  }
};

std::vector<uint32_t> skewed(uint32_t objects, size_t reads, double exponent, unsigned seed) {
  std::vector<double> weights;
  for (uint32_t i = 0; i < objects; ++i)
    weights.push_back(1 / std::pow(i + 1.0, exponent));
  std::discrete_distribution<uint32_t> pick(weights.begin(), weights.end());
  std::mt19937 random(seed);
  std::vector<uint32_t> names(objects), trace;
  for (uint32_t i = 0; i < objects; ++i)
    names[i] = i;
  std::shuffle(names.begin(), names.end(), random);
  for (size_t i = 0; i < reads; ++i)
    trace.push_back(names[pick(random)]);
  return trace;
}

TEST(Sieve, EvictsWhatThePapersAlgorithmEvicts) {
  for (double exponent : {0.0, 0.6, 1.2}) {
    Reference reference;
    Sieve sieve(1000);
    for (uint32_t e : skewed(1000, 50'000, exponent, 1)) {
      if (reference.visited.contains(e)) {
        reference.visited[e] = true;
        sieve.visit(e);
        continue;
      }
      if (reference.queue.size() == 100) {
        uint32_t gone = sieve.next();
        ASSERT_EQ(gone, reference.evict());
        sieve.remove(gone);
      }
      reference.add(e);
      sieve.add(e);
      ASSERT_EQ(sieve.size(), reference.queue.size());
    }
  }
}

TEST(Sieve, HitsMoreOfASkewedTraceThanKeeping) {
  Sieve sieve(10'000);
  std::set<uint32_t> sieved, kept;
  int sieve_hits = 0, keep_hits = 0;
  for (uint32_t e : skewed(10'000, 100'000, 1.0, 2)) {
    keep_hits += kept.contains(e);
    if (kept.size() < 100) kept.insert(e);
    if (sieved.contains(e)) {
      ++sieve_hits;
      sieve.visit(e);
      continue;
    }
    if (sieved.size() == 100) {
      uint32_t gone = sieve.next();
      sieve.remove(gone);
      sieved.erase(gone);
    }
    sieved.insert(e);
    sieve.add(e);
  }
  EXPECT_GT(sieve_hits, keep_hits * 5 / 4);
}

// A victim that is in use is skipped and keeps its place.
TEST(Sieve, WhoCannotGoIsAskedAgainOnlyAfterTheOthers) {
  Sieve sieve(4);
  for (uint32_t e : {0u, 1u, 2u, 3u})
    sieve.add(e);
  sieve.visit(1);
  EXPECT_EQ(sieve.next(), 0u);
  EXPECT_EQ(sieve.next(), 2u);
  EXPECT_EQ(sieve.next(), 3u);
  EXPECT_EQ(sieve.next(), 0u);
  EXPECT_EQ(sieve.next(), 1u) << "its mark went when the hand passed";
  for (uint32_t e : {0u, 1u, 2u, 3u})
    sieve.remove(e);
  EXPECT_EQ(sieve.next(), Sieve::kNone);
  sieve.visit(2);
  sieve.remove(2);
  EXPECT_EQ(sieve.size(), 0u);
}

// A refresh renumbers the entries: the next victim stays the same.
TEST(Sieve, ANewNumberingKeepsOrderMarksAndHand) {
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const uint32_t n = 2 + random() % 30;
    Sieve before(n);
    std::vector<uint32_t> to(n);
    for (uint32_t i = 0; i < n; ++i)
      to[i] = n - 1 - i + 5;
    for (uint32_t i = 0; i < n; ++i)
      before.add(i);
    for (uint32_t i = 0; i < n; ++i)
      if (random() % 2) before.visit(i);
    for (uint32_t i = random() % n; i > 0; --i)
      before.next();
    std::set<uint32_t> dropped;
    for (uint32_t i = 0; i < n; ++i)
      if (random() % 4 == 0) dropped.insert(i);
    for (uint32_t i : dropped)
      to[i] = Sieve::kNone;
    Sieve after = before.renumbered(to, n + 5);
    for (uint32_t i : dropped)
      before.remove(i);
    ASSERT_EQ(after.size(), before.size());
    while (before.size() > 0) {
      uint32_t a = before.next(), b = after.next();
      ASSERT_EQ(b, to[a]);
      before.remove(a);
      after.remove(b);
    }
  }
}

}  // namespace
}  // namespace larder
