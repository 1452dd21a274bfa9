// What comes from outside must not reach a log or a terminal as it is, and a header must not keep its spaces.
#include "cached/base/text.h"

#include <gtest/gtest.h>

namespace larder {
namespace {

TEST(TextTest, TrimmedKeepsWhatIsInside) {
  EXPECT_EQ(trimmed(" \ta b\r\n"), "a b");
  EXPECT_EQ(trimmed(" \t\r\n"), "");
  EXPECT_EQ(trimmed(""), "");
  EXPECT_EQ(trimmed(" \"key\" ", " \""), "key");
}

TEST(TextTest, LowerCaseIsAsciiOnly) {
  EXPECT_EQ(lower_case("ETag-@[\xc4Z"), "etag-@[\xc4z");
}

TEST(TextTest, PrintableIsOneLineAndEndsInTime) {
  EXPECT_EQ(printable("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(printable("stra\xc3\x9f"
                      "e"),
            "stra\xc3\x9f"
            "e");
  EXPECT_EQ(printable(std::string(1000, 'x')).size(), 300u);
  EXPECT_EQ(printable(std::string(1000, 'x'), kWhole).size(), 1000u);
}

}  // namespace
}  // namespace larder
