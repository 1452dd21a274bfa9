// What a user would lose: the cache, when larderd dies and nobody kept its descriptors.
#include "cached/home/descriptor_store.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cstdlib>
#include <functional>

namespace larder {
namespace {

// Whoever started us: receives what is sent to NOTIFY_SOCKET.
struct Starter {
  Starter() : socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "larder-test-" + std::to_string(getpid());
    memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + 1 + name.size());
    EXPECT_EQ(bind(socket.get(), reinterpret_cast<struct sockaddr*>(&address), length), 0);
    setenv("NOTIFY_SOCKET", ("@" + name).c_str(), 1);
  }
  ~Starter() { unsetenv("NOTIFY_SOCKET"); }

  std::string receive(Fd* fd = nullptr) {
    char text[256];
    alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {text, sizeof text};
    struct msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t n = recvmsg(socket.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return "nothing came";
    int received = -1;
    if (struct cmsghdr* header = CMSG_FIRSTHDR(&message)) memcpy(&received, CMSG_DATA(header), sizeof received);
    if (fd)
      *fd = Fd(received);
    else
      EXPECT_EQ(received, -1);
    return {text, static_cast<size_t>(n)};
  }

  Fd socket;
};

// In a child, because descriptors 3 and 4 and the environment are the process'. 0: what `call` says is so.
int in_child(const std::function<bool()>& call) {
  const pid_t child = fork();
  if (child == 0) _exit(call() ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  return status;
}

bool same_file(int a, int b) {
  struct stat x = {}, y = {};
  return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

// The root and /proc, as descriptors 3 and 4.
void pass(pid_t to, const char* names) {
  const int root = open("/", O_RDONLY | O_DIRECTORY), proc = open("/proc", O_RDONLY | O_DIRECTORY);
  const int a = fcntl(root, F_DUPFD, 100), b = fcntl(proc, F_DUPFD, 100);
  dup2(a, 3);
  dup2(b, 4);
  setenv("LISTEN_PID", std::to_string(to).c_str(), 1);
  setenv("LISTEN_FDS", "2", 1);
  setenv("LISTEN_FDNAMES", names, 1);
}

TEST(DescriptorStore, what_was_kept_comes_back_by_its_name) {
  EXPECT_EQ(in_child([] {
              pass(getpid(), "larder-view:larder-home");
              StoredDescriptors stored = StoredDescriptors::adopt();
              Fd home = stored.take(kHomeDescriptor), view = stored.take(kViewDescriptor);
              Fd root(open("/", O_PATH)), proc(open("/proc", O_PATH));
              return same_file(home.get(), proc.get()) && same_file(view.get(), root.get()) &&
                     (fcntl(home.get(), F_GETFD) & FD_CLOEXEC) != 0 && !stored.take(kHomeDescriptor).valid() &&
                     !stored.take(kSocketDescriptor).valid() && getenv("LISTEN_FDS") == nullptr;
            }),
            0);
}

TEST(DescriptorStore, descriptors_of_another_process_are_not_touched) {
  EXPECT_EQ(in_child([] {
              pass(getppid(), "larder-home:larder-view");
              return !StoredDescriptors::adopt().take(kHomeDescriptor).valid() && fcntl(3, F_GETFD) == 0;
            }),
            0);
}

TEST(DescriptorStore, fewer_descriptors_or_names_than_announced_are_none) {
  EXPECT_EQ(in_child([] {
              pass(getpid(), "larder-home");
              close(4);
              StoredDescriptors stored = StoredDescriptors::adopt();
              return stored.take(kHomeDescriptor).valid() && !stored.take("").valid();
            }),
            0);
  EXPECT_EQ(in_child([] {
              pass(getpid(), "larder-home");
              setenv("LISTEN_FDS", "two", 1);
              return !StoredDescriptors::adopt().take(kHomeDescriptor).valid();
            }),
            0);
}

TEST(DescriptorStore, a_descriptor_is_sent_under_its_name_and_replaces_the_former) {
  Starter starter;
  Fd root(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), kept;
  ASSERT_TRUE(store(kHomeDescriptor, root.get()));
  EXPECT_EQ(starter.receive(), "FDSTOREREMOVE=1\nFDNAME=larder-home");
  EXPECT_EQ(starter.receive(&kept), "FDSTORE=1\nFDNAME=larder-home\nFDPOLL=0");
  EXPECT_TRUE(same_file(kept.get(), root.get()));
  ASSERT_TRUE(notify("READY=1"));
  EXPECT_EQ(starter.receive(), "READY=1");
}

TEST(DescriptorStore, without_anybody_who_listens_nothing_is_kept) {
  unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(notify("READY=1"));
  Status s = store(kHomeDescriptor, 0);
  ASSERT_FALSE(s);
  EXPECT_EQ(s.error().code, ENOTCONN);
  setenv("NOTIFY_SOCKET", "@larder-test-nobody", 1);
  EXPECT_FALSE(notify("READY=1"));
  unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace larder
