// A wrong signature is a dataset nobody can read: every published vector, byte for byte.
#include "cached/store/auth/sigv4.h"

#include <gtest/gtest.h>

#include "cached/store/api/percent.h"

namespace larder {
namespace {

constexpr int64_t kTime = 1369353600;  // 20130524T000000Z
const Credentials kWho{"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", 0};
const std::string kHost = "examplebucket.s3.amazonaws.com";

SigningRequest s3_request(std::string path, NameValues query, NameValues more,
                          std::string payload = std::string(kEmptySha256)) {
  NameValues headers = {{"host", kHost}, {"x-amz-content-sha256", payload}, {"x-amz-date", "20130524T000000Z"}};
  headers.insert(headers.end(), more.begin(), more.end());
  return {"GET", std::move(path), std::move(query), std::move(headers), std::move(payload)};
}

std::string signature_of(const std::string& authorization) {
  return authorization.substr(authorization.rfind('=') + 1);
}

struct Vector {
  const char* name;
  SigningRequest request;
  const char* canonical_sha;  // may be empty
  const char* signature;
};

std::vector<Vector> s3_vectors() {
  return {
      {"range", s3_request("/test.txt", {}, {{"range", "bytes=0-9"}}),
       "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972",
       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
      {"lifecycle", s3_request("/", {{"lifecycle", ""}}, {}), "",
       "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
      {"list", s3_request("/", {{"max-keys", "2"}, {"prefix", "J"}}, {}), "",
       "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
      {"key of strange bytes and a token",
       s3_request("/" + percent_encode("a b/c+d=e~测.jpg", true), {},
                  {{"range", "bytes=0-1048575"}, {"x-amz-security-token", "TOKEN/abc+="}},
                  std::string(kUnsignedPayload)),
       "f8ab56953f68b1897650458a62c76aa8a21c355c1923f243d3a6a6a5bd9b0352",
       "9b834369e5a1cb4843847338094dd66691095f437062c85d47b1d9ca7933bf7f"},
      {"list page",
       s3_request("/",
                  {{"list-type", "2"},
                   {"prefix", "train/"},
                   {"continuation-token", "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM="},
                   {"encoding-type", "url"},
                   {"max-keys", "1000"}},
                  {}),
       "", "00c40a0afcb09a2e555aa733b5c53426daf1c939f379b9a9007e526c4ee945b8"},
  };
}

TEST(SigV4, SignsThePublishedAndDerivedS3Requests) {
  SigV4 signer;
  for (auto& v : s3_vectors()) {
    SCOPED_TRACE(v.name);
    if (*v.canonical_sha) {
      EXPECT_EQ(sha256_hex(canonical_request(v.request)), v.canonical_sha);
    }
    EXPECT_EQ(signature_of(signer.authorization(v.request, kWho, "us-east-1", kTime)), v.signature);
  }
}

TEST(SigV4, WholeAuthorizationHeader) {
  SigV4 signer;
  EXPECT_EQ(signer.authorization(s3_vectors()[0].request, kWho, "us-east-1", kTime),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
            "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
            "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

// awslabs/aws-c-auth tests/aws-signing-test-suite/v4: service "service", 20150830T123600Z.
TEST(SigV4, SignsTheGenericTestSuite) {
  const Credentials who{"AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "", 0};
  const int64_t time = 1440938160;
  const NameValues headers = {{"host", "example.amazonaws.com"}, {"x-amz-date", "20150830T123600Z"}};
  SigV4 signer("service");
  SigningRequest slashes{"GET", "//example//", {}, headers, std::string(kEmptySha256)};
  EXPECT_EQ(signature_of(signer.authorization(slashes, who, "us-east-1", time)),
            "87cca117541a147f6df867677d98a7d80dff226d2bfca9e4ffa899665623c7e5");
  SigningRequest token{"GET", "/", {}, headers, std::string(kEmptySha256)};
  token.headers.emplace_back("x-amz-security-token",
                             "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267");
  EXPECT_EQ(signature_of(signer.authorization(token, who, "us-east-1", time)),
            "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8");
}

TEST(SigV4, SignsWithTheKeyOfTheDayTheSecretAndTheRegion) {
  SigV4 cached;
  const SigningRequest request = s3_vectors()[0].request;
  Credentials other = kWho;
  other.secret_key += "x";
  for (int round = 0; round < 2; ++round) {  // the second round finds a key of another kind in the cache each time
    EXPECT_EQ(cached.authorization(request, kWho, "us-east-1", kTime),
              SigV4().authorization(request, kWho, "us-east-1", kTime));
    EXPECT_EQ(cached.authorization(request, kWho, "eu-west-1", kTime),
              SigV4().authorization(request, kWho, "eu-west-1", kTime));
    EXPECT_EQ(cached.authorization(request, other, "us-east-1", kTime),
              SigV4().authorization(request, other, "us-east-1", kTime));
    EXPECT_EQ(cached.authorization(request, kWho, "us-east-1", kTime + 86400),
              SigV4().authorization(request, kWho, "us-east-1", kTime + 86400));
  }
  EXPECT_NE(cached.authorization(request, kWho, "eu-west-1", kTime),
            cached.authorization(request, kWho, "us-east-1", kTime));
}

TEST(SigV4, CanonicalHeadersAreTrimmedSortedAndJoined) {
  SigningRequest request{"GET", "", {}, {{"zeta", "  a   b  "}, {"host", "h"}, {"alpha", "2"}, {"alpha", "1"}}, "P"};
  EXPECT_EQ(canonical_request(request), "GET\n/\n\nalpha:2,1\nhost:h\nzeta:a b\n\nalpha;host;zeta\nP");
}

TEST(Percent, EncodesEveryByteOnceAndDecodesItBack) {
  std::string all;
  for (int i = 0; i < 256; ++i)
    all.push_back(static_cast<char>(i));
  EXPECT_EQ(percent_decode(percent_encode(all, false), true), all);
  EXPECT_EQ(percent_decode(percent_encode(all, true), true), all);
  EXPECT_EQ(percent_encode("a/b c+d%~é", true), "a/b%20c%2Bd%25~%C3%A9");
  EXPECT_EQ(percent_encode("a/b", false), "a%2Fb");
  EXPECT_EQ(percent_decode("a+b%2B%zz%4", true), "a b+%zz%4");
  EXPECT_EQ(percent_decode("a+b", false), "a+b");
}

}  // namespace
}  // namespace larder
