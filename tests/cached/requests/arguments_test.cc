#include "cached/requests/arguments.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace larder {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Arguments, AreReadByTheirTypes) {
  const json args = json::parse(R"({"name": "a", "pin": true, "jobs": 3, "options": {"k": "v"}, "none": null})");
  Arguments in(args);
  EXPECT_EQ(in.text("name"), "a");
  EXPECT_EQ(in.text_or_empty("group"), "");
  EXPECT_TRUE(in.flag("pin", false));
  EXPECT_TRUE(in.flag("absent", true));
  EXPECT_EQ(in.number("jobs", 9), 3u);
  EXPECT_EQ(in.number("none", 9), 9u);
  EXPECT_EQ(in.texts("options"), (StoreOptions{{"k", "v"}}));
  EXPECT_TRUE(in.texts("none").empty());
  EXPECT_TRUE(in.status().ok());
}

TEST(Arguments, PathsAreOneOrMany) {
  const json one = json::parse(R"({"path": "/a"})"), many = json::parse(R"({"paths": ["/a", "/b"]})");
  EXPECT_THAT(Arguments(one).paths(), ElementsAre("/a"));
  EXPECT_THAT(Arguments(many).paths(), ElementsAre("/a", "/b"));
  for (const char* bad : {"{}", R"({"path": 7})", R"({"paths": []})", R"({"paths": "/a"})"}) {
    const json none = json::parse(bad);
    Arguments in(none);
    EXPECT_TRUE(in.paths().empty());
    EXPECT_EQ(in.status().error().code, EINVAL) << bad;
  }
}

TEST(Arguments, OfAnotherTypeAreAnErrorThatNamesThem) {
  const json args = json::parse(R"({"n": 7, "s": "x", "zero": 0, "minus": -1, "o": {"k": 7}, "l": []})");
  auto error = [&](auto read) {
    Arguments in(args);
    read(in);
    EXPECT_FALSE(in.status().ok());
    return in.status() ? std::string() : in.status().error().message;
  };
  EXPECT_EQ(error([](Arguments& in) { in.text("absent"); }), "the request has no \"absent\"");
  EXPECT_EQ(error([](Arguments& in) { in.text("n"); }), "\"n\" must be a string");
  EXPECT_EQ(error([](Arguments& in) { in.text_or_empty("n"); }), "\"n\" must be a string");
  EXPECT_EQ(error([](Arguments& in) { in.flag("s", true); }), "\"s\" must be true or false");
  EXPECT_EQ(error([](Arguments& in) { in.texts("l"); }), "\"l\" must be an object");
  EXPECT_EQ(error([](Arguments& in) { in.texts("o"); }), "o: \"k\" must be a string");
  for (const char* key : {"s", "zero", "minus"})
    EXPECT_THAT(error([&](Arguments& in) { in.number(key, 1); }), HasSubstr("must be a number above 0")) << key;
}

TEST(Arguments, TheFirstErrorIsTheOneThatIsTold) {
  const json args = json::object();
  Arguments in(args);
  in.text("first");
  in.text("second");
  EXPECT_THAT(in.status().error().message, HasSubstr("first"));
}

}  // namespace
}  // namespace larder
