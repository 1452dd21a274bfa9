#!/usr/bin/env python3
"""`make demo`: two training epochs over a bucket, beside the same loader on a plain folder in tmpfs.

Makes a folder tree of a few thousand JPEGs and serves it as a bucket from a real S3 server on loopback. Runs train.py on a
copy in tmpfs and then, unchanged, under `larder run`, and compares every byte. Ends every process that it starts.
"""
import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import make_images  # beside this file
import s3_put  # tests/tools, on PYTHONPATH
import s3_server

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")

BUCKET, PREFIX = "larder-demo", "imagenet/"
MOUNT = "/data/imagenet"


class Bar:
    """A progress bar on a terminal; elsewhere a line after each quarter."""

    def __init__(self, label, unit="files"):
        self.label, self.unit, self.start, self.quarter, self.shown = label, unit, time.monotonic(), 0, 0.0

    def __call__(self, done, total):
        now = time.monotonic()
        rate = done / max(now - self.start, 1e-9)
        text = f"{self.label}  {done}/{total} {self.unit}  {rate:.0f}/s  {(total - done) / max(rate, 1e-9):.0f} s left"
        if sys.stderr.isatty():
            if done < total and now - self.shown < 0.1:
                return
            self.shown = now
            filled = 24 * done // total
            print(f"\r{text}  [{'#' * filled}{'.' * (24 - filled)}]\x1b[K", end="\n" if done == total else "", file=sys.stderr, flush=True)
        elif 4 * done // total > self.quarter or done == total:
            self.quarter = 4 * done // total
            print(text, file=sys.stderr, flush=True)


def say(text):
    print(text, flush=True)


def shared_memory_for(size):
    """Makes a folder in /dev/shm; if the copy and the cache do not fit, exits and says what to do."""
    stat = os.statvfs("/dev/shm")
    free, needed = stat.f_bavail * stat.f_frsize, int(2.5 * size)
    if free < needed:
        raise SystemExit(f"demo: /dev/shm has {free >> 20} MiB free, but the demo needs {needed >> 20} MiB: enlarge it, or make fewer files with --files")
    return tempfile.mkdtemp(prefix="larder-demo-", dir="/dev/shm")


def tree_size(folder):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, names in os.walk(folder) for f in names)


def upload(server, tree, files, stamp):
    """Uploads the tree unless an earlier run did."""
    if os.path.exists(stamp) and open(stamp).read() == str(files):
        return say(f"bucket      s3://{BUCKET}/{PREFIX} holds the {files} files of an earlier run")
    s3_put.put_tree(server.endpoint, server.access_key, server.secret_key, tree, BUCKET, PREFIX, progress=Bar("uploading"))
    with open(stamp, "w") as f:
        f.write(str(files))


def read_lines(path):
    with open(path) as f:
        return [json.loads(line) for line in f]


def train(folder, work, label, args, prefix=(), env=None, extra=()):
    """Runs train.py; returns its report: a dict for each epoch."""
    report = os.path.join(work, label + ".jsonl")
    command = [*prefix, sys.executable, os.path.join(HERE, "train.py"), folder, "--epochs", "2", "--workers", str(args.workers),
               "--label", f"{label} epoch", "--report", report, *extra]
    status = subprocess.run(command, env=env).returncode
    if status != 0:
        raise SystemExit(f"demo: the loader on {folder} ended with status {status}: {' '.join(command)}")
    return read_lines(report)


def larder_environment(server, work):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LARDER_", "AWS_")) and k != "LD_PRELOAD"}
    env.update(LARDER_SOCKET=os.path.join(work, "larder.sock"), XDG_STATE_HOME=work, AWS_ACCESS_KEY_ID=server.access_key,
               AWS_SECRET_ACCESS_KEY=server.secret_key, AWS_REGION=server.region)
    return env


class Larder:
    """The larder commands of the demo. Their private daemon ends with the demo."""

    def __init__(self, build, server, work):
        self.program = os.path.join(os.path.abspath(build), "larder")
        self.env = larder_environment(server, work)
        self.work = work
        self.run_prefix = [self.program, "run", "--mount", f"s3://{BUCKET}/{PREFIX.rstrip('/')}={MOUNT}", "--option",
                           f"endpoint={server.endpoint}", "--option", f"region={server.region}", "--cache-dir",
                           os.path.join(work, "cache"), "--linger", "60", "--"]

    def status_command(self):
        return f"{shlex.quote(self.program)} status --json > {shlex.quote(self.work)}/status.$EPOCH"

    def statuses(self):
        return [read_lines(os.path.join(self.work, f"status.{n}"))[0] for n in range(2)]

    def shutdown(self):
        """Ends the daemon; True if it is gone."""
        if not os.path.exists(self.env["LARDER_SOCKET"]):
            return True
        status = subprocess.run([self.program, "status", "--json"], env=self.env, capture_output=True, text=True)
        if status.returncode != 0:
            return True
        pid = json.loads(status.stdout)["pid"]
        subprocess.run([self.program, "shutdown"], env=self.env, check=True)
        for _ in range(100):
            if not os.path.exists(f"/proc/{pid}"):
                return True
            time.sleep(0.05)
        return False


def compare(tree, digests):
    """Names of files that differ, are missing, or should not be there."""
    bad = []
    with_progress = Bar("comparing")
    for done, (name, digest) in enumerate(sorted(digests.items()), 1):
        with open(os.path.join(tree, name), "rb") as f:
            if hashlib.sha256(f.read()).hexdigest() != digest:
                bad.append(name)
        with_progress(done, len(digests))
    there = {os.path.relpath(os.path.join(d, f), tree) for d, _, names in os.walk(tree) for f in names}
    return bad + sorted(there ^ set(digests))


def counters(status):
    reads, store = status["reads"], status["store"]
    return {"hits": reads["warm_opens"], "misses": reads["miss_opens"], "gets": store["gets"], "bytes": store["bytes"]}


def print_table(plain, cached, statuses):
    cold = counters(statuses[0])
    warm = {k: v - cold[k] for k, v in counters(statuses[1]).items()}
    say(f"\n{'':<24}{'images/s':>10}{'seconds':>10}{'first batch':>13}{'hits':>8}{'misses':>8}{'GETs':>8}{'from store':>13}")
    rows = [("plain tmpfs, epoch 1", plain[0], None), ("plain tmpfs, epoch 2", plain[1], None),
            ("Larder, cold epoch", cached[0], cold), ("Larder, warm epoch", cached[1], warm)]
    for label, r, c in rows:
        tail = f"{c['hits']:>8}{c['misses']:>8}{c['gets']:>8}{c['bytes'] / 2**20:>9.1f} MiB" if c else f"{'-':>8}{'-':>8}{'-':>8}{'-':>13}"
        say(f"{label:<24}{r['images'] / r['seconds']:>10.0f}{r['seconds']:>10.2f}{r['first_batch_s'] * 1000:>10.0f} ms{tail}")
    ratio = (cached[1]["images"] / cached[1]["seconds"]) / (plain[1]["images"] / plain[1]["seconds"])
    say(f"\nwarm epoch: {ratio:.2f} times the speed of plain tmpfs (decoding by Pillow takes most of the time on both)")


def run(args, work, server, tree):
    size = tree_size(tree)
    copy = os.path.join(work, "plain")
    shutil.copytree(tree, copy)
    say(f"dataset     {args.files} JPEGs, {size / 2**20:.0f} MiB, {size / args.files / 1000:.0f} KB each; store {server.endpoint}")
    plain = train(copy, work, "plain", args)
    shutil.rmtree(copy)
    larder = Larder(args.build, server, work)
    try:
        digest = os.path.join(work, "digest.json")
        cached = train(MOUNT, work, "larder", args, larder.run_prefix, larder.env,
                       ["--after-epoch", larder.status_command(), "--digest", digest])
        statuses = larder.statuses()
    finally:
        gone = larder.shutdown()
    with open(digest) as f:
        bad = compare(tree, json.load(f))
    print_table(plain, cached, statuses)
    say(f"{len(bad)} files differ: {', '.join(bad[:5])}" if bad else f"every byte of {args.files} files is equal")
    if not gone:
        say("larderd did not end")
    return 1 if bad or not gone else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 2))
    args = parser.parse_args()
    args.files -= args.files % args.classes
    kept = os.path.join(ROOT, "build", "demo")
    os.makedirs(kept, exist_ok=True)
    tree = os.path.join(kept, f"tree-{args.files}")
    make_images.make_tree(tree, args.files, args.classes, Bar("making images"))
    work = shared_memory_for(tree_size(tree))
    try:
        with s3_server.S3Server(os.path.join(kept, "s3")) as server:
            upload(server, tree, args.files, os.path.join(kept, "s3", "uploaded"))
            return run(args, work, server, tree)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
