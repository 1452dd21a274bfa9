#!/usr/bin/env python3
"""`make bench-sync`: larder sync beside rclone and the AWS CLI, up to and down from SeaweedFS on loopback.

    python3 tests/bench/sync_bench.py --build build [--files 10000] [--large 3] [--large-mib 128] [--rounds 3] [--only small,large]

Every tool in turn, their order changing from round to round; medians of wall time and of the tool's own CPU time (the store is on
the same cores). Every round goes to a new prefix and a new folder of tmpfs, and every download is compared with the original.
"unchanged" is a second sync that finds nothing to do. The AWS CLI gets an environment of its own (build/venv-peers).
"""
import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time

from harness import LARDER, ROOT, VENV, clean_environment, s3_environment, s3_server, scratch, tree_digests
from s3_put import Client

PEERS = os.path.join(ROOT, "build", "venv-peers")
BUCKET = "bench"


def install_aws():
    """The path of the AWS CLI, or None if it cannot be had."""
    program = os.path.join(PEERS, "bin", "aws")
    if not os.path.exists(program):
        subprocess.run([sys.executable, "-m", "venv", PEERS], check=True)
        subprocess.run([os.path.join(PEERS, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "awscli"], check=False)
    return program if os.path.exists(program) else None


def tools(server):
    """{name: (function of source and target, environment)}; a store's place begins with s3://."""
    env = {**clean_environment(), **s3_environment(server), "AWS_ENDPOINT_URL": server.endpoint, "AWS_EC2_METADATA_DISABLED": "true"}
    remote = {"RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_R_ENDPOINT": server.endpoint,
              "RCLONE_CONFIG_R_ENV_AUTH": "true", "RCLONE_CONFIG": "/dev/null"}
    rclone = os.path.join(VENV, "bin", "rclone")
    at = lambda place: place.replace("s3://", "r:")
    found = {"larder": (lambda s, t: [LARDER, "sync", "-q", s, t], env),
             "rclone": (lambda s, t: [rclone, "sync", at(s), at(t)], {**env, **remote}),
             "rclone --transfers 32": (lambda s, t: [rclone, "sync", "--transfers", "32", "--checkers", "32", at(s), at(t)], {**env, **remote})}
    aws = install_aws()
    if aws:
        found["aws"] = (lambda s, t: [aws, "s3", "sync", "--only-show-errors", s, t], env)
    else:
        print("sync_bench: the AWS CLI cannot be installed", flush=True)
    return found


def timed(command, env):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()[-300:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_small(root, files):
    for i in range(files):
        folder = os.path.join(root, f"n{i % 100:03}")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"f{i:06}.bin"), "wb") as f:
            f.write(os.urandom(1000 + i * 7919 % 18000))  # 10 KB on average
    settle(root)


def make_large(root, count, mib):
    os.makedirs(root, exist_ok=True)
    for i in range(count):
        with open(os.path.join(root, f"large{i}.bin"), "wb") as f:
            for _ in range(mib):
                f.write(os.urandom(1 << 20))
    settle(root)


def settle(root):
    """Old enough that no tool takes a file for one that changed since its upload."""
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(os.path.join(folder, name), (1_600_000_000, 1_600_000_000))


def one_round(name, tool, tree, digests, number, work):
    """{step: (wall, cpu)} of one tool."""
    command, env = tool
    place, back = f"s3://{BUCKET}/{name.replace(' ', '')}-{os.path.basename(tree)}-{number}", os.path.join(work, "back")
    out = {"up": timed(command(tree, place), env), "unchanged": timed(command(tree, place), env)}
    os.makedirs(back)
    try:
        out["down"] = timed(command(place, back), env)
        if tree_digests(back) != digests:
            raise RuntimeError(f"{name}: what came back differs")
    finally:
        shutil.rmtree(back)
    return out


def report(what, results):
    for step in ("up", "down", "unchanged"):
        cells = []
        ours = [r[step][0] for r in results["larder"]]
        for name, rounds in results.items():
            walls = [r[step][0] for r in rounds]
            ratio = "" if name == "larder" else f" ({statistics.median(w / o for w, o in zip(walls, ours)):.2f} x ours)"
            cells.append(f"{name} {statistics.median(walls):.2f} s, {statistics.median(r[step][1] for r in rounds):.2f} s CPU{ratio}")
        print(f"{what}, {step:<10} {'   '.join(cells)}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=3)
    parser.add_argument("--large-mib", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="small,large")
    args = parser.parse_args()
    with scratch() as disk, scratch("/dev/shm") as work, s3_server(disk) as server:
        Client(server.endpoint, server.access_key, server.secret_key).make_bucket(BUCKET)
        for what in args.only.split(","):
            tree = os.path.join(work, what)
            if what == "small":
                make_small(tree, args.files)
            else:
                make_large(tree, args.large, args.large_mib)
            digests, all_tools = tree_digests(tree), tools(server)
            results = {name: [] for name in all_tools}
            for number in range(args.rounds):
                names = list(all_tools)
                for name in names[number % len(names):] + names[:number % len(names)]:
                    results[name].append(one_round(name, all_tools[name], tree, digests, number, work))
            title = f"{args.files:,} files of 10 KB" if what == "small" else f"{args.large} files of {args.large_mib} MiB"
            report(title, results)
            shutil.rmtree(tree)


if __name__ == "__main__":
    main()
