#!/usr/bin/env python3
"""clang's view of the C++ sources: formatting, clang-tidy (.clang-tidy) and the thread-safety analysis.

    clang_lint.py [--root DIR] [--stamps DIR] [--jobs N] [--fix-format] [FILE...]

A source that passed is not analysed again until it, a header of the project that it includes, the flags, .clang-tidy or
clang-tidy itself changes: its stamp in --stamps holds a hash of them all. Flags come from the environment (Makefile):
LINT_FLAGS_PRELOAD for preload/, LINT_FLAGS for the rest. Prints each finding once; exit status 1 if there is any.
"""
import argparse
import concurrent.futures
import hashlib
import os
import re
import shlex
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("cached", "preload", "include", "tests")
THREAD_SAFETY = ["-Wthread-safety", "-Wthread-safety-beta"]
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
FINDING = re.compile(r"^(\S+?):(\d+):(\d+): (warning|error): ")
FORMAT_BATCH = 40


def read(path):
    with open(path, errors="replace") as f:
        return f.read()


def sources(root):
    """Every .cc and .h, relative to the root."""
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".cc", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def run(command, root):
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
    return result.returncode, result.stdout, result.stderr


class Includes:
    """The headers of the project that a source includes, directly or not."""

    def __init__(self, root):
        self.root = root
        self.direct = {}

    def of(self, path):
        seen, pending = set(), [path]
        while pending:
            current = pending.pop()
            if current not in seen:
                seen.add(current)
                pending.extend(self._direct(current))
        return sorted(seen)

    def _direct(self, path):
        if path not in self.direct:
            targets = INCLUDE.findall(read(os.path.join(self.root, path)))
            self.direct[path] = [found for found in (self._find(path, t) for t in targets) if found]
        return self.direct[path]

    def _find(self, path, target):
        for folder in (os.path.dirname(path), "", "include"):
            candidate = os.path.normpath(os.path.join(folder, target))
            if os.path.isfile(os.path.join(self.root, candidate)):
                return candidate
        return None


class Tidy:
    """clang-tidy over one source after the other, with stamps for those that passed."""

    def __init__(self, root, stamps):
        self.root = root
        self.stamps = stamps
        self.includes = Includes(root)
        self.version = run(["clang-tidy", "--version"], root)[1]
        self.config = "".join(read(p) for p in (os.path.join(root, d, ".clang-tidy") for d in ("", "tests")) if os.path.exists(p))

    def flags(self, path):
        name = "LINT_FLAGS_PRELOAD" if path.startswith("preload/") else "LINT_FLAGS"
        return shlex.split(os.environ.get(name, "-std=c++20 -Iinclude -I.")) + THREAD_SAFETY

    def key(self, path):
        hasher = hashlib.sha256("\0".join([self.version, self.config, *self.flags(path)]).encode())
        for name in self.includes.of(path):
            hasher.update(f"\0{name}\0{read(os.path.join(self.root, name))}".encode())
        return hasher.hexdigest()

    def stamp(self, path):
        return os.path.join(self.stamps, path + ".passed")

    def stale(self, paths):
        """(path, key) of those without a stamp of what they are now."""
        keys = [(path, self.key(path)) for path in paths]
        return [(path, key) for path, key in keys if not self.stamps or not os.path.exists(self.stamp(path)) or read(self.stamp(path)) != key]

    def check(self, path, key):
        """The findings, each as a text of one or more lines."""
        status, out, err = run(["clang-tidy", "--quiet", path, "--", *self.flags(path)], self.root)
        findings = split_findings(out, self.root)
        if status != 0 and not findings:
            return [f"{path}: clang-tidy ended with status {status}: {err[-2000:]}\n"]
        if not findings and self.stamps:
            os.makedirs(os.path.dirname(self.stamp(path)), exist_ok=True)
            with open(self.stamp(path), "w") as f:
                f.write(key)
        return findings


def split_findings(text, root):
    """One text a finding, with its notes, and paths relative to the root."""
    findings = []
    for line in text.replace(root + "/./", "").replace(root + "/", "").splitlines(keepends=True):
        if FINDING.match(line):
            findings.append("")
        if findings:
            findings[-1] += line
    return findings


def check_format(root, paths, fix):
    """The names of the files that clang-format would change; with `fix` it changes them."""
    command = ["clang-format", "-i"] if fix else ["clang-format", "--dry-run", "--Werror"]
    found = []
    for start in range(0, len(paths), FORMAT_BATCH):
        status, _, err = run([*command, *paths[start:start + FORMAT_BATCH]], root)
        names = {match.group(1) for match in map(FINDING.match, err.splitlines()) if match}
        if status != 0 and not names:
            raise SystemExit(f"clang-format: {err}")
        found += [f"{name}: not formatted: make format\n" for name in sorted(names)]
    return found


def check_all(tidy, paths, jobs):
    """Every finding once, however many sources include the header that has it."""
    wanted = tidy.stale(paths)
    seen = set()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for findings in pool.map(lambda pair: tidy.check(*pair), wanted):
            for finding in findings:
                if finding not in seen:
                    seen.add(finding)
                    print(finding, end="", flush=True)
    return len(seen), len(wanted)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=ROOT)
    parser.add_argument("--stamps", default="", help="where stamps lie; none unless given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--fix-format", action="store_true", help="format in place, and nothing else")
    parser.add_argument("files", nargs="*", help="only these, relative to the root")
    args = parser.parse_args()
    root = os.path.abspath(args.root)
    paths = args.files or list(sources(root))
    unformatted = check_format(root, paths, args.fix_format)
    if args.fix_format:
        return 0
    print("".join(unformatted), end="", flush=True)
    tidy = Tidy(root, args.stamps and os.path.abspath(args.stamps))
    found, analysed = check_all(tidy, [p for p in paths if p.endswith(".cc")], args.jobs)
    print(f"clang: {analysed} sources analysed, {found + len(unformatted)} findings", flush=True)
    return 1 if found or unformatted else 0


if __name__ == "__main__":
    sys.exit(main())
