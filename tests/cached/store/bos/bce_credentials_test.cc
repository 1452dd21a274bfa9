// Keys that rotate must not stop a job, and a half-written file must not either.
#include "cached/store/bos/bce_credentials.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

Environment environment(std::map<std::string, std::string> values) {
  return [values](const char* name) -> std::optional<std::string> {
    auto it = values.find(name);
    if (it == values.end()) return std::nullopt;
    return it->second;
  };
}

std::string access_key(const Result<std::unique_ptr<CredentialsProvider>>& provider) {
  if (!provider.ok()) return "error: " + provider.error().message;
  auto who = (*provider)->current();
  if (!who.ok()) return "error: " + who.error().message;
  return *who ? (*who)->access_key + "/" + (*who)->secret_key + "/" + (*who)->session_token : "anonymous";
}

// As tools that rotate keys do it: a new file takes the old one's place.
void replace(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
}

TEST(BceCredentials, FilesOfBcecmd) {
  auto keys = [](std::string_view text) {
    auto who = parse_bce_credentials(text);
    return who.ok() ? who->access_key + "/" + who->secret_key + "/" + who->session_token : who.error().message;
  };
  EXPECT_EQ(keys("[Defaults]\nAk = a\nSk = s\nSts = \n"), "a/s/");
  EXPECT_EQ(keys("[Defaults]\r\nAk=a\r\nSk = \"s==\"\r\nSts = t\r\n[Other]\r\nAk = x\r\n"), "a/s==/t");
  EXPECT_EQ(keys("# mine\naccess_key = a\nsecret_key=s"), "a/s/");
  EXPECT_EQ(keys("[Other]\nAk = a\nSk = s"), "it has no Ak below [Defaults]");
  EXPECT_EQ(keys("[Defaults]\nAk = a\nS"), "it has no Sk below [Defaults]");
  EXPECT_EQ(keys("Ak = a\x01\nSk = s"), "a key in it has a blank or a control character");
  EXPECT_EQ(keys(""), "it has no Ak below [Defaults]");
}

TEST(BceCredentials, TheirOrder) {
  testing::TempDir dir;
  std::filesystem::create_directories(dir.path() + "/.go-bcecli");
  replace(dir.path() + "/.go-bcecli/credentials", "Ak = home\nSk = hs\n");
  replace(dir.path() + "/keys", "Ak = file\nSk = fs\nSts = ft\n");
  std::map<std::string, std::string> env = {{"HOME", dir.path()}};
  EXPECT_EQ(access_key(bce_credentials({}, environment(env))), "home/hs/");
  env["BDCLOUD_ACCESS_KEY"] = "env";
  EXPECT_EQ(
      access_key(bce_credentials({}, environment(env))),
      "error: BDCLOUD_ACCESS_KEY and BDCLOUD_SECRET_KEY give only half of a key pair (the secret key is missing)");
  env["BDCLOUD_SECRET_KEY"] = "es";
  env["BDCLOUD_SESSION_TOKEN"] = "et";
  EXPECT_EQ(access_key(bce_credentials({}, environment(env))), "env/es/et");
  StoreOptions options = {{"credentials_file", dir.path() + "/keys"}};
  EXPECT_EQ(access_key(bce_credentials(options, environment(env))), "file/fs/ft");
  options["access_key"] = "opt";
  options["secret_key"] = "os";
  EXPECT_EQ(access_key(bce_credentials(options, environment(env))), "opt/os/");
  options["anonymous"] = "true";
  EXPECT_EQ(access_key(bce_credentials(options, environment(env))), "anonymous");
  EXPECT_NE(access_key(bce_credentials({}, environment({}))).find("BDCLOUD_ACCESS_KEY"), std::string::npos);
  EXPECT_NE(access_key(bce_credentials({{"credentials_file", "/nowhere"}}, environment({}))).find("'/nowhere'"),
            std::string::npos);
}

TEST(BceCredentials, TheFileIsReadAgainWhenItChanges) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/keys";
  replace(path, "Ak = one\nSk = s\n");
  auto provider = bce_file_credentials(path);
  EXPECT_EQ(access_key(provider), "one/s/");
  const auto old = *(*provider)->current();
  EXPECT_FALSE((*provider)->refused(old.get(), false)) << "the file has nothing newer";
  replace(path, "Ak = two\nSk = s\nSts = t\n");
  EXPECT_EQ(access_key(provider), "two/s/t");
  EXPECT_TRUE((*provider)->refused(old.get(), false)) << "a request signed with the old keys gets another attempt";
  replace(path, "Ak = thr");
  EXPECT_EQ(access_key(provider), "two/s/t") << "half a file";
  std::filesystem::remove(path);
  EXPECT_EQ(access_key(provider), "two/s/t") << "no file";
  replace(path, "Ak = three\nSk = s\n");
  EXPECT_EQ(access_key(provider), "three/s/");
}

}  // namespace
}  // namespace larder
