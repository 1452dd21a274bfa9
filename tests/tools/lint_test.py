"""`make lint` fails on what it is there for: each rule, broken on purpose in a tree of its own."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LAYERS = "include/larder\ncached/base\ncached/fetch\npreload/base\npreload/wrap\n"
COUNTER = """#pragma once
#include "cached/base/mutex.h"

namespace larder {
class Counter {
 public:
  void add() {
    %s++count_;
  }

 private:
  Mutex mutex_;
  int count_ GUARDED_BY(mutex_) = 0;
};
}  // namespace larder
"""


class Tree(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp(prefix="larder-lint-")
        self.addCleanup(shutil.rmtree, self.root)
        self.write("tests/tools/layers.txt", LAYERS)
        self.copy(".clang-tidy", ".clang-format", "cached/base/mutex.h")

    def write(self, path, text):
        path = os.path.join(self.root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)

    def copy(self, *paths):
        for path in paths:
            with open(os.path.join(ROOT, path)) as f:
                self.write(path, f.read())

    def run_tool(self, name, *args):
        return subprocess.run([sys.executable, os.path.join(HERE, name), "--root", self.root, *args], capture_output=True, text=True,
                              timeout=300, env={k: v for k, v in os.environ.items() if not k.startswith("LINT_")})

    def assert_finding(self, result, *parts):
        self.assertEqual(result.returncode, 1, result.stdout + result.stderr)
        for part in parts:
            self.assertIn(part, result.stdout)


class SourcesTest(Tree):
    """lint.py"""

    def lint(self):
        return self.run_tool("lint.py")

    def test_a_tree_in_order(self):
        self.write("cached/fetch/fetch.h", '// Fetches.\n#include "cached/base/mutex.h"\n#include "larder/wire.h"\n')
        result = self.lint()
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)

    def test_an_include_that_runs_upwards(self):
        self.write("cached/base/low.cc", '#include "cached/fetch/high.h"\n')
        self.assert_finding(self.lint(), "cached/base/low.cc:1: includes cached/fetch")

    def test_the_library_includes_the_daemon(self):
        self.write("preload/wrap/open.cc", '\n#include "cached/base/files.h"\n')
        self.assert_finding(self.lint(), "preload/wrap/open.cc:2: cached/ and preload/ share include/")

    def test_a_folder_that_is_no_layer(self):
        self.write("cached/new/thing.cc", '#include "cached/base/mutex.h"\n')
        self.assert_finding(self.lint(), "cached/new is not in tests/tools/layers.txt")

    def test_a_long_source(self):
        self.write("cached/base/long.cc", "//\n" * 451)
        self.assert_finding(self.lint(), "cached/base/long.cc: 451 lines")

    def test_a_header_without_its_contract(self):
        self.write("cached/base/pool.h", "class Pool {};\n")
        self.assert_finding(self.lint(), "cached/base/pool.h:1: a header begins with its contract")

    def test_a_lock_that_the_analysis_cannot_see(self):
        self.write("cached/base/pool.cc", "static std::mutex lock;\n")
        self.assert_finding(self.lint(), "cached/base/pool.cc:1: locks are Mutex")

    def test_a_mutex_that_guards_nothing(self):
        self.write("cached/base/pool.h", "// Threads.\nclass Pool {\n  Mutex mutex_;\n  int size_ = 0;\n};\n")
        self.assert_finding(self.lint(), "cached/base/pool.h:3: nothing is GUARDED_BY(mutex_)")
        self.write("cached/base/pool.h", "// Threads.\nclass Pool {\n  Mutex mutex_;\n  int size_ GUARDED_BY(mutex_) = 0;\n};\n")
        self.assertEqual(self.lint().returncode, 0)


@unittest.skipUnless(shutil.which("clang-tidy") and shutil.which("clang-format"), "clang-tidy and clang-format are not installed (make lint installs them)")
class ClangTest(Tree):
    """clang_lint.py"""

    def lint(self, *args):
        return self.run_tool("clang_lint.py", *args)

    def test_a_tree_in_order_and_its_stamp(self):
        self.write("cached/base/counter.h", COUNTER % "MutexLock lock(mutex_);\n    ")
        self.write("cached/base/counter.cc", '#include "cached/base/counter.h"\n')
        stamps = os.path.join(self.root, "stamps")
        first, second = self.lint("--stamps", stamps), self.lint("--stamps", stamps)
        self.assertEqual(first.returncode, 0, first.stdout)
        self.assertIn("clang: 1 sources analysed, 0 findings", first.stdout)
        self.assertIn("clang: 0 sources analysed, 0 findings", second.stdout)
        self.write("cached/base/counter.h", COUNTER % "")  # a stamp does not outlive a change of a header
        self.assert_finding(self.lint("--stamps", stamps), "clang: 1 sources analysed")

    def test_a_guarded_member_without_its_lock(self):
        self.write("cached/base/counter.h", COUNTER % "")
        self.write("cached/base/counter.cc", '#include "cached/base/counter.h"\n')
        self.assert_finding(self.lint(), "cached/base/counter.h:8:", "requires holding mutex 'mutex_'", "thread-safety")

    def test_a_finding_of_clang_tidy(self):
        self.write("cached/base/moved.cc",
                   "#include <string>\n#include <utility>\n\nstd::string twice(std::string text) {\n  std::string moved = std::move(text);\n"
                   "  return moved + text;\n}\n")
        self.assert_finding(self.lint(), "cached/base/moved.cc:6:", "bugprone-use-after-move")

    def test_a_long_function(self):
        self.write("cached/base/long.cc", "int count(int value) {\n" + "  value += 1;\n" * 60 + "  return value;\n}\n")
        self.assert_finding(self.lint(), "cached/base/long.cc:1:", "readability-function-size")

    def test_a_source_that_does_not_compile(self):
        self.write("cached/base/broken.cc", "int broken() { return nothing; }\n")
        self.assert_finding(self.lint(), "cached/base/broken.cc:1:", "nothing")

    def test_a_source_that_is_not_formatted(self):
        self.write("cached/base/ugly.cc", "int  answer( ) {return 42;}\n")
        self.assert_finding(self.lint(), "cached/base/ugly.cc: not formatted")
        self.assertEqual(self.lint("--fix-format").returncode, 0)
        result = self.lint()
        self.assertEqual(result.returncode, 0, result.stdout)


if __name__ == "__main__":
    unittest.main()
