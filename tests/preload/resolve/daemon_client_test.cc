// Messages to a busy larderd: advice must not wait in line, nor a pager's request for a thread that waits for a page.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "preload/resolve/daemon_client.h"

namespace larder {
namespace {

// A listener that accepts nobody, and connections that fill its backlog.
class BusyDaemon : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/larder-test-XXXXXX";
    folder_ = ::mkdtemp(folder);
    sockaddr_un addr = {};
    addr.sun_family = AF_UNIX;
    std::strcpy(addr.sun_path, (folder_ + "/s").c_str());
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    ASSERT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&addr), sizeof addr), 0);
    ASSERT_EQ(::listen(listener_, 1), 0);
    configure_socket(addr.sun_path, nullptr);
    for (int i = 0; i < 100; ++i) {
      const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
      waiting_.push_back(fd);
      if (::connect(fd, reinterpret_cast<sockaddr*>(&addr), sizeof addr) != 0) return;
    }
    FAIL() << "the backlog takes everybody";
  }
  void TearDown() override {
    for (int fd : waiting_)
      ::close(fd);
    ::close(listener_);
    std::filesystem::remove_all(folder_);
  }

  // Calls f. If it waits for larderd, the listener accepts a connection after a while, and f gets through.
  template <typename F>
  auto while_nobody_accepts(F f) {
    std::mutex mutex;
    std::condition_variable changed;
    bool returned = false;
    std::thread patience([&] {
      std::unique_lock lock(mutex);
      if (changed.wait_for(lock, std::chrono::seconds(3), [&] { return returned; })) return;
      for (size_t i = 0; i < waiting_.size(); ++i)
        ::close(::accept(listener_, nullptr, nullptr));
    });
    auto r = f();
    {
      std::lock_guard lock(mutex);
      returned = true;
    }
    changed.notify_one();
    patience.join();
    return r;
  }

  // Connections besides those of SetUp.
  int heard() {
    int n = 0;
    while (true) {
      pollfd p = {listener_, POLLIN, 0};
      if (::poll(&p, 1, 0) <= 0) return n - static_cast<int>(waiting_.size() - 1);
      ::close(::accept(listener_, nullptr, nullptr));
      ++n;
    }
  }

  std::string folder_;
  int listener_ = -1;
  std::vector<int> waiting_;
};

TEST_F(BusyDaemon, APagersQuestionIsForLater) {
  EXPECT_EQ(while_nobody_accepts([] { return start_chunks(7, {4711, 0, 1, 0, 0}); }), -EAGAIN);
}

TEST_F(BusyDaemon, AdviceIsDropped) {
  while_nobody_accepts([] { return advise_chunks(7, 4711, 0, 1), 0; });
  EXPECT_EQ(heard(), 0);
}

TEST_F(BusyDaemon, AdviceArrivesWhereThereIsRoom) {
  EXPECT_EQ(heard(), 0);  // accepts all
  advise_chunks(7, 4711, 3, 2);
  const int fd = ::accept(listener_, nullptr, nullptr);
  struct {
    Request header;
    ChunkRequest chunks;
  } packet = {};
  EXPECT_EQ(::recv(fd, &packet, sizeof packet, 0), static_cast<ssize_t>(sizeof packet));
  EXPECT_TRUE(packet.header.op == Op::kChunks && packet.header.dataset_id == 7 && packet.chunks.handle_inode == 4711);
  EXPECT_TRUE(packet.chunks.first == 3 && packet.chunks.count == 2 && packet.chunks.flags == kChunksAdvise);
  ::close(fd);
}

}  // namespace
}  // namespace larder
