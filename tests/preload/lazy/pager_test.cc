// Mappings of lazy files: every byte that a program sees is the object's, whatever larderd evicts meanwhile, or the
// access is a signal.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "preload/base/sys.h"
#include "preload/lazy/uffd.h"
#include "tests/preload/fake_chunks.h"

namespace larder {
namespace {

constexpr size_t kPage = 4096;
constexpr uint64_t kSize = 40 * 65536 + 100;  // 41 chunks of 64 KiB, the last of 100 bytes

class Pager : public testing::Test {
 protected:
  FakeChunks fake_{kSize, 16};

  const char* mapped(size_t length = kSize, int prot = PROT_READ, int flags = MAP_SHARED, uint64_t offset = 0) {
    const long r = fake_.map(length, prot, flags, offset);
    if (r < 0) throw std::runtime_error(std::string("map_paged: ") + strerror(static_cast<int>(-r)));
    return reinterpret_cast<const char*>(r);
  }
};

// Wrong bytes of [from, from + length) as seen at `p`, which shows the object from `offset` on.
uint64_t wrong_bytes(const char* p, uint64_t offset, uint64_t length) {
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < length; ++i)
    wrong += p[i] != FakeChunks::byte_at(offset + i);
  return wrong;
}

uint64_t wrong_at_random(const char* p, uint64_t size, int reads, unsigned seed) {
  std::minstd_rand random(seed);
  uint64_t wrong = 0;
  for (int i = 0; i < reads; ++i) {
    const uint64_t at = random() % size, n = std::min<uint64_t>(1 + random() % 5000, size - at);
    wrong += wrong_bytes(p + at, at, n);
  }
  return wrong;
}

// Runs f in a forked child: its exit status, or 1000 + the signal that ended it.
template <typename F>
int in_child(F f) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_DUMPABLE, 0);
    for (int s : {SIGBUS, SIGSEGV, SIGALRM})
      ::signal(s, SIG_DFL);
    ::alarm(60);
    ::_exit(f());
  }
  int status;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

bool is_loud(int status) {
  return status == 1000 + SIGBUS || status == 1000 + SIGSEGV;
}

TEST_F(Pager, ShowsTheObjectsBytesAndTheSystemsEnd) {
  const char* p = mapped(kSize);
  EXPECT_EQ(wrong_bytes(p, 0, kSize), 0u);
  for (uint64_t i = kSize; i % kPage != 0; ++i)
    ASSERT_EQ(p[i], 0) << "behind the end in its page";
  ::munmap(const_cast<char*>(p), kSize);

  const char* later = mapped(3 * 65536 + 5, PROT_READ, MAP_PRIVATE, 5 * kPage);
  EXPECT_EQ(wrong_bytes(later, 5 * kPage, 3 * 65536 + 5), 0u);
  ::munmap(const_cast<char*>(later), 3 * 65536 + 5);

  const char* beyond = mapped(kSize + 10 * kPage);
  EXPECT_EQ(in_child([&] { return beyond[kSize + 2 * kPage]; }), 1000 + SIGBUS);
  ::munmap(const_cast<char*>(beyond), kSize + 10 * kPage);
}

// S21: `mmap` of a lazy object fetches the chunks that are touched.
TEST_F(Pager, FetchesOnlyWhatIsTouched) {
  const char* p = mapped();
  EXPECT_EQ(fake_.knobs().fills, 0u);
  EXPECT_EQ(p[3 * 65536], FakeChunks::byte_at(3 * 65536));
  EXPECT_EQ(fake_.knobs().fills, 1u);
  EXPECT_TRUE(fake_.present(3 * 65536));
  ::munmap(const_cast<char*>(p), kSize);
}

// S26: From 5.14 on, the chunk's word decides. The data file shows 0xdd in every absent chunk, and for 0.3 ms before
// each right byte: a reader that looks there sees it.
TEST_F(Pager, NeverShowsWhatIsThereBeforeTheWordSaysSo) {
  fake_.knobs().show_poison = true;
  fake_.knobs().evictions_per_ms = 3;
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&, i] {
      const char* p = mapped();
      wrong += wrong_at_random(p, kSize, 400, i);
      ::munmap(const_cast<char*>(p), kSize);
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(fake_.knobs().evictions, 50u);
}

// The order is forced: the chunk is evicted and replaced by wrong bytes after the pager saw its word and before it
// shows the page.
TEST_F(Pager, EvictedInTheMomentBeforeItIsShown) {
  static std::atomic<int> left;
  static std::atomic<int64_t> evict_at;
  left = 3;
  evict_at = -1;
  const char* p = mapped();
  if (!uffd::has_minor()) GTEST_SKIP() << "no minor faults: docs/semantics.md, S26";
  fake_.knobs().show_poison = true;
  std::thread evictor([&] {
    while (evict_at != -2) {
      if (evict_at >= 0) {
        fake_.evict(static_cast<uint64_t>(evict_at));
        evict_at = -1;
      }
      std::this_thread::yield();
    }
  });
  pager_about_to_show = [](uint64_t offset) {
    if (left.fetch_sub(1) <= 0) return;
    evict_at = static_cast<int64_t>(offset);
    while (evict_at >= 0)
      sys::sleep_ms(1);
  };
  EXPECT_EQ(p[7 * 65536 + 100], FakeChunks::byte_at(7 * 65536 + 100));
  pager_about_to_show = nullptr;
  evict_at = -2;
  evictor.join();
  EXPECT_EQ(fake_.knobs().evictions, 3u);
  EXPECT_EQ(wrong_bytes(p, 0, kSize), 0u);
  ::munmap(const_cast<char*>(p), kSize);
}

// S21: Eviction under a mapping is invisible: the page is fetched again.
TEST_F(Pager, EvictionUnderManyReaders) {
  fake_.knobs().evictions_per_ms = 10;
  const char* p = mapped();
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (unsigned i = 0; i < 6; ++i)
    threads.emplace_back([&, i] { wrong += wrong_at_random(p, kSize, 1000, i); });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(fake_.knobs().evictions, 100u);
  ::munmap(const_cast<char*>(p), kSize);
}

// S22: MAP_PRIVATE writes stay the process's own.
TEST_F(Pager, PrivateWritesStayTheProcesssOwn) {
  char* p = const_cast<char*>(mapped(kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE));
  const char* other = mapped();
  p[7 * 65536 + 3] = 'x';  // into a chunk that is absent
  EXPECT_EQ(wrong_bytes(p + 7 * 65536 + 4, 7 * 65536 + 4, 65000), 0u);
  fake_.evict(7 * 65536);
  EXPECT_EQ(p[7 * 65536 + 3], 'x');
  EXPECT_EQ(wrong_bytes(p + 7 * 65536 + 4, 7 * 65536 + 4, 65000), 0u);
  EXPECT_EQ(wrong_bytes(other + 7 * 65536, 7 * 65536, 65536), 0u);
  EXPECT_EQ(
      in_child([&] { return p[7 * 65536 + 3] == 'x' && wrong_bytes(p + 8 * 65536, 8 * 65536, 65536) == 0 ? 0 : 1; }),
      0);
  ::munmap(p, kSize);
  ::munmap(const_cast<char*>(other), kSize);
}

// S22: MAP_FIXED, munmap of parts, mremap (moved, grown, shrunk), madvise, mlock and mlockall act as always.
TEST_F(Pager, FollowsUnmapMoveAndGrowth) {
  char* p = const_cast<char*>(mapped(8 * 65536, PROT_READ, MAP_SHARED, 2 * 65536));
  ::munmap(p + 65536, 65536);  // a hole
  EXPECT_EQ(wrong_bytes(p, 2 * 65536, 65536), 0u);
  EXPECT_EQ(wrong_bytes(p + 2 * 65536, 4 * 65536, 65536), 0u);
  EXPECT_EQ(in_child([&] { return p[65536]; }), 1000 + SIGSEGV);

  char* room = static_cast<char*>(::mmap(nullptr, 64 * 65536, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_EQ(::mremap(p + 4 * 65536, 2 * 65536, 2 * 65536, MREMAP_MAYMOVE | MREMAP_FIXED, room), room);
  fake_.evict(6 * 65536);
  EXPECT_EQ(wrong_bytes(room, 6 * 65536, 2 * 65536), 0u);

  ::munmap(room + 2 * 65536, 62 * 65536);
  char* grown = static_cast<char*>(::mremap(room, 2 * 65536, 6 * 65536, MREMAP_MAYMOVE));
  ASSERT_NE(grown, MAP_FAILED);
  EXPECT_EQ(wrong_bytes(grown, 6 * 65536, 6 * 65536), 0u) << (grown == room ? "in place" : "moved");
  for (int i = 6; i < 12; ++i)
    fake_.evict(i * 65536);
  EXPECT_EQ(in_child([&] { return wrong_bytes(grown, 6 * 65536, 6 * 65536) == 0 ? 0 : 1; }), 0);
  ASSERT_EQ(::mremap(grown, 6 * 65536, 65536, 0), grown);
  EXPECT_EQ(in_child([&] { return grown[65536]; }), 1000 + SIGSEGV);

  ::madvise(grown, 65536, MADV_DONTNEED);
  EXPECT_EQ(wrong_bytes(grown, 6 * 65536, 65536), 0u);
  ::munmap(grown, 65536);
  ::munmap(p, 8 * 65536);
}

// The old addresses stay registered, without a record of what they show.
TEST_F(Pager, MoveThatLeavesTheOldPlaceMapped) {
  char* p = const_cast<char*>(mapped(4 * 65536));
  char* moved =
      static_cast<char*>(::mremap(p, 4 * 65536, 4 * 65536, MREMAP_MAYMOVE | 4 /* MREMAP_DONTUNMAP */, nullptr));
  if (moved == MAP_FAILED) GTEST_SKIP() << "this kernel does not: " << strerror(errno);
  EXPECT_EQ(wrong_bytes(p, 0, 4 * 65536), 0u);
  EXPECT_EQ(wrong_bytes(moved, 0, 4 * 65536), 0u);
  ::munmap(p, 4 * 65536);
  EXPECT_EQ(wrong_bytes(moved, 0, 4 * 65536), 0u);
  ::munmap(moved, 4 * 65536);
}

TEST_F(Pager, MapFixedReplacesAMapping) {
  char* p = const_cast<char*>(mapped(4 * 65536));
  EXPECT_EQ(wrong_bytes(p, 0, 65536), 0u);
  const long again = fake_.map(2 * 65536, PROT_READ, MAP_PRIVATE | MAP_FIXED, 10 * 65536, 20000, p + 65536);
  ASSERT_EQ(again, reinterpret_cast<long>(p + 65536));
  EXPECT_EQ(wrong_bytes(p, 0, 65536), 0u);
  EXPECT_EQ(wrong_bytes(p + 65536, 10 * 65536, 2 * 65536), 0u);
  EXPECT_EQ(wrong_bytes(p + 3 * 65536, 3 * 65536, 65536), 0u);
  ::munmap(p, 4 * 65536);
}

// Mapping, unmapping and moving by several threads at the same addresses, while others fault.
TEST_F(Pager, ChurnOfMappings) {
  fake_.knobs().evictions_per_ms = 5;
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::minstd_rand random(t);
      for (int i = 0; i < 60; ++i) {
        const uint64_t offset = random() % 20 * 65536, length = (1 + random() % 20) * 65536;
        char* p = const_cast<char*>(mapped(length, PROT_READ, MAP_SHARED, offset));
        wrong += wrong_bytes(p + length / 2, offset + length / 2, 9000);
        const uint64_t cut = random() % (length / kPage) * kPage;
        if (i % 3 == 0 && cut > 0)
          ::munmap(p, cut);
        else if (i % 3 == 1 && cut > 0)
          ::munmap(p + cut, length - cut);
        char* kept = i % 3 == 0 ? p + cut : p;
        uint64_t kept_length = i % 3 == 0 ? length - cut : i % 3 == 1 && cut > 0 ? cut : length;
        const uint64_t kept_offset = i % 3 == 0 ? offset + cut : offset;
        char* moved = static_cast<char*>(::mremap(kept, kept_length, kept_length + 65536, MREMAP_MAYMOVE));
        if (moved == MAP_FAILED) ++wrong;
        wrong += wrong_bytes(moved, kept_offset, kPage);
        wrong += wrong_bytes(moved + kept_length, kept_offset + kept_length, 65536);
        ::munmap(moved, kept_length + 65536);
      }
    });
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
}

// ---- fork -----------------------------------------------------------------------------------------------------------

// S23: Children of `fork` read on, with a pager of their own.
TEST_F(Pager, ForkedReadersWhileOthersFault) {
  fake_.knobs().evictions_per_ms = 5;
  const char* p = mapped();
  std::atomic<bool> end{false};
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 2; ++i)
    threads.emplace_back([&, i] {
      while (!end)
        wrong += wrong_at_random(p, kSize, 20, i);
    });
  for (unsigned i = 0; i < 12; ++i) {
    EXPECT_EQ(in_child([&] {
                if (wrong_at_random(p, kSize, 100, 100 + i) != 0) return 1;
                return in_child([&] { return wrong_at_random(p, kSize, 50, 200 + i) == 0 ? 0 : 1; });  // and its child
              }),
              0);
  }
  end = true;
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  ::munmap(const_cast<char*>(p), kSize);
}

// The kernel alone maps an object that has become whole. A program that also mapped it before must be able to fork.
TEST_F(Pager, AForkWithAnOrdinaryMappingOfTheSameFile) {
  const char* p = mapped();
  EXPECT_EQ(wrong_bytes(p, 0, kSize), 0u);
  const int data = ::open((fake_.folder() + "/data").c_str(), O_RDONLY | O_CLOEXEC);
  auto* whole = static_cast<const char*>(::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, data, 0));
  ::close(data);
  ASSERT_NE(whole, MAP_FAILED);
  EXPECT_EQ(in_child([&] { return wrong_bytes(p, 0, kSize) == 0 && wrong_bytes(whole, 0, kSize) == 0 ? 0 : 1; }), 0);
  ::munmap(const_cast<char*>(whole), kSize);
  ::munmap(const_cast<char*>(p), kSize);
}

TEST_F(Pager, ForksByThreadsThatMapAndUnmap) {
  fake_.knobs().evictions_per_ms = 3;
  const char* p = mapped();
  std::atomic<bool> end{false};
  std::thread churn([&] {
    for (unsigned i = 0; !end; ++i) {
      const char* q = mapped(6 * 65536, PROT_READ, MAP_PRIVATE, i % 20 * 65536);
      char* moved = static_cast<char*>(::mremap(const_cast<char*>(q), 6 * 65536, 7 * 65536, MREMAP_MAYMOVE));
      ::munmap(moved, 7 * 65536);
    }
  });
  std::vector<std::thread> forkers;
  std::atomic<int> bad{0};
  for (unsigned t = 0; t < 2; ++t)
    forkers.emplace_back([&, t] {
      for (unsigned i = 0; i < 20; ++i)
        bad += in_child([&] { return wrong_at_random(p, kSize, 30, t * 100 + i) == 0 ? 0 : 1; }) != 0;
    });
  for (auto& t : forkers)
    t.join();
  end = true;
  churn.join();
  EXPECT_EQ(bad, 0);
  ::munmap(const_cast<char*>(p), kSize);
}

// S23: A child that libc does not know of (`_Fork`, a raw `clone`), or the child of a program without `/proc`, does not
// have the mapping: an access is SIGSEGV, never zeros.
TEST_F(Pager, AChildOfTheRawCallHasNoMapping) {
  const char* p = mapped();
  EXPECT_EQ(p[0], FakeChunks::byte_at(0));
  const long pid = ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
  if (pid == 0) {
    ::signal(SIGSEGV, SIG_DFL);
    ::prctl(PR_SET_DUMPABLE, 0);
    ::syscall(SYS_exit_group, p[20 * 65536] == 0 ? 1 : 0);
  }
  int status;
  ::waitpid(static_cast<pid_t>(pid), &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  EXPECT_FALSE(fake_.file_has(20 * 65536)) << "the child put zeros into the file";
  ::munmap(const_cast<char*>(p), kSize);
}

// S23: `vfork` and `posix_spawn` children share their parent's.
TEST_F(Pager, AVforkChildReads) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "TSan makes vfork() a fork()";
#endif
  const char* p = mapped();
  volatile bool right = false;
  const pid_t pid = ::vfork();
  if (pid == 0) {
    right = p[30 * 65536] == FakeChunks::byte_at(30 * 65536);
    ::_exit(0);
  }
  ::waitpid(pid, nullptr, 0);
  EXPECT_TRUE(right);
  ::munmap(const_cast<char*>(p), kSize);
}

// ---- larderd away, errors -------------------------------------------------------------------------------------------

TEST_F(Pager, WaitsForADaemonThatComesBack) {
  const char* p = mapped();
  EXPECT_EQ(wrong_bytes(p, 0, 65536), 0u);
  fake_.stop();
  EXPECT_EQ(wrong_bytes(p, 0, 65536), 0u) << "what is there stays readable";
  std::atomic<uint64_t> wrong{99};
  std::thread reader([&] { wrong = wrong_bytes(p + 9 * 65536, 9 * 65536, 65536); });
  ::usleep(100'000);
  EXPECT_EQ(wrong, 99u);
  fake_.start();
  reader.join();
  EXPECT_EQ(wrong, 0u);
  ::munmap(const_cast<char*>(p), kSize);
}

// S21: A page shows the object's bytes, or the access ends in SIGBUS (SIGSEGV before Linux 6.6).
TEST_F(Pager, WhatCannotBeHadIsASignal) {
  const long r = fake_.map(kSize, PROT_READ, MAP_SHARED, 0, 300);
  ASSERT_GT(r, 0);
  const auto* p = reinterpret_cast<const char*>(r);
  EXPECT_EQ(wrong_bytes(p, 0, 65536), 0u);
  fake_.knobs().status = ESTALE;
  EXPECT_TRUE(is_loud(in_child([&] { return p[10 * 65536]; })));
  EXPECT_EQ(in_child([&] { return wrong_bytes(p, 0, 65536) == 0 ? 0 : 1; }), 0);
  fake_.stop();
  EXPECT_TRUE(is_loud(in_child([&] { return p[11 * 65536]; })));
  fake_.knobs().status = 0;
  fake_.start();
  EXPECT_EQ(wrong_bytes(p + 10 * 65536, 10 * 65536, 2 * 65536), 0u) << "another process has not lost the page";
  ::munmap(const_cast<char*>(p), kSize);
}

// S24: Closing all descriptors changes nothing.
TEST_F(Pager, ClosingAllDescriptorsChangesNothing) {
  const char* p = mapped();
  EXPECT_EQ(in_child([&] {
              for (int fd = 3; fd < 4096; ++fd)
                ::close(fd);
              fake_.evict(0);
              return wrong_at_random(p, kSize, 50, 1) == 0 ? 0 : 1;
            }),
            0);
  ::munmap(const_cast<char*>(p), kSize);
}

TEST_F(Pager, ManyThreadsWaitInParallel) {
  fake_.knobs().hold = true;
  const char* p = mapped();
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (uint64_t i = 0; i < 40; ++i)
    threads.emplace_back([&, i] { wrong += wrong_bytes(p + i * 65536, i * 65536, 65536); });
  for (int i = 0; i < 6000 && fake_.knobs().requests < 2; ++i)
    ::usleep(10'000);
  EXPECT_GT(fake_.knobs().requests, 1u) << "one after the other";
  fake_.knobs().hold = false;
  for (auto& t : threads)
    t.join();
  EXPECT_EQ(wrong, 0u);
  ::munmap(const_cast<char*>(p), kSize);
}

// S25: Where the kernel restricts userfaultfd to user mode (the default without CAP_SYS_PTRACE), it cannot wait for a
// page that is not there.
TEST_F(Pager, TheKernelReadsFromAMapping) {
  const char* p = mapped();
  int pipe[2];
  ASSERT_EQ(::pipe(pipe), 0);
  char got[64];
  errno = 0;
  const ssize_t n = ::write(pipe[1], p + 12 * 65536, sizeof got);
  if (uffd::serves_kernel()) {
    ASSERT_EQ(n, static_cast<ssize_t>(sizeof got)) << strerror(errno);
    ASSERT_EQ(::read(pipe[0], got, sizeof got), n);
    EXPECT_EQ(wrong_bytes(got, 12 * 65536, sizeof got), 0u);
  } else {
    EXPECT_TRUE(n < 0 && errno == EFAULT) << n;
  }
  EXPECT_EQ(p[12 * 65536], FakeChunks::byte_at(12 * 65536));
  ::close(pipe[0]);
  ::close(pipe[1]);
  ::munmap(const_cast<char*>(p), kSize);
}

TEST_F(Pager, LocksAndAdvice) {
  const char* p = mapped();
  EXPECT_TRUE(advise_paged(p + 4 * 65536, 3 * 65536));
  for (int i = 0; i < 500 && !fake_.present(6 * 65536); ++i)
    ::usleep(10'000);
  EXPECT_TRUE(fake_.present(4 * 65536) && fake_.present(6 * 65536));
  EXPECT_FALSE(fake_.present(7 * 65536));
  EXPECT_FALSE(advise_paged(&fake_, 100));
  if (uffd::serves_kernel()) {
    EXPECT_EQ(::syscall(SYS_mlock, p + 20 * 65536, 65536), 0);  // sanitizers make mlock() do nothing
    EXPECT_TRUE(fake_.present(20 * 65536));
  }
  EXPECT_EQ(wrong_bytes(p + 20 * 65536, 20 * 65536, 65536), 0u);
  ::munmap(const_cast<char*>(p), kSize);
}

// mprotect and mlock of a part make several mappings of one: pages of each are shown.
TEST_F(Pager, ShowsPagesBesideABoundary) {
  EXPECT_EQ(in_child([&] {
              const char* p = mapped();
              char* part = const_cast<char*>(p) + 3 * 65536 + 2 * kPage;
              if (::mprotect(part, 3 * kPage, PROT_READ | PROT_WRITE) != 0) return 2;
              if (::syscall(SYS_mlock2, p + 6 * 65536 + kPage, kPage, 1) != 0) return 3;  // MLOCK_ONFAULT
              return wrong_bytes(p, 0, 8 * 65536) == 0 ? 0 : 1;
            }),
            0);
}

// mlockall's MCL_FUTURE fills a mapping while it is made, before the pager can serve it.
TEST_F(Pager, MappingUnderMlockall) {
  EXPECT_EQ(in_child([&] {
              if (::syscall(SYS_mlockall, MCL_FUTURE) != 0) return 2;
              const char* p = mapped(10 * 65536);
              return wrong_bytes(p, 0, 10 * 65536) == 0 ? 0 : 1;
            }),
            0);
}

// A locked page cannot be given back: the pager is woken all the same, whenever the memory was locked.
TEST_F(Pager, RequestsUnderMlockall) {
  EXPECT_EQ(in_child([&] {
              if (::syscall(SYS_mlockall, MCL_CURRENT | MCL_FUTURE) != 0) return 2;
              const char* p = mapped(10 * 65536);
              const int child = in_child([&] { return wrong_bytes(p, 0, 65536) == 0 ? 0 : 1; });
              return child == 0 && wrong_bytes(p, 0, 10 * 65536) == 0 ? 0 : 1;
            }),
            0);
  EXPECT_EQ(in_child([&] {
              const char* p = mapped(10 * 65536);
              if (::syscall(SYS_mlockall, MCL_CURRENT) != 0) return 2;
              const char* q = mapped(10 * 65536);
              const int child = in_child([&] { return wrong_bytes(q, 0, 65536) == 0 ? 0 : 1; });
              return child == 0 && wrong_bytes(p, 0, 10 * 65536) + wrong_bytes(q, 0, 10 * 65536) == 0 ? 0 : 1;
            }),
            0);
}

// As many as the kernel allows of any file: vm.max_map_count is 65,530.
TEST_F(Pager, ManyMappings) {
  constexpr int kMappings = 30'000;
  std::vector<const char*> all;
  for (int i = 0; i < kMappings; ++i) {
    // Two neighbours of one file would become one mapping.
    const uint64_t offset = static_cast<uint64_t>(i % 40 * 16 + i % 7) * kPage;
    all.push_back(mapped(kPage, PROT_READ, MAP_SHARED, offset));
  }
  for (int i = 0; i < kMappings; i += 331)
    EXPECT_EQ(wrong_bytes(all[static_cast<size_t>(i)], static_cast<uint64_t>(i % 40 * 16 + i % 7) * kPage, kPage), 0u);
  for (const char* p : all)
    ::munmap(const_cast<char*>(p), kPage);
}

void deny(long number) {
  sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(number), 0, 1),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  sock_fprog program = {sizeof filter / sizeof filter[0], filter};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

// Drops all rights but those to its own memory, as in most containers. False: this cannot be tried here.
bool become_nobody() {
  return ::geteuid() != 0 || (::setgid(65534) == 0 && ::setuid(65534) == 0);
}

TEST_F(Pager, ARefusedUserfaultfdIsAnError) {
  std::filesystem::permissions(fake_.folder(), std::filesystem::perms::all);
  EXPECT_EQ(in_child([&] {
              if (!become_nobody()) return 2;  // root might have /dev/userfaultfd
              deny(SYS_userfaultfd);
              return fake_.map(kSize) == -EPERM && fake_.map(kSize) == -EPERM ? 0 : 1;
            }),
            0);
  // The child of a program that was served has no mapping rather than holes.
  const char* p = mapped();
  EXPECT_EQ(p[0], FakeChunks::byte_at(0));
  const int status = in_child([&] {
    if (!become_nobody()) return 2;
    deny(SYS_userfaultfd);
    return in_child([&] { return p[65536 * 3]; });
  });
  EXPECT_EQ(status, (1000 + SIGSEGV) & 0xff);
  EXPECT_FALSE(fake_.file_has(3 * 65536));
  ::munmap(const_cast<char*>(p), kSize);
}

int read_under_eviction(const char* p) {
  std::vector<std::thread> threads;
  std::atomic<uint64_t> wrong{0};
  for (unsigned i = 0; i < 4; ++i)
    threads.emplace_back([&, i] { wrong += wrong_at_random(p, kSize, 300, i); });
  for (auto& t : threads)
    t.join();
  return wrong == 0 ? 0 : 1;
}

TEST_F(Pager, AnUnprivilegedUser) {
  std::filesystem::permissions(fake_.folder(), std::filesystem::perms::all);
  ASSERT_EQ(::chmod((fake_.folder() + "/s").c_str(), 0777), 0);
  fake_.knobs().evictions_per_ms = 5;
  EXPECT_EQ(in_child([&] {
              if (!become_nobody()) return 2;
              const char* p = mapped();
              if (uffd::serves_kernel()) return 3;
              return read_under_eviction(p) + in_child([&] { return read_under_eviction(p); });
            }),
            0);
}

// No minor faults (before 5.14): pages appear with the data file's. No poison (before 6.6): SIGSEGV.
TEST_F(Pager, AnOlderKernel) {
  fake_.knobs().evictions_per_ms = 5;
  EXPECT_EQ(in_child([&] {
              uffd::allowed_features = ~(uint64_t{1} << 10 | uint64_t{1} << 14);
              const char* p = mapped();
              return read_under_eviction(p) + in_child([&] { return read_under_eviction(p); });
            }),
            0);
  fake_.knobs().evictions_per_ms = 0;
  fake_.knobs().status = EIO;
  fake_.evict(10 * 65536);
  EXPECT_EQ(in_child([&] {
              uffd::allowed_features = ~(uint64_t{1} << 10 | uint64_t{1} << 14);
              return mapped()[10 * 65536];
            }),
            1000 + SIGSEGV);
}

// Without close_range the thread leaves the table another way.
TEST_F(Pager, AnOldKernelWithoutCloseRange) {
  EXPECT_EQ(in_child([&] {
              deny(SYS_close_range);
              const char* p = mapped();
              for (int fd = 3; fd < 4096; ++fd)
                ::close(fd);
              return wrong_at_random(p, kSize, 50, 1) == 0 ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace larder
