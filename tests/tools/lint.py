#!/usr/bin/env python3
"""What a compiler does not check of the sources: python3 tests/tools/lint.py [--root DIR]

Layers: an include that runs upwards (tests/tools/layers.txt), preload/ and cached/ including each other.
Headers: one that does not begin with a comment. Length: a source over 450 lines. Locks: std::mutex and its kin outside cached/base/mutex.h, a Mutex that guards nothing.
Prints one line a finding; exit status 1 if there is any.
"""
import argparse
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
MOST_LINES = 450
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')
LOCKS = re.compile(r"\bstd::(mutex|recursive_mutex|shared_mutex|timed_mutex|lock_guard|unique_lock|scoped_lock|shared_lock|"
                   r"condition_variable(_any)?)\b")
MUTEX = re.compile(r"^\s*(?:mutable |static )*Mutex (\w+)[;\[{]")


def read_layers(path):
    """Folder -> level."""
    levels = {}
    with open(path) as f:
        for level, line in enumerate(f):
            for folder in line.split("#")[0].split():
                levels[folder] = level
    return levels


def sources(root):
    for top in ("cached", "preload", "include"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".cc", ".h")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def included_folder(text):
    return os.path.dirname("include/" + text if text.startswith("larder/") else text)


def check_include(path, target, levels):
    """What is wrong with a file of one folder including one of another; None: nothing."""
    own = os.path.dirname(path)
    if target == own:
        return None
    for folder in (own, target):
        if folder not in levels:
            return f"{folder} is not in tests/tools/layers.txt"
    if {own.split("/")[0], target.split("/")[0]} == {"cached", "preload"}:
        return "cached/ and preload/ share include/ alone"
    if levels[target] >= levels[own]:
        return f"includes {target}, which is not below {own}"
    return None


def check_file(root, path, levels):
    with open(os.path.join(root, path)) as f:
        lines = f.read().split("\n")
    if len(lines) - 1 > MOST_LINES:
        yield f"{path}: {len(lines) - 1} lines, more than {MOST_LINES}: does it have one purpose?"
    if path.endswith(".h") and not lines[0].startswith("//"):
        yield f"{path}:1: a header begins with its contract (CONTRIBUTING.md)"
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        problem = match and check_include(path, included_folder(match.group(1)), levels)
        if problem:
            yield f"{path}:{number}: {problem}"
        if path.startswith("cached/") and path != "cached/base/mutex.h" and LOCKS.search(line):
            yield f"{path}:{number}: locks are Mutex, MutexLock and CondVar (cached/base/mutex.h)"
    if path.startswith("cached/"):
        yield from check_guards(path, lines)


def check_guards(path, lines):
    """A mutex is named by what it guards: GUARDED_BY, PT_GUARDED_BY or REQUIRES in the same file."""
    text = "\n".join(lines)
    for number, line in enumerate(lines, 1):
        match = MUTEX.match(line)
        if match and not re.search(r"(GUARDED_BY|REQUIRES)\([^)]*\b" + match.group(1) + r"\b", text):
            yield f"{path}:{number}: nothing is GUARDED_BY({match.group(1)})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", default=os.path.dirname(os.path.dirname(HERE)))
    args = parser.parse_args()
    levels = read_layers(os.path.join(args.root, "tests/tools/layers.txt"))
    findings = [finding for path in sources(args.root) for finding in check_file(args.root, path, levels)]
    print("".join(finding + "\n" for finding in findings), end="")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
