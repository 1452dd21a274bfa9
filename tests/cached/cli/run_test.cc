#include "cached/cli/run.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cached/cli/app.h"
#include "cached/cli/report.h"

namespace larder::cli {
namespace {

// Sets a variable for one test.
class Environment {
 public:
  Environment(const char* name, const char* value) : name_(name) {
    const char* old = getenv(name);
    had_ = old != nullptr;
    old_ = old ? old : "";
    value ? setenv(name, value, 1) : unsetenv(name);
  }
  ~Environment() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  bool had_;
  std::string old_;
};

std::string temp_folder() {
  std::string name = testing::TempDir() + "larder-run-XXXXXX";
  return mkdtemp(name.data());
}

int run_words(std::vector<std::string> words) {
  std::vector<char*> argv = {const_cast<char*>("larder")};
  for (std::string& w : words)
    argv.push_back(w.data());
  argv.push_back(nullptr);
  return run_app(static_cast<int>(argv.size()) - 1, argv.data());
}

TEST(PreloadValue, ComesFirstAndOnce) {
  EXPECT_EQ(preload_value("/l/liblarder.so", ""), "/l/liblarder.so");
  EXPECT_EQ(preload_value("/l/liblarder.so", "/a.so:/b.so"), "/l/liblarder.so:/a.so:/b.so");
  EXPECT_EQ(preload_value("/l/liblarder.so", "/a.so /l/liblarder.so  /b.so:"), "/l/liblarder.so:/a.so:/b.so");
}

TEST(FindLibrary, TakesTheEnvironmentsAndRefusesWhatTheLoaderCannotName) {
  std::string folder = temp_folder();
  std::ofstream(folder + "/lib.so") << "x";
  std::ofstream(folder + "/with space.so") << "x";
  {
    Environment lib("LARDER_LIB", (folder + "/lib.so").c_str());
    auto found = find_library();
    ASSERT_TRUE(found.ok()) << found.error().message;
    EXPECT_EQ(*found, folder + "/lib.so");
  }
  {
    Environment lib("LARDER_LIB", (folder + "/with space.so").c_str());
    EXPECT_EQ(find_library().error().code, EINVAL);
  }
  {
    Environment lib("LARDER_LIB", (folder + "/none.so").c_str());
    auto none = find_library();
    ASSERT_FALSE(none.ok());
    EXPECT_NE(none.error().message.find(folder + "/none.so"), std::string::npos);
  }
  std::filesystem::remove_all(folder);
}

TEST(FindSocket, FollowsTheDocumentedOrder) {
  std::string folder = temp_folder();
  Environment runtime("XDG_RUNTIME_DIR", folder.c_str());
  {
    Environment set("LARDER_SOCKET", "/x/../y/s");
    EXPECT_EQ(find_socket()->path, "/y/s");
    EXPECT_EQ(find_socket()->origin, SocketOrigin::kEnvironment);
  }
  {
    Environment set("LARDER_SOCKET", ("/" + std::string(200, 'x')).c_str());
    EXPECT_EQ(find_socket().error().code, ENAMETOOLONG);
  }
  Environment unset("LARDER_SOCKET", nullptr);
  if (access("/run/larder/larder.sock", F_OK) == 0) GTEST_SKIP() << "this machine has a larderd of its own";
  EXPECT_EQ(find_socket()->path, folder + "/larder/larder.sock");
  Environment gone("XDG_RUNTIME_DIR", (folder + "/none").c_str());
  auto tmp = find_socket();
  if (tmp) {
    EXPECT_EQ(tmp->path, "/tmp/larder-" + std::to_string(geteuid()) + "/larder.sock");
  } else {
    EXPECT_EQ(tmp.error().code, EACCES);
  }
  std::filesystem::remove_all(folder);
}

TEST(StateFolder, IsMadeBelowTheUsersOwn) {
  std::string folder = temp_folder();
  Environment state("XDG_STATE_HOME", folder.c_str());
  auto found = user_state_folder();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, folder + "/larder");
  EXPECT_TRUE(std::filesystem::is_directory(*found));
  std::filesystem::remove_all(folder);
}

class RunStatus : public testing::Test {
 protected:
  std::string folder_ = temp_folder();
  Environment lib_{"LARDER_LIB", "/bin/true"};
  Environment socket_{"LARDER_SOCKET", (folder_ + "/s").c_str()};
  void TearDown() override { std::filesystem::remove_all(folder_); }
};

TEST_F(RunStatus, ACommandThatIsNotThereIs127AndStartsNothing) {
  EXPECT_EQ(run_words({"run", "--mount", "s3://b=/data/x", "--", "/no/such/command"}), kExitNotFound);
  EXPECT_EQ(run_words({"run", "--mount", "s3://b=/data/x", "--", "/etc/passwd"}), kExitNotExecutable);
  EXPECT_TRUE(std::filesystem::is_empty(folder_));
}

TEST_F(RunStatus, TheCommandsOwnOptionsAreNotOurs) {
  EXPECT_EQ(run_words({"run", "--mount", "s3://b=/data/x", "--", "/no/such", "--mount", "--", "--help", "-x"}),
            kExitNotFound);
}

TEST_F(RunStatus, OurOwnFailuresAre125) {
  EXPECT_EQ(run_words({"run", "--mount", "nonsense", "--", "/bin/true"}), kExitRunFailed);
  EXPECT_EQ(run_words({"run", "--cache-size", "ten", "--mount", "s3://b=/x", "--", "/bin/true"}), kExitRunFailed);
  EXPECT_EQ(run_words({"run", "--mount", "s3://a=/x", "--mount", "s3://b=/x", "--", "/bin/true"}), kExitRunFailed);
  EXPECT_EQ(run_words({"run", "--", "/bin/true"}), kExitRunFailed) << "no daemon and no --mount";
}

TEST_F(RunStatus, TheGrammarIsCheckedFirst) {
  EXPECT_EQ(run_words({}), kExitUsage);
  EXPECT_EQ(run_words({"nonsense"}), kExitUsage);
  EXPECT_EQ(run_words({"run"}), kExitUsage);
  EXPECT_EQ(run_words({"run", "/bin/true"}), kExitUsage) << "-- is missing";
  EXPECT_EQ(run_words({"run", "--fill", "sometimes", "--", "/bin/true"}), kExitUsage);
  EXPECT_EQ(run_words({"sync", "a"}), kExitUsage) << "a destination is missing";
  EXPECT_EQ(run_words({"warm"}), kExitUsage);
  EXPECT_EQ(run_words({"status"}), kExitFailed);
  EXPECT_EQ(run_words({"--help"}), kExitOk);
  EXPECT_EQ(run_words({"run", "--help"}), kExitOk);
}

}  // namespace
}  // namespace larder::cli
