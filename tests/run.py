#!/usr/bin/env python3
"""Runs every test there is and ends with exactly one line: N passed, N failed[, N skipped].

    python3 tests/run.py --build build [--only unit|python] [--heavy | --all] [--match TEXT] [FILE...]

The unit tests are one GoogleTest program; the others are tests/**/*_test.py, each a process of its own in its own session with
a time limit, so that a test that hangs costs its limit and leaves nothing behind. Exit status 0 only if nothing failed.
"""
import argparse
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
UNIT_SECONDS = 600      # a minute or two when nothing is wrong
SANITIZED_SECONDS = 2400  # sanitizers are ten times slower
SOAK = os.environ.get("LARDER_SOAK", "") not in ("", "0")  # make soak: hours, if need be
PYTHON_SECONDS = 4 * 3600 if SOAK else 420  # for one file
HEAVY_SECONDS = 1200    # for one of tests/frameworks: training runs, four minutes when nothing is wrong and nobody else computes
TOTAL_SECONDS = (5 if SOAK else 1) * 3600


class Totals:
    def __init__(self):
        self.passed = self.failed = 0
        self.skipped, self.failures = [], []
        self.suites = []  # (name, tests, seconds): where the time went

    def run(self, name, function, *arguments):
        """Calls function(*arguments) and notes its tests and time under a name."""
        before, start = self.passed + self.failed + len(self.skipped), time.monotonic()
        function(*arguments)
        self.suites.append((name, self.passed + self.failed + len(self.skipped) - before, time.monotonic() - start))

    def fail(self, name):
        self.failed += 1
        self.failures.append(name)

    def line(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {len(self.skipped)} skipped" if self.skipped else "")


def run_limited(command, seconds, env=None):
    """Exit status, or None if it took too long. Output goes to ours. Its whole session is ended afterwards."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=env)
    try:
        return process.wait(max(seconds, 1))
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # the group that we started
        except ProcessLookupError:
            pass
        process.wait()


def run_unit(build, match, totals, deadline):
    program = os.path.join(build, "unit_tests")
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "unit.json")
        command = [program, f"--gtest_output=json:{report}", "--gtest_brief=1"]
        if match:
            command.append("--gtest_filter=" + ":".join(f"*{m}*" for m in match.split(",")))
        limit = SANITIZED_SECONDS if "san" in os.path.basename(build) else UNIT_SECONDS
        status = run_limited(command, min(limit, deadline - time.monotonic()))
        counted = count_gtest(report, totals)
    if status is None:
        totals.fail(f"{program} took longer than {limit} s")
    elif not counted or (status != 0 and totals.failed == 0):
        totals.fail(f"{program} ended with status {status} before it was done")


def count_gtest(report, totals):
    try:
        with open(report) as f:
            suites = json.load(f)["testsuites"]
    except (OSError, ValueError):
        return False
    for test in (t for s in suites for t in s["testsuite"]):
        name = f"{test['classname']}.{test['name']}"
        if test.get("failures"):
            totals.fail(name)
        elif test["result"] == "SKIPPED" or "skipped" in test:
            why = " ".join(m.get("message", "") for m in test.get("skipped", []))
            totals.skipped.append(f"{name}: {why}".strip())
        elif test["status"] == "RUN":
            totals.passed += 1
    return True


def run_python(path, build, match, totals, deadline):
    print(f"== {os.path.relpath(path, os.path.dirname(HERE))}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        report = os.path.join(folder, "report.json")
        command = [sys.executable, os.path.abspath(__file__), "--module", path, "--report", report, "--match", match]
        env = {**os.environ, "LARDER_BUILD": os.path.abspath(build)}
        limit = HEAVY_SECONDS if os.path.basename(os.path.dirname(path)) == "frameworks" else PYTHON_SECONDS
        status = run_limited(command, min(limit, deadline - time.monotonic()), env)
        try:
            with open(report) as f:
                result = json.load(f)
        except (OSError, ValueError):
            result = {"passed": 0, "failed": [], "skipped": []}
            totals.fail(f"{path}: " + (f"took longer than {limit} s" if status is None else f"ended with status {status}"))
    totals.passed += result["passed"]
    totals.skipped += result["skipped"]
    for name in result["failed"]:
        totals.fail(name)


class Recorder(unittest.TextTestResult):
    """Counts subtests that fail as failures of their own, and an error in setUpClass as one."""

    def __init__(self, *args):
        super().__init__(*args)
        self.passed = 0

    def addSuccess(self, test):
        super().addSuccess(test)
        self.passed += 1


def run_module(path, report, match):
    """In the process of one file: runs its tests, writes the counts."""
    sys.path.insert(1, os.path.join(HERE, "tools"))  # after tests/, where this file lies: harness, integration.bos_test, s3_put
    loader = unittest.TestLoader()
    if match:
        loader.testNamePatterns = [f"*{m}*" for m in match.split(",")]
    suite = loader.loadTestsFromName(os.path.splitext(os.path.relpath(path, HERE))[0].replace(os.sep, "."))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Recorder).run(suite)
    failed = [str(t) for t, _ in result.failures + result.errors] + [str(t) for t in result.unexpectedSuccesses]
    with open(report, "w") as f:
        json.dump({"passed": result.passed, "failed": failed, "skipped": [f"{t}: {why}" for t, why in result.skipped]}, f)
    return 0


def python_files(light, heavy):
    """`heavy` means tests/frameworks, which needs gigabytes of packages; it comes last."""
    files = sorted(glob.glob(os.path.join(HERE, "**", "*_test.py"), recursive=True))
    frameworks = [f for f in files if os.path.basename(os.path.dirname(f)) == "frameworks"]
    return ([f for f in files if f not in frameworks] if light else []) + (frameworks if heavy else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--only", choices=("unit", "python"))
    parser.add_argument("--heavy", action="store_true", help="the tests of tests/frameworks, and only those")
    parser.add_argument("--all", action="store_true", help="those of tests/frameworks, too")
    parser.add_argument("--match", default="", help="only tests whose name contains this, or one of several with commas between")
    parser.add_argument("files", nargs="*", help="only these of the *_test.py files")
    parser.add_argument("--module", help=argparse.SUPPRESS)
    parser.add_argument("--report", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.module:
        return run_module(args.module, args.report, args.match)
    totals, deadline = Totals(), time.monotonic() + TOTAL_SECONDS
    if args.only != "python" and not args.heavy and not args.files:
        totals.run("unit_tests", run_unit, args.build, args.match, totals, deadline)
    if args.only != "unit":
        for path in map(os.path.abspath, args.files) if args.files else python_files(light=not args.heavy, heavy=args.heavy or args.all):
            totals.run(os.path.relpath(path, HERE), run_python, path, args.build, args.match, totals, deadline)
    for name, tests, seconds in totals.suites:
        print(f"{seconds:6.0f} s  {tests:5} tests  {name}")
    for name in totals.skipped:
        print(f"skipped: {name}")
    for name in totals.failures:
        print(f"FAILED: {name}")
    if totals.passed == 0:
        totals.fail("no test ran")
    print(totals.line(), flush=True)
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
