// Credentials files that people edit, and what credential_process, a container's or an instance's endpoint and STS
// answer.
#include "cached/store/auth/credentials.h"

#include "cached/store/auth/aws_providers.h"
#include "cached/store/auth/profile_credentials.h"
#include "cached/store/bos/bce_credentials.h"
#include "tests/fuzz/fuzz.h"

using namespace larder;

namespace {

void check(const Result<Credentials>& found) {
  if (found)
    fuzz_check(!found->access_key.empty() && !found->secret_key.empty());
  else
    fuzz_check(!found.error().message.empty());
}

}  // namespace

// The first byte: what the rest is.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      (void)parse_profile(text, "default", false);
      break;
    case 1:
      (void)parse_profile(text, "work", true);
      break;
    case 2:
      check(parse_bce_credentials(text));
      break;
    case 3:
      check(parse_sts_xml(text, "AssumeRoleWithWebIdentity"));
      break;
    default:
      check(parse_credentials_json(text, "Token"));
      check(parse_credentials_json(text, "SessionToken"));
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  return {
      std::string(1, 0) +
          "# mine\n[default]\naws_access_key_id = AK\naws_secret_access_key=SK\n\n[other]\nregion = x\n",
      "\x01[default]\nregion = a\n[profile work]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = default\ns3 =\n  "
      "addressing_style = path\n",
      "\x02[Defaults]\nAk = a\nSk = b\nSts = c\n",
      "\x03<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>a</"
      "AccessKeyId><SecretAccessKey>b"
      "</SecretAccessKey><SessionToken>c</SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration></Credentials>"
      "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
      "\x04"
      R"({"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c","Token":"d","Expiration":"2026-01-02T03:04:05Z"})",
      "\x04"
      R"({"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","SessionToken":"c","Token":"d","Expiration":"4052-01-02T03:04:05Z"})"};
}
