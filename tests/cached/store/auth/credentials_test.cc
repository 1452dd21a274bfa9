// Which keys sign: the chain's order, its files, and the services that hand out keys that expire.
#include "cached/store/auth/credentials.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "cached/store/auth/aws_providers.h"
#include "cached/store/auth/profile_credentials.h"
#include "tests/cached/store/http/live_server.h"

namespace larder {
namespace {

using namespace larder::testing;

Environment environment(std::map<std::string, std::string> values) {
  values.emplace("AWS_EC2_METADATA_DISABLED", "true");
  return [values](const char* name) -> std::optional<std::string> {
    auto it = values.find(name);
    if (it == values.end()) return std::nullopt;
    return it->second;
  };
}

Result<std::unique_ptr<CredentialsProvider>> chain(const StoreOptions& options, const Environment& env) {
  return aws_credentials(options, env, load_profile(env), "us-east-1");
}

// Waits for a background fetch.
Credentials fetched(CredentialsProvider& provider) {
  for (int i = 0; i < 500; ++i) {
    auto now = provider.current();
    if (now.ok()) return **now;
    if (now.error().code != EAGAIN) {
      ADD_FAILURE() << now.error().message;
      return {};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << "no credentials in five seconds";
  return {};
}

TEST(Credentials, ProfileFilesAreReadAsTheAwsToolsReadThem) {
  const char* config =
      "[default]\nregion = eu-west-1\n# c\n[profile  two ]\r\nregion=cn-north-1\r\ns3 =\n  addressing_style = "
      "path\naws_access_key_id = FROMCONFIG\n[profile]\nx=1\n[ two]\ny=2\n";
  EXPECT_EQ(parse_profile(config, "default", true), (Profile{{"region", "eu-west-1"}}));
  EXPECT_EQ(parse_profile(config, "two", true),
            (Profile{{"region", "cn-north-1"}, {"s3", ""}, {"aws_access_key_id", "FROMCONFIG"}}));
  EXPECT_EQ(parse_profile("[two]\naws_secret_access_key = a=b=c \n", "two", false),
            (Profile{{"aws_secret_access_key", "a=b=c"}}));
  EXPECT_TRUE(parse_profile("garbage\n[\n]\n=\n\n\0", "default", false).empty());
}

TEST(Credentials, TheChainTakesTheFirstThatIsThere) {
  TempDir home;
  std::ofstream(home.path() + "/credentials")
      << "[default]\naws_access_key_id=FILE\naws_secret_access_key=fs\n"
         "[other]\naws_access_key_id=OTHER\naws_secret_access_key=os\naws_session_token=tok\n";
  std::map<std::string, std::string> values = {{"AWS_SHARED_CREDENTIALS_FILE", home.path() + "/credentials"},
                                               {"AWS_CONFIG_FILE", "/nonexistent"}};
  EXPECT_EQ((**(*chain({}, environment(values)))->current()).access_key, "FILE");
  values["AWS_PROFILE"] = "other";
  auto other = **(*chain({}, environment(values)))->current();
  EXPECT_EQ(other.access_key, "OTHER");
  EXPECT_EQ(other.session_token, "tok");
  values["AWS_ACCESS_KEY_ID"] = "ENV";
  values["AWS_SECRET_ACCESS_KEY"] = "es";
  values["AWS_SESSION_TOKEN"] = "et";
  auto env = **(*chain({}, environment(values)))->current();
  EXPECT_EQ(env.access_key, "ENV");
  EXPECT_EQ(env.session_token, "et");
  auto option = **(*chain({{"access_key", "OPT"}, {"secret_key", "os"}}, environment(values)))->current();
  EXPECT_EQ(option.access_key, "OPT");
  EXPECT_EQ(option.session_token, "");
  EXPECT_EQ(*(*chain({{"anonymous", "true"}}, environment(values)))->current(), nullptr);
}

TEST(Credentials, NoneAndHalfAreErrorsThatSayWhere) {
  auto none = chain({}, environment({{"HOME", "/nonexistent"}}));
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, EACCES);
  for (const char* place :
       {"access_key", "AWS_ACCESS_KEY_ID", "~/.aws/credentials", "profile 'default'", "anonymous=true"}) {
    EXPECT_NE(none.error().message.find(place), std::string::npos) << place;
  }
  auto half = chain({}, environment({{"AWS_ACCESS_KEY_ID", "ONLY"}}));
  ASSERT_FALSE(half.ok());
  EXPECT_NE(half.error().message.find("the secret key is missing"), std::string::npos) << half.error().message;
}

TEST(Credentials, CredentialProcessIsRunAndItsReplyChecked) {
  TempDir home;
  std::ofstream(home.path() + "/config") << "[default]\ncredential_process = printf "
                                            "'{\"Version\":1,\"AccessKeyId\":\"P\",\"SecretAccessKey\":\"s\","
                                            "\"SessionToken\":\"t\",\"Expiration\":\"2100-01-01T00:00:00Z\"}'\n";
  auto provider = chain({}, environment({{"AWS_CONFIG_FILE", home.path() + "/config"}, {"HOME", "/nonexistent"}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  auto got = fetched(**provider);
  EXPECT_EQ(got.access_key, "P");
  EXPECT_EQ(got.session_token, "t");
  EXPECT_EQ(got.expires_ns, 4102444800LL * 1'000'000'000);
  for (const char* text :
       {"", "[]", "{}", "{\"AccessKeyId\":1,\"SecretAccessKey\":\"s\"}", "{\"AccessKeyId\":\"a\"}"}) {
    EXPECT_FALSE(parse_credentials_json(text, "Token").ok()) << text;
  }
}

// The services, played by the fault proxy's canned replies on loopback.
class CannedServer {
 public:
  CannedServer() : proxy_("http://127.0.0.1:9") {}
  void reply(const std::string& match, const std::string& body, int status = 200, int count = 1 << 30) {
    rules_.push_back({{"match", match}, {"fault", "status"}, {"status", status}, {"body", body}, {"count", count}});
    proxy_.rules(rules_);
  }
  const std::string& endpoint() const { return proxy_.endpoint; }
  nlohmann::json log() { return proxy_.log(); }

 private:
  FaultProxy proxy_;
  nlohmann::json rules_ = nlohmann::json::array();
};

constexpr const char* kJson =
    R"({"AccessKeyId":"ROLE","SecretAccessKey":"rs","Token":"rt","Expiration":"2100-01-01T00:00:00Z"})";

TEST(Credentials, AProfileIsReadAgainWhenItsKeysAreRefused) {
  TempDir home;
  const std::string path = home.path() + "/credentials";
  auto write = [&](const std::string& key) {
    std::ofstream(path + ".new") << "[default]\naws_access_key_id=" << key << "\naws_secret_access_key=s\n";
    std::filesystem::rename(path + ".new", path);
  };
  write("ONE");
  auto provider = chain({}, environment({{"AWS_SHARED_CREDENTIALS_FILE", path}, {"AWS_CONFIG_FILE", "/nonexistent"}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  auto one = *(*provider)->current();
  EXPECT_EQ(one->access_key, "ONE");
  ASSERT_TRUE((*provider)->refused(one.get(), false));
  EXPECT_EQ(fetched(**provider).access_key, "ONE");
  EXPECT_FALSE((*provider)->refused((*(*provider)->current()).get(), false)) << "the same keys again: no third try";
  write("TWO");
  auto other = chain({}, environment({{"AWS_SHARED_CREDENTIALS_FILE", path}, {"AWS_CONFIG_FILE", "/nonexistent"}}));
  auto two = *(*other)->current();
  EXPECT_EQ(two->access_key, "TWO");
  write("THREE");
  ASSERT_TRUE((*other)->refused(two.get(), false));
  EXPECT_EQ(fetched(**other).access_key, "THREE");
  std::ofstream(path) << "[default]\n";
  ASSERT_TRUE((*other)->refused((*(*other)->current()).get(), false));
  EXPECT_EQ(fetched(**other).access_key, "THREE") << "the last good ones stay";
  EXPECT_NE((*other)->trouble().find("has no keys any more"), std::string::npos) << (*other)->trouble();
}

TEST(Credentials, KeysThatExpiredMayHaveTheirSuccessorsAMomentLate) {
  CannedServer server;
  server.reply("^GET /creds", R"({"AccessKeyId":"ONE","SecretAccessKey":"s","Token":"t"})", 200, 2);
  server.reply("^GET /creds", kJson);
  auto provider = chain({}, environment({{"HOME", "/nonexistent"},
                                         {"AWS_CONTAINER_CREDENTIALS_FULL_URI", server.endpoint() + "/creds"}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  EXPECT_EQ(fetched(**provider).access_key, "ONE");
  ASSERT_TRUE((*provider)->refused((*(*provider)->current()).get(), true));
  EXPECT_EQ(fetched(**provider).access_key, "ROLE");
}

TEST(Credentials, WhatAProfileAsksForAndWeDoNotKnowIsAnError) {
  TempDir home;
  const std::pair<const char*, const char*> cases[] = {
      {"role_arn=arn:aws:iam::1:role/r", "nothing to assume it with"},
      {"role_arn=arn:aws:iam::1:role/r\ncredential_source=Moon", "Moon"},
      {"role_arn=arn:aws:iam::1:role/r\nsource_profile=gone", "'gone'"},
      {"role_arn=arn:aws:iam::1:role/r\nsource_profile=a\n[profile "
       "a]\nrole_arn=arn:aws:iam::1:role/s\nsource_profile=default",
       "a circle"},
      {"role_arn=arn:aws:iam::1:role/r\nsource_profile=a\nmfa_serial=arn:x\n[profile "
       "a]\naws_access_key_id=k\naws_secret_access_key=s",
       "mfa_serial"},
      {"sso_session=corp", "aws configure export-credentials"},
  };
  for (auto& [text, what] : cases) {
    std::ofstream(home.path() + "/config") << "[default]\n" << text << "\n";
    auto provider = chain({}, environment({{"AWS_CONFIG_FILE", home.path() + "/config"}, {"HOME", "/nonexistent"}}));
    ASSERT_FALSE(provider.ok()) << text;
    EXPECT_NE(provider.error().message.find(what), std::string::npos) << provider.error().message;
  }
}

TEST(Credentials, InstanceMetadataIsAskedWithAToken) {
  CannedServer server;
  server.reply("^PUT /latest/api/token", "THE-TOKEN");
  server.reply("^GET /latest/meta-data/iam/security-credentials/$", "my-role\n");
  server.reply("^GET /latest/meta-data/iam/security-credentials/my-role", kJson);
  auto provider = chain({}, environment({{"HOME", "/nonexistent"},
                                         {"AWS_EC2_METADATA_DISABLED", "false"},
                                         {"AWS_EC2_METADATA_SERVICE_ENDPOINT", server.endpoint()}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  EXPECT_EQ((**(*provider)->current()).access_key, "ROLE");
  EXPECT_EQ((**(*provider)->current()).session_token, "rt");
}

TEST(Credentials, ContainerCredentialsAreRenewedWhenTheStoreCallsThemExpired) {
  CannedServer server;
  server.reply("^GET /creds", R"({"AccessKeyId":"ONE","SecretAccessKey":"s","Token":"t"})", 200, 1);
  server.reply("^GET /creds", "busy", 500, 1);
  server.reply("^GET /creds", kJson);
  auto provider = chain({}, environment({{"HOME", "/nonexistent"},
                                         {"AWS_CONTAINER_CREDENTIALS_FULL_URI", server.endpoint() + "/creds"},
                                         {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "Bearer x"}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  EXPECT_EQ(fetched(**provider).access_key, "ONE");
  auto old = *(*provider)->current();
  EXPECT_TRUE((*provider)->refused(old.get(), true));
  EXPECT_EQ(fetched(**provider).access_key, "ROLE") << "whoever signs waits for the new ones";
  EXPECT_TRUE((*provider)->refused(old.get(), true)) << "a request signed with the old ones gets another attempt";
  auto far = chain(
      {}, environment({{"HOME", "/nonexistent"}, {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://example.org/creds"}}));
  ASSERT_FALSE(far.ok()) << "the token must not be sent in clear to any host";
  EXPECT_EQ(far.error().code, EINVAL);
  for (const char* trick : {"http://127.0.0.1@example.org/", "http://127.0.0.1.example.org/", "ftp://127.0.0.1/"}) {
    EXPECT_FALSE(chain({}, environment({{"HOME", "/nonexistent"}, {"AWS_CONTAINER_CREDENTIALS_FULL_URI", trick}})).ok())
        << trick;
  }
}

TEST(Credentials, WebIdentityExchangesTheTokenOfTheFile) {
  CannedServer server;
  server.reply(
      "^POST /",
      "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEB</AccessKeyId>"
      "<SecretAccessKey>ws</SecretAccessKey><SessionToken>wt</SessionToken><Expiration>2100-01-01T00:00:00Z</"
      "Expiration>"
      "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>");
  TempDir dir;
  std::ofstream(dir.path() + "/token") << "web-token\n";
  auto provider = chain({}, environment({{"HOME", "/nonexistent"},
                                         {"AWS_WEB_IDENTITY_TOKEN_FILE", dir.path() + "/token"},
                                         {"AWS_ROLE_ARN", "arn:aws:iam::1:role/r"},
                                         {"AWS_ENDPOINT_URL_STS", server.endpoint() + "/"}}));
  ASSERT_TRUE(provider.ok()) << provider.error().message;
  auto got = fetched(**provider);
  EXPECT_EQ(got.access_key, "WEB");
  EXPECT_EQ(got.session_token, "wt");
  EXPECT_FALSE(parse_sts_xml("<x/>", "AssumeRoleWithWebIdentity").ok());
  EXPECT_FALSE(parse_sts_xml("no", "AssumeRole").ok());
}

TEST(Credentials, AServiceThatFailsIsAnErrorNotAWait) {
  CannedServer server;
  server.reply("^GET /creds", "denied", 403);
  auto provider = chain({}, environment({{"HOME", "/nonexistent"},
                                         {"AWS_CONTAINER_CREDENTIALS_FULL_URI", server.endpoint() + "/creds"}}));
  ASSERT_TRUE(provider.ok());
  Result<std::shared_ptr<const Credentials>> now = make_error(EAGAIN, "");
  for (int i = 0; i < 500 && !now.ok() && now.error().code == EAGAIN; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    now = (*provider)->current();
  }
  EXPECT_EQ(now.error().code, EACCES);
  EXPECT_NE(now.error().message.find("HTTP 403"), std::string::npos) << now.error().message;
}

}  // namespace
}  // namespace larder
