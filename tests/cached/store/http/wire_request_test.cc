#include "cached/store/http/wire_request.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

WireRequest wire(std::string url, std::string headers = {}) {
  HttpRequest request;
  request.url = std::move(url);
  request.headers = std::move(headers);
  return wire_request(request);
}

TEST(WireRequestTest, LineHostAndHeaders) {
  const WireRequest out = wire("http://s3.example:9000/bucket/a%20b?versionId=1", "range: bytes=0-9\r\nx: y\r\n");
  EXPECT_EQ(out.authority, "s3.example:9000");
  EXPECT_EQ(out.text,
            "GET /bucket/a%20b?versionId=1 HTTP/1.1\r\nHost: s3.example:9000\r\nrange: bytes=0-9\r\nx: y\r\n\r\n");
}

TEST(WireRequestTest, WithoutAPathItIsTheRoot) {
  EXPECT_EQ(wire("http://s3.example").text, "GET / HTTP/1.1\r\nHost: s3.example\r\n\r\n");
}

TEST(WireRequestTest, HostAndPort) {
  struct Case {
    std::string authority, host, port;
  };
  for (const Case& c : std::initializer_list<Case>{{"s3.example", "s3.example", "80"},
                                                   {"s3.example:9000", "s3.example", "9000"},
                                                   {"10.0.0.1:1", "10.0.0.1", "1"},
                                                   {"[::1]", "::1", "80"},
                                                   {"[fe80::1]:9000", "fe80::1", "9000"}}) {
    const HostPort got = split_authority(c.authority);
    EXPECT_EQ(got.host, c.host) << c.authority;
    EXPECT_EQ(got.port, c.port) << c.authority;
  }
}

}  // namespace
}  // namespace larder
