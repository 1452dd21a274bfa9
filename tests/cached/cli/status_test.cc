#include "cached/cli/status.h"

#include <gtest/gtest.h>

#include "cached/cli/doctor.h"

namespace larder::cli {
namespace {

Json example() {
  return Json::parse(
      R"({"version":"0.1.0","pid":7,"uptime_s":61.2,"private":true,"socket":"/s","cache_dir":"/c","meta":"local:",
    "cache":{"size":1048576,"used":524288,"files":3},
    "reads":{"warm_opens":30,"warm_bytes":3000,"miss_opens":10,"stats":5,"lists":2,"errors":0},
    "store":{"gets":10,"lists":1,"retries":0,"bytes":2048,"errors":0,"in_flight":4,"queued":9},
    "mounts":[{"path":"/data/x","dataset":"d","source":"s3://b","version":2,"objects":8,"bytes":8192,"skipped":1,"cached_files":4,
               "cached_bytes":4096,"predicted_hit_ratio":0.437,"in_use":2,"lazy_partial":1,"fill":{"state":"running","done":4,"total":8}}],
    "datasets":[{"name":"d","source":"s3://b","mounted":true},{"name":"other","source":"file:///o","mounted":false}]})");
}

TEST(RenderStatus, SaysWhatThereIs) {
  std::string out = render_status(example());
  for (const char* part : {"larderd 0.1.0 pid 7 (private), up 1:01", "512.0 KiB of 1.0 MiB used (50%), 3 files",
                           "75.0% hits", "4 under way, 9 wait", "s3://b", "8 (8.0 KiB), cached 4 (4.0 KiB), 50%",
                           "43.7% hits predicted when shuffled; 2 files in use, 1 partly cached", "running, 4/8",
                           "1 objects whose keys", "not mounted: other (file:///o)"})
    EXPECT_NE(out.find(part), std::string::npos) << part << " is missing in\n" << out;
}

TEST(RenderStatus, ADaemonOfAnotherReleaseIsNoCrash) {
  for (const char* text :
       {"{}", R"({"mounts":3,"cache":[],"reads":"x","private":1})", R"({"mounts":[1,{"path":2}],"datasets":[{}]})"})
    EXPECT_NE(render_status(Json::parse(text)).find("larderd"), std::string::npos);
}

TEST(RenderStatus, ControlBytesOfABucketStayVisible) {
  Json status = example();
  status["mounts"][0]["source"] = "s3://b/\x1b[2J\n";
  std::string out = render_status(status);
  EXPECT_NE(out.find("s3://b/\\x1b[2J\\x0a"), std::string::npos) << out;
}

TEST(RenderTop, RatesAreDifferencesOverTime) {
  Json before = example(), after = example();
  after["reads"]["warm_opens"] = 530;
  after["store"]["bytes"] = 2048 + 10 * 1048576;
  std::string out = render_top(before, after, 2);
  EXPECT_NE(out.find("250/s"), std::string::npos) << out;
  EXPECT_NE(out.find("5.0 MiB/s"), std::string::npos) << out;
}

TEST(RenderTop, ARestartedDaemonHasNoNegativeRates) {
  Json after = example();
  after["reads"]["warm_opens"] = 0;
  EXPECT_EQ(render_top(example(), after, 1).find('-'), std::string::npos);
}

TEST(Doctor, DiagnosesEachLinkOfAChain) {
  ProgramInfo script, program;
  script.path = "/x/train";
  script.kind = ProgramKind::kScript;
  script.script_program = "tool";
  program.path = "/x/tool";
  program.kind = ProgramKind::kStatic;
  auto findings = diagnose_command({script, program});
  ASSERT_EQ(findings.size(), 2u);
  EXPECT_EQ(findings[0].verdict, Verdict::kOk);
  EXPECT_EQ(findings[1].verdict, Verdict::kFail);
  EXPECT_FALSE(findings[1].remedy.empty());
  EXPECT_EQ(render_finding(findings[1]).rfind("fail  command", 0), 0u);
}

}  // namespace
}  // namespace larder::cli
