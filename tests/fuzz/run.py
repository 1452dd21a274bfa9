#!/usr/bin/env python3
"""`make fuzz`: each target of tests/fuzz under libFuzzer with ASan and UBSan for some seconds. What it finds stays as
build-fuzz/found/NAME-crash-*; `build/replay/NAME FILE` runs it again."""
import argparse
import os
import subprocess
import sys


def fuzz(build, name, seconds):
    """(exit status, last lines)"""
    corpus = os.path.join(build, "corpus", name)
    found = os.path.join(build, "found")
    os.makedirs(corpus, exist_ok=True)
    os.makedirs(found, exist_ok=True)
    subprocess.run([os.path.join(build, "replay", name), "--seeds", corpus], check=True)
    result = subprocess.run([os.path.join(build, "fuzz", name), corpus, f"-max_total_time={seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536",
                             "-print_final_stats=1", "-seed=1", f"-artifact_prefix={found}/{name}-"], capture_output=True, text=True, errors="replace",
                            timeout=seconds + 120, stdin=subprocess.DEVNULL)
    return result.returncode, result.stderr


def figure(text, name):
    return next((line.split()[-1] for line in text.splitlines() if name in line), "?")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default="build-fuzz")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("targets", nargs="+")
    args = parser.parse_args()
    status, text = fuzz(args.build, "planted", 30)
    if status == 0 or "heap-buffer-overflow" not in text:
        print(f"the planted bug was not found, so nothing else would be:\n{text[-2000:]}")
        return 1
    failed = []
    for name in args.targets:
        status, text = fuzz(args.build, name, args.seconds)
        print(f"{name}: {figure(text, 'number_of_executed_units')} inputs, {'in order' if status == 0 else 'FAILED'}", flush=True)
        if status != 0:
            failed.append(name)
            print(text[-4000:])
    print(f"{len(args.targets) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
