#include "cached/store/http/reply_reader.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

struct Read {
  HttpReply reply;
  std::string body;
  Status status;
  bool complete = false, keeps = false;
  size_t left = 0;  // bytes after the reply
};

// Feeds `wire` in pieces of `piece` bytes, then the end of the connection if `closed`.
Read read(std::string_view wire, size_t piece, bool closed = false) {
  Read out;
  ReplyReader reader;
  auto sink = [&](std::span<const std::byte> data) -> Status {
    out.body.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  };
  while (!wire.empty() && !reader.complete()) {
    std::string_view bytes = wire.substr(0, piece);
    auto used = reader.head_done() ? reader.take_body(std::as_bytes(std::span(bytes)), sink)
                                   : reader.take_head(bytes, out.reply);
    if (!used.ok()) {
      out.status = used.error();
      return out;
    }
    wire.remove_prefix(*used);
    if (*used == 0 && !reader.head_done()) break;
  }
  if (closed) reader.at_end();
  out.complete = reader.complete();
  out.keeps = reader.keeps_connection();
  out.left = wire.size();
  return out;
}

class ReplyReaderTest : public testing::TestWithParam<size_t> {};

TEST_P(ReplyReaderTest, ContentLength) {
  Read r = read("HTTP/1.1 206 Partial Content\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\nhellomore", GetParam());
  EXPECT_TRUE(r.complete);
  EXPECT_TRUE(r.keeps);
  EXPECT_EQ(r.reply.status, 206);
  EXPECT_EQ(r.reply.header("etag"), "\"x\"");
  EXPECT_EQ(r.body, "hello");
  EXPECT_EQ(r.left, 4u);
}

TEST_P(ReplyReaderTest, Chunks) {
  Read r = read(
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\nA\r\n0123456789\r\n0\r\nTrailer: "
      "1\r\n\r\n",
      GetParam());
  EXPECT_TRUE(r.complete) << (r.status.ok() ? "" : r.status.error().message);
  EXPECT_EQ(r.body, "hello0123456789");
  EXPECT_EQ(r.left, 0u);
}

TEST_P(ReplyReaderTest, UntilTheConnectionEnds) {
  Read r = read("HTTP/1.0 200 OK\r\n\r\nhello", GetParam(), true);
  EXPECT_TRUE(r.complete);
  EXPECT_FALSE(r.keeps);
  EXPECT_EQ(r.body, "hello");
  EXPECT_FALSE(read("HTTP/1.0 200 OK\r\n\r\nhello", GetParam()).complete);
}

TEST_P(ReplyReaderTest, InterimRepliesAreSkipped) {
  Read r = read(
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
      "2\r\n\r\nok",
      GetParam());
  EXPECT_TRUE(r.complete);
  EXPECT_EQ(r.reply.status, 200);
  EXPECT_EQ(r.reply.header("link"), "");
  EXPECT_EQ(r.body, "ok");
}

TEST_P(ReplyReaderTest, NothingFollows204And304AndZero) {
  EXPECT_TRUE(read("HTTP/1.1 204 No Content\r\n\r\n", GetParam()).complete);
  EXPECT_TRUE(read("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", GetParam()).complete);
  EXPECT_TRUE(read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", GetParam()).complete);
}

TEST_P(ReplyReaderTest, CutShortIsNotComplete) {
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", GetParam(), true).complete);
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", GetParam(), true).complete);
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nContent-Le", GetParam(), true).complete);
}

// Two framings of one body are how replies are smuggled; the rest is not HTTP.
TEST_P(ReplyReaderTest, WhatIsNoReplyIsAnError) {
  for (const char* bad :
       {"SSH-2.0-OpenSSH\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloooo\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"}) {
    EXPECT_FALSE(read(bad, GetParam()).status.ok()) << bad;
  }
  EXPECT_FALSE(read("HTTP/1.1 200 OK\r\nX: " + std::string(70'000, 'x'), GetParam()).status.ok());
}

INSTANTIATE_TEST_SUITE_P(InPieces, ReplyReaderTest, testing::Values(1, 2, 3, 7, 64, 100'000));

}  // namespace
}  // namespace larder
