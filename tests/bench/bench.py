#!/usr/bin/env python3
"""`make bench`: the rows of docs/benchmarks.md. Every row runs its variants in turn, again and again, in one run.

    python3 tests/bench/bench.py --build build [--rows warm,stat] [--rounds N] [--quick] [--peers] [--json FILE]

"bare" is the same program (tests/bench/fsbench.cc) on the same files in a tmpfs. A ratio is the median over the rounds of
bare's time by Larder's time in the same round: above 1 Larder is faster. The table goes to stdout, everything to the JSON file.
"""
import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time

import map_rows
from harness import LARDERD, Daemon, clean_environment, content, s3_environment, s3_server, scratch, wait_for

JPEG_BYTES = 110_000


class Bench:
    def __init__(self, args):
        self.args = args
        self.programs = os.path.join(os.path.abspath(args.build), "bench")
        self.rows = []

    def program(self, name):
        return os.path.join(self.programs, name)

    def fsbench(self, env, *words):
        """One run; its JSON."""
        out = subprocess.run([self.program("fsbench"), *map(str, words)], env=env, capture_output=True, text=True, timeout=600, check=False)
        if out.returncode != 0:
            raise RuntimeError(f"fsbench {' '.join(map(str, words))}: {out.stderr.strip()}")
        return json.loads(out.stdout)

    def interleave(self, variants, rounds):
        """{name: [result a round]}. Each variant is a function of the round's number; their order alternates."""
        results = {name: [] for name in variants}
        for number in range(rounds + 1):
            names = list(variants) if number % 2 else list(reversed(variants))
            for name in names:
                result = variants[name](number)
                if number > 0:  # the first round warms caches of the processor and the page tables
                    results[name].append(result)
        return results

    def compare(self, name, variants, rounds, goal, unit="us", ratio=True):
        """A row: medians of "ns" of every variant, and each one's ratio to the first."""
        results = self.interleave(variants, rounds)
        names = list(variants)
        sums = {json.dumps([r["sum"] for r in rs]) for rs in results.values() if "sum" in rs[0]}
        if len(sums) > 1:
            raise RuntimeError(f"{name}: the variants read different things")
        base = [r["ns"] for r in results[names[0]]]
        row = {"row": name, "goal": goal, "unit": unit, "variants": {}}
        for variant in names:
            times = [r["ns"] for r in results[variant]]
            row["variants"][variant] = {"ns": times, "median_ns": statistics.median(times)}
            if ratio and variant != names[0]:
                row["variants"][variant]["ratio"] = statistics.median(b / t for b, t in zip(base, times))
        self.add(row)

    def add(self, row):
        self.rows.append(row)
        print(render(row), flush=True)


def render(row):
    if "text" in row:
        return f"{row['row']:<46} {row['text']}   (to reach: {row['goal']})"
    scale, unit = (1e3, "us") if row["unit"] == "us" else (1e6, "ms") if row["unit"] == "ms" else (1, "ns")
    cells = []
    for name, v in row["variants"].items():
        ratio = f" ({v['ratio']:.2f} x)" if "ratio" in v else ""
        cells.append(f"{name} {v['median_ns'] / scale:.3g} {unit}{ratio}")
    return f"{row['row']:<46} {'   '.join(cells)}   (to reach: {row['goal']})"


# ---- data ----

def write_files(root, count, size, folders):
    """count files of `size` bytes, their relative paths."""
    names = []
    block = content("bench", size) if size else b""
    for i in range(count):
        folder = f"n{i * folders // count:08}"
        if i * folders % count < folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        name = f"{folder}/{folder}_{i:06}.JPEG"
        with open(os.path.join(root, name), "wb", buffering=0) as f:
            f.write(i.to_bytes(8, "little")[:size] + block[8:])
        names.append(name)
    return names


def write_list(folder, names):
    path = os.path.join(folder, "list")
    with open(path, "w") as f:
        f.write("\n".join(names) + "\n")
    return path


class Dataset:
    """A folder in tmpfs and the same files at a mount of a daemon, warm."""

    def __init__(self, stack, daemon, mount):
        self.plain = stack.enter_context(scratch("/dev/shm"))
        self.daemon, self.mount = daemon, mount
        self.bare_env, self.larder_env = clean_environment(), daemon.preload_env()

    def show(self, warm=True):
        self.daemon.mount("file://" + self.plain, self.mount)
        if warm:
            self.daemon.larder("warm", self.mount, timeout=600)


# ---- rows ----

def row_warm(bench, stack):
    """Warm reads and stats of ImageNet-like files."""
    count = 500 if bench.args.quick else 3000
    daemon = stack.enter_context(Daemon(cache_size="4GiB"))
    data = Dataset(stack, daemon, "/data/bench")
    listing = write_list(daemon.work, write_files(data.plain, count, JPEG_BYTES, 100))
    data.show()
    peers = bench.peers(stack, data.plain) if bench.args.peers else {}

    def variants(*words):
        def on(env, root):
            return lambda n: bench.fsbench(env, words[0], root, listing, *words[1:], n)
        return {"tmpfs": on(data.bare_env, data.plain), "larder": on(data.larder_env, data.mount),
                **{name: on(data.bare_env, root) for name, root in peers.items()}}

    rounds = bench.args.rounds
    before = daemon.status()["reads"]
    bench.compare("warm read of 110 KB files, 1 process", variants("read", 1), rounds, ">= 0.97 x tmpfs")
    bench.compare("warm read of 110 KB files, 2 processes", variants("read", 2), rounds, ">= 0.97 x tmpfs")
    bench.compare("warm stat", variants("stat"), rounds, ">= 3 x tmpfs", "ns")
    after = daemon.status()["reads"]
    if after["miss_opens"] != before["miss_opens"] or after["warm_opens"] - before["warm_opens"] < count * rounds:
        raise RuntimeError("the reads were not warm: " + json.dumps(after))


def row_walk(bench, stack):
    """readdir and stat of ImageNet's shape."""
    count, folders = (12_866, 100) if bench.args.quick else (128_660, 1000)
    daemon = stack.enter_context(Daemon(cache_size="256MiB"))
    data = Dataset(stack, daemon, "/data/bench")
    write_files(data.plain, count, 1, folders)
    data.show(warm=False)
    bench.compare(f"walk of {count:,} files in {folders:,} folders", {
        "tmpfs": lambda n: bench.fsbench(data.bare_env, "walk", data.plain),
        "larder": lambda n: bench.fsbench(data.larder_env, "walk", data.mount)}, bench.args.rounds, ">= 1 x tmpfs", "ns")


def row_large(bench, stack):
    """Random 4 KiB in one large resident file."""
    size = (64 if bench.args.quick else 1024) << 20
    daemon = stack.enter_context(Daemon(cache_size="2GiB"))
    data = Dataset(stack, daemon, "/data/bench")
    block = content("large", 1 << 20)
    with open(os.path.join(data.plain, "large"), "wb") as f:
        for _ in range(size >> 20):
            f.write(block)
    data.show()
    for mode in ("pread", "mmap"):
        bench.compare(f"warm 4 KiB random {mode}, {size >> 20} MiB file", {
            "tmpfs": lambda n, m=mode: bench.fsbench(data.bare_env, m, data.plain + "/large", 200_000, n),
            "larder": lambda n, m=mode: bench.fsbench(data.larder_env, m, data.mount + "/large", 200_000, n)}, bench.args.rounds,
            ">= 0.97 x tmpfs", "ns")


def row_lazy(bench, stack):
    """Reads of a lazy object whose chunks are there except the last ones; the first byte of 10 GiB."""
    size = (64 if bench.args.quick else 1024) << 20
    read = size // 8 * 7
    daemon = stack.enter_context(Daemon(cache_size="4GiB", lazy_threshold="16MiB"))
    data = Dataset(stack, daemon, "/data/bench")
    block = content("lazy", 1 << 20)
    with open(os.path.join(data.plain, "large"), "wb") as f:
        for _ in range(size >> 20):
            f.write(block)
    data.show(warm=False)
    bench.fsbench(data.larder_env, "stream", data.mount + "/large", 1 << 20, read // 2)
    for kib in (4, 128, 1024):
        bench.compare(f"lazy, resident: reads of {kib} KiB", {
            name: lambda n, e=env, r=root, k=kib: bench.fsbench(e, "stream", r + "/large", k << 10, read // 4)
            for name, env, root in (("tmpfs", data.bare_env, data.plain), ("larder", data.larder_env, data.mount))},
            bench.args.rounds, ">= 0.9 x tmpfs", "us")
    for name in ("huge", "huge2", "huge3"):
        with open(os.path.join(data.plain, name), "wb") as f:
            f.truncate(10 << 30)
    daemon.larder("refresh", daemon.status()["mounts"][0]["dataset"])
    times = [bench.fsbench(data.larder_env, "stream", f"{data.mount}/{name}", 1, 1)["seconds"] for name in ("huge", "huge2", "huge3")]
    bench.add({"row": "first byte of a cold 10 GiB object (file://)", "goal": "one chunk", "seconds": times, "text": f"{statistics.median(times) * 1e3:.1f} ms"})


def row_outside(bench, stack):
    """The cost for programs that do not touch a dataset: the library's call and libc's own in turn, in one process."""
    daemon = stack.enter_context(Daemon())
    data = Dataset(stack, daemon, "/data/bench")
    write_files(data.plain, 10, 10, 1)
    data.show(warm=False)
    path = os.path.join(stack.enter_context(scratch("/dev/shm")), "a", "file")
    os.makedirs(os.path.dirname(path))
    with open(path, "w") as f:
        f.write("x")
    for call in ("open", "stat", "read"):
        results = bench.interleave({name: lambda n, c=call, e=env: bench.fsbench(e, "outside", c, path, 50_000)
                                    for name, env in (("bare", data.bare_env), ("larder", data.larder_env))}, bench.args.rounds)
        more = {name: statistics.median(r["more"] for r in rs) for name, rs in results.items()}
        bench.add({"row": f"{call} outside every dataset", "goal": "<= 30 ns more", "results": results, "more_ns": more["larder"],
                   "text": f"libc's own {statistics.median(r['libc_ns'] for r in results['larder']):.0f} ns   larder {more['larder']:+.1f} ns   "
                           f"(without the preload {more['bare']:+.1f} ns)"})


def row_start(bench, stack):
    """Start and end of small programs with the daemon up."""
    daemon = stack.enter_context(Daemon())
    data = Dataset(stack, daemon, "/data/bench")
    write_files(data.plain, 10, 10, 1)
    data.show(warm=False)
    library = data.larder_env["LD_PRELOAD"]
    env = {**data.larder_env}
    del env["LD_PRELOAD"]
    for name, count, words in (("/bin/true", 200, ["/bin/true"]), ("python3 -c pass", 20, [sys.executable, "-c", "pass"])):
        results = bench.interleave({"bare": lambda n, w=words, c=count: bench.fsbench(env, "start", "-", c, *w),
                                    "larder": lambda n, w=words, c=count: bench.fsbench(env, "start", library, c, *w)}, bench.args.rounds)
        bare, larder = ([r["ns"] / 1e3 for r in results[k]] for k in ("bare", "larder"))
        more = statistics.median(b - a for a, b in zip(bare, larder))
        bench.add({"row": f"start of {name}", "goal": "<= 500 us more", "bare_us": bare, "larder_us": larder, "more_us": more,
                   "text": f"bare {statistics.median(bare):.0f} us   larder {statistics.median(larder):.0f} us   {more:+.0f} us"})


class DelayedStore:
    """A real S3 server behind 30 ms, with `files` in it."""

    def __init__(self, bench, stack, write):
        import s3_put
        self.bench = bench
        folder = stack.enter_context(scratch("/dev/shm"))
        self.names = write(os.path.join(folder, "tree"))
        self.server = stack.enter_context(s3_server(os.path.join(folder, "s3")))
        s3_put.put_tree(self.server.endpoint, self.server.access_key, self.server.secret_key, os.path.join(folder, "tree"), "bench", "p/")
        self.delay = subprocess.Popen([bench.program("delay_proxy"), self.server.endpoint.rsplit(":", 1)[1], "30"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        stack.callback(self.delay.wait, 10)
        stack.callback(self.delay.stdout.close)
        stack.callback(self.delay.stdin.close)
        self.port = int(self.delay.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def requests(self, path, ranges=None):
        """Signed GETs as they go over the wire, for http_get. They hold for 15 minutes."""
        import urllib.parse

        import s3_put
        client = s3_put.Client(self.endpoint, self.server.access_key, self.server.secret_key)
        with open(path, "wb") as f:
            for name in self.names:
                for part in ranges or [None]:
                    target = "/bench/p/" + urllib.parse.quote(name)
                    headers = client._headers("GET", target, "", {"range": part} if part else {})
                    text = f"GET {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n"
                    f.write(f"{len(text)}\n{text}".encode())
        return path

    def http_get(self, connections, requests):
        out = subprocess.run([self.bench.program("http_get"), str(self.port), str(connections), requests], capture_output=True, text=True, timeout=300, check=True)
        return json.loads(out.stdout)


def row_cold(bench, stack):
    """A cold epoch of 8 readers on a store 30 ms away, against 64 connections of a client that does nothing else."""
    count = 400 if bench.args.quick else 2000

    def write(root):
        os.makedirs(root)
        return write_files(root, count, JPEG_BYTES, 20)
    store = DelayedStore(bench, stack, write)
    daemon = stack.enter_context(Daemon(env=s3_environment(store.server), cache_size="1GiB", fill="eager", log_level="info"))
    daemon.mount("s3://bench/p", "/data/bench", endpoint=store.endpoint)
    listing = write_list(daemon.work, store.names)

    def larder(n):
        daemon.larder("evict", "/data/bench")
        return bench.fsbench(daemon.preload_env(), "share", "/data/bench", listing, 8, n)

    def bare(n):
        return store.http_get(64, store.requests(os.path.join(daemon.work, "requests")))
    bench.compare(f"cold read of {count} x 110 KB, 8 readers, 30 ms", {"64 bare connections": bare, "larder": larder}, max(3, bench.args.rounds // 3),
                  ">= 0.9 x bare", "us")


def crc64nvme(data):
    """As S3 writes it: base64 of the eight bytes."""
    import base64
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x9a6c9329ac4bc9b5 if byte & 1 else 0)
        table.append(byte)
    state = (1 << 64) - 1
    for byte in data:
        state = (state >> 8) ^ table[(state ^ byte) & 255]
    return base64.b64encode((state ^ ((1 << 64) - 1)).to_bytes(8, "big")).decode()


class CheapStore:
    """object_server takes next to no processor time, so that the client is measured, even on few cores."""

    def __init__(self, bench, stack, count, milliseconds=0, folders=20, size=JPEG_BYTES, rate=0, crc=False):
        import hashlib
        self.bench = bench
        etag = hashlib.md5(b"x" * size).hexdigest() if size <= 1 << 30 else "0123456789abcdef0123456789abcdef-9"
        server = subprocess.Popen([bench.program("object_server"), str(size), str(count), etag, str(milliseconds), str(folders), str(rate)] +
                                  ([crc64nvme(b"x" * size)] if crc else []), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(server.wait, 10)
        stack.callback(server.stdout.close)
        stack.callback(server.stdin.close)
        self.port = int(server.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.names = [f"n{i * 20 // count:08}/f{i:08}.JPEG" for i in range(count)]
        self.keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_REGION": "us-east-1"}


def row_cold_cheap(bench, stack):
    """The cold epoch again, on a store that leaves the processors to the client."""
    count = 1000 if bench.args.quick else 4000
    store = CheapStore(bench, stack, count, 30)
    daemon = stack.enter_context(Daemon(env=store.keys, cache_size="1GiB", fill="eager", log_level="info"))
    daemon.mount("s3://bench/p", "/data/bench", endpoint=store.endpoint)
    listing = write_list(daemon.work, store.names)
    path, request = os.path.join(daemon.work, "requests"), "GET /bench/p/x HTTP/1.1\r\nHost: x\r\n\r\n"
    with open(path, "w") as f:
        f.write(f"{len(request)}\n{request}" * count)

    def bare(_):
        return json.loads(subprocess.run([bench.program("http_get"), str(store.port), "64", path], capture_output=True, text=True, timeout=300, check=True).stdout)

    def larder(n):
        daemon.larder("evict", "/data/bench")
        result = bench.fsbench(daemon.preload_env(), "share", "/data/bench", listing, 8, n)
        del result["sum"]  # http_get has none
        return result
    bench.compare(f"the same, {count} objects of a store that costs nothing", {"64 bare connections": bare, "larder": larder}, max(3, bench.args.rounds // 3),
                  ">= 0.9 x bare", "us")


def compare_large(bench, text, variants):
    bench.compare(text, variants, max(3, bench.args.rounds // 3), ">= 0.9 x bare", "ms")


def row_cold_large_cheap(bench, stack):
    """The same of a store that leaves the processors to the client, over a link of 4 Gbit/s."""
    size, part = (64 if bench.args.quick else 1024) << 20, 8 << 20
    store = CheapStore(bench, stack, 1, 30, 0, size, 500_000_000)
    huge = huge_tmpfs(stack)
    daemons = {"larder": Daemon(env=store.keys, cache_size="2GiB", log_level="info")}
    if huge:
        daemons["larder, huge=within_size"] = Daemon(env=store.keys, cache_size="2GiB", log_level="info", cache_dir=huge + "/cache")
    for daemon in daemons.values():
        stack.enter_context(daemon).mount("s3://bench/p", "/data/bench", endpoint=store.endpoint)
    work = daemons["larder"].work
    listing, path = write_list(work, ["f00000000.JPEG"]), os.path.join(work, "requests")
    with open(path, "w") as f:
        for at in range(0, size, part):
            request = f"GET /bench/p/x HTTP/1.1\r\nHost: x\r\nRange: bytes={at}-{min(at + part, size) - 1}\r\n\r\n"
            f.write(f"{len(request)}\n{request}")

    def larder(daemon):
        def once(n):
            daemon.larder("evict", "/data/bench")
            result = bench.fsbench(daemon.preload_env(), "read", "/data/bench", listing, 1, n)
            del result["sum"]  # http_get has none
            return result
        return once

    def bare(_):
        start = time.perf_counter()
        subprocess.run([bench.program("http_get"), str(store.port), "16", path], capture_output=True, timeout=300, check=True)
        return {"ns": (time.perf_counter() - start) * 1e9}
    compare_large(bench, f"cold {size >> 20} MiB object of a store that costs nothing, 500 MB/s, 30 ms", {"16 bare ranges": bare, **{name: larder(d) for name, d in daemons.items()}})


def row_rows(bench, stack):
    """Random rows of a cold token file that is far larger than the cache, over 1 Gbit/s."""
    size, row, count, threads = 100 << 30, 8192, 64 if bench.args.quick else 256, 8
    store = CheapStore(bench, stack, 1, 30, 0, size, 125_000_000)
    daemon = stack.enter_context(Daemon(env=store.keys, cache_size="4GiB", log_level="info"))
    daemon.mount("s3://bench/p", "/data/bench", endpoint=store.endpoint)
    path, fetched = os.path.join(daemon.work, "requests"), []

    def larder(n):
        daemon.larder("evict", "/data/bench")
        before = daemon.status()["store"]["bytes"]
        result = bench.fsbench(daemon.preload_env(), "rows", "/data/bench/f00000000.JPEG", row, count, threads, n)
        fetched.append((daemon.status()["store"]["bytes"] - before) / (row * count))
        return {"ns": result["ns"]}

    def bare(n):
        import random
        places = random.Random(n)
        with open(path, "w") as f:
            for _ in range(count):
                at = places.randrange(size // row) * row
                request = f"GET /bench/p/x HTTP/1.1\r\nHost: x\r\nRange: bytes={at}-{at + row - 1}\r\n\r\n"
                f.write(f"{len(request)}\n{request}")
        return json.loads(subprocess.run([bench.program("http_get"), str(store.port), str(threads), path], capture_output=True, text=True, timeout=300, check=True).stdout)
    bench.compare(f"{count} random cold rows of 8 KiB of 100 GiB, 8 threads, 125 MB/s, 30 ms", {"bare ranges of 8 KiB": bare, "larder": larder},
                  max(3, bench.args.rounds // 3), ">= 0.7 x bare", "ms")
    bench.add({"row": "bytes fetched a byte read", "goal": "<= 64", "each": fetched, "text": f"{statistics.median(fetched):.0f}"})


def row_cold_large(bench, stack):
    """One cold large object, one sequential reader."""
    size = (64 if bench.args.quick else 1024) << 20
    part = 8 << 20

    def write(root):
        os.makedirs(root)
        block = content("cold", 1 << 20)
        with open(os.path.join(root, "large"), "wb") as f:
            for _ in range(size >> 20):
                f.write(block)
        return ["large"]
    store = DelayedStore(bench, stack, write)
    huge = huge_tmpfs(stack)
    daemons = {"larder": stack.enter_context(Daemon(env=s3_environment(store.server), cache_size="2GiB", log_level="info"))}
    if huge:
        daemons["larder, huge=within_size"] = stack.enter_context(Daemon(env=s3_environment(store.server), cache_size="2GiB", log_level="info", cache_dir=huge + "/cache"))
    for daemon in daemons.values():
        daemon.mount("s3://bench/p", "/data/bench", endpoint=store.endpoint)
    work = daemons["larder"].work
    listing = write_list(work, store.names)
    ranges = [f"bytes={at}-{min(at + part, size) - 1}" for at in range(0, size, part)]

    def larder(daemon):
        def once(n):
            daemon.larder("evict", "/data/bench")
            return bench.fsbench(daemon.preload_env(), "read", "/data/bench", listing, 1, n)
        return once

    def bare(n):
        start = time.perf_counter()
        store.http_get(16, store.requests(os.path.join(work, "requests"), ranges))
        return {"ns": (time.perf_counter() - start) * 1e9}
    compare_large(bench, f"cold {size >> 20} MiB object, one reader, 30 ms", {"16 bare ranges": bare, **{name: larder(d) for name, d in daemons.items()}})


def cpu_ns(pid):
    """Processor time of all threads, to the nanosecond."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/schedstat") as f:
            total += int(f.read().split()[0])
    return total


def huge_tmpfs(stack):
    """A folder of a tmpfs with large folios, or None if it cannot be mounted."""
    folder = stack.enter_context(scratch())
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=within_size,size=4G,mode=0755", "larder-bench", folder], capture_output=True, check=False).returncode != 0:
        return None
    stack.callback(subprocess.run, ["umount", folder], check=False)
    return folder


def row_cold_cpu(bench, stack):
    """larderd's own cost of an object over http from a store that costs next to nothing, beside the cost of its system calls alone."""
    count = 1000 if bench.args.quick else 4000
    store, summed = CheapStore(bench, stack, count), CheapStore(bench, stack, count, crc=True)

    def compare(where, folder):
        daemons = {}
        for name, source, verify in (("CRC", summed, "auto"), ("MD5", store, "auto"), ("none", store, "never")):
            daemons[name] = stack.enter_context(Daemon(env=source.keys, cache_size="1GiB", log_level="info", cache_dir=os.path.join(folder, name)))
            daemons[name].mount("s3://bench/p", "/data/x", endpoint=source.endpoint, verify=verify)

        def bare(_):
            out = subprocess.run([bench.program("cached/http_fill"), str(store.port), "64", str(count), folder], capture_output=True, text=True, check=True, timeout=120)
            return json.loads(out.stdout)

        def larder(name):
            daemon = daemons[name]

            def once(_):
                daemon.larder("evict", "/data/x")
                before = cpu_ns(daemon.process.pid)
                daemon.larder("warm", "/data/x")
                return {"ns": (cpu_ns(daemon.process.pid) - before) / count}
            return once
        bench.compare(f"processor time a GET of 110 KB, {where}", {"the system calls alone": bare, "larder, no sum": larder("none"), "larder, CRC-64": larder("CRC"), "larder, MD5": larder("MD5")},
                      max(3, bench.args.rounds // 2), "<= 60 us")
    compare("/dev/shm", stack.enter_context(scratch("/dev/shm")))
    huge = huge_tmpfs(stack)
    if huge:
        compare("tmpfs huge=within_size", huge)
    else:
        print("cold-cpu: no tmpfs with huge=within_size: not root", flush=True)


def row_list(bench, stack):
    """A list of many keys 30 ms away: one chain of pages, and the key space in parts at once; in folders, and in none."""
    count = 100_000 if bench.args.quick else 1_000_000
    for shape, folders in (("1,000 folders", 1000), ("no folders", 0)):
        store = CheapStore(bench, stack, count, 30, folders)

        def listed(parallel, store=store):
            def once(_):
                with Daemon(env=store.keys, cache_size="512MiB", log_level="info") as daemon:
                    start = time.perf_counter()
                    daemon.mount("s3://bench/p", "/data/bench", endpoint=store.endpoint, parallel_lists=parallel)
                    seconds = time.perf_counter() - start
                    if daemon.status()["mounts"][0]["objects"] != count:
                        raise RuntimeError("the list is not whole")
                return {"ns": seconds * 1e9}
            return once
        results = bench.interleave({"one chain": listed("false"), "parts": listed("true")}, 1 if count == 1_000_000 else 3)
        chain, parts = (statistics.median(r["ns"] for r in results[k]) / 1e9 for k in ("one chain", "parts"))
        bench.add({"row": f"mount of {count:,} keys in {shape}, 30 ms a page", "goal": "faster", "results": results,
                   "text": f"one chain {chain:.1f} s   parts {parts:.1f} s: {chain / parts:.1f} x, {count / parts:,.0f} keys/s"})


def memory_mib(pid, what):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(what + ":")) / 1024


def row_catalog(bench, stack):
    """The catalog alone, then a larderd that shows it."""
    count = 100_000 if bench.args.quick else 1_000_000
    runs = [json.loads(subprocess.run([bench.program("cached/catalog"), str(count)], capture_output=True, text=True, check=True).stdout) for _ in range(3)]
    seconds = statistics.median(r["seconds"] for r in runs)
    bench.add({"row": f"catalog of {count:,} files: build", "goal": "<= 1 s a million", "runs": runs, "text": f"{seconds:.2f} s"})
    bench.add({"row": "catalog: bytes an entry besides its name", "goal": "<= 100", "text": f"{runs[0]['bytes_an_entry']:.1f}"})
    plain = stack.enter_context(scratch("/dev/shm"))
    write_files(plain, count, 0, max(1, count // 1300))
    daemon = stack.enter_context(Daemon(cache_size="256MiB", log_level="info"))
    start = time.perf_counter()
    daemon.mount("file://" + plain, "/data/bench")
    seconds, memory = time.perf_counter() - start, memory_mib(daemon.process.pid, "VmRSS")
    bench.add({"row": f"larderd with {count:,} entries: resident memory", "goal": "<= 300 MiB a million", "mib": memory, "mount_s": seconds,
               "text": f"{memory:.0f} MiB (listed and mounted in {seconds:.1f} s)"})


class RedisBench:
    """A redis-server on a Unix socket with the dataset "bench" of so many objects; nodes that start with nothing."""

    def __init__(self, bench, stack, objects):
        folder = stack.enter_context(scratch())
        self.objects, self.socket = objects, os.path.join(folder, "redis")
        self.source = stack.enter_context(scratch())
        self.server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", self.socket, "--save", "", "--appendonly", "no", "--dir", folder,
                                        "--slowlog-log-slower-than", "500", "--slowlog-max-len", "100000"],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        stack.callback(lambda: (self.server.kill(), self.server.wait()))
        wait_for(lambda: os.path.exists(self.socket), 20, "redis-server")
        self.meta = f"unix://{self.socket}?timeout=60000"
        subprocess.run([bench.program("cached/redis_meta"), str(objects), self.meta, "file://" + self.source], check=True, timeout=600)

    def fresh_node(self, stack):
        """Starts a larderd with an empty cache; the time until it is ready, and its cost."""
        node = Daemon(meta=self.meta, cache_size="4GiB", log_level="warn")
        stack.callback(node.remove)
        path = node.write_config()
        with open(path, "a") as f:
            f.write('[[mount]]\npath = "/data/bench"\ndataset = "bench"\n')
        told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        told.bind(os.path.join(node.work, "notify"))
        told.settimeout(300)
        start = time.perf_counter()
        with open(node.log, "ab") as log:
            node.process = subprocess.Popen([LARDERD, "--config", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**node.env, "NOTIFY_SOCKET": told.getsockname()})
        told.recv(100)
        ready = time.perf_counter() - start
        with open(f"/proc/{node.process.pid}/stat") as f:
            ticks = sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))
        catalog = sum(os.path.getsize(os.path.join(d, f)) for d, _, names in os.walk(node.cache) for f in names if f.startswith("catalog."))
        return node, {"ready_s": ready, "cpu_s": ticks / os.sysconf("SC_CLK_TCK"), "resident_mib": memory_mib(node.process.pid, "VmRSS"),
                      "peak_mib": memory_mib(node.process.pid, "VmHWM"), "catalog_bytes": catalog / self.objects}

    def slowest_us(self):
        """Of all commands so far: how long Redis was busy with one."""
        from harness.redis_servers import encode, read_reply
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            s.sendall(encode(["SLOWLOG", "GET", "100000"]))
            with s.makefile("rb") as stream:
                return max((entry[2] for entry in read_reply(stream)), default=500)

    def name(self, i):
        folder = f"n{i // 1300 + 1440764:08}"
        return f"train/{folder}/{folder}_{i:08}.JPEG"


def row_redis(bench, stack):
    """Metadata in Redis: its size there, and how soon an empty node serves it. --redis-objects 10000000 for large ones."""
    import random
    objects = 100_000 if bench.args.quick else bench.args.redis_objects
    out = subprocess.run([bench.program("cached/redis_meta"), str(objects)], capture_output=True, text=True, check=True, timeout=900).stdout
    layouts = {r["layout"]: r for r in map(json.loads, out.splitlines())}
    for name, r in layouts.items():
        bench.add({"row": f"redis: {objects:,} objects as {name}", "goal": "<= 60 B" if name == "segments" else "JuiceFS' documents: 300 B", **r,
                   "text": f"{r['bytes_an_object']:.1f} B an object   written in {r['written_s']:.2f} s   loaded in {r['loaded_s']:.2f} s"})
    redis = RedisBench(bench, stack, objects)
    runs = []
    for _ in range(1 if objects > 2_000_000 else 5):
        with contextlib.ExitStack() as one:
            runs.append(redis.fresh_node(one)[1])
    node, last = redis.fresh_node(stack)
    runs.append(last)
    middle = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
    bench.add({"row": f"redis: fresh node, {objects:,} objects: ready", "goal": "< 1 s a million", "runs": runs,
               "text": f"{middle['ready_s']:.2f} s ({middle['cpu_s']:.2f} s of processor)"})
    bench.add({"row": "redis: its memory, when ready and at most", "goal": "<= 300 MiB a million", "text": f"{middle['resident_mib']:.0f} MiB, {middle['peak_mib']:.0f} MiB"})
    slowest = redis.slowest_us()
    bench.add({"row": "redis: the longest that one command kept it", "goal": "a few ms", "us": slowest, "text": f"{slowest / 1000:.1f} ms"})
    names = random.Random(1).sample(range(objects), min(objects, 20_000))
    name_bytes = statistics.mean(len(redis.name(i).rsplit("/", 1)[1]) for i in names)
    bench.add({"row": "redis: catalog, bytes an object", "goal": "<= 100 besides its name",
               "text": f"{middle['catalog_bytes'] - name_bytes:.1f} besides {name_bytes:.0f} of name (an MD5 as etag: 32 of them)"})
    listing = write_list(node.work, 10 * [redis.name(i) for i in names])  # a program's first touch of a page is not what is measured
    stats = [bench.fsbench(node.preload_env(), "stat", "/data/bench", listing, n)["ns"] for n in range(bench.args.rounds)]
    bench.add({"row": f"redis: stat among {objects:,}", "goal": "as with few", "ns": stats, "text": f"{statistics.median(stats):.0f} ns"})


ROWS = {"warm": row_warm, "walk": row_walk, "large": row_large, "outside": row_outside, "start": row_start, "cold": row_cold,
        "cold-cheap": row_cold_cheap, "cold-large": row_cold_large, "cold-large-cheap": row_cold_large_cheap, "cold-cpu": row_cold_cpu, "rows": row_rows, "lazy": row_lazy,
        "map": lambda bench, stack: map_rows.row_map(bench, stack, Dataset), "list": row_list, "catalog": row_catalog, "redis": row_redis}


def machine():
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "date": time.strftime("%Y-%m-%d")}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build")
    parser.add_argument("--rows", default=",".join(ROWS), help="of " + ",".join(ROWS))
    parser.add_argument("--redis-objects", type=int, default=1_000_000, help="of the row redis; 10000000 takes two minutes and 5 GB")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="small data: for trying the benchmark itself")
    parser.add_argument("--peers", action="store_true", help="other file systems, where tests/bench/peers.py installed them")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    bench = Bench(args)
    if args.peers:
        import peers
        bench.peers = lambda stack, plain: peers.mount_all(stack, plain, args.build)
    info = machine()
    print(f"{info['cpu']}, {info['cores']} cores, Linux {info['kernel']}; {args.rounds} rounds, medians", flush=True)
    failed = []
    for name in args.rows.split(","):
        if name not in ROWS:
            raise SystemExit(f"bench.py: no row '{name}': choose of {', '.join(ROWS)}")
        try:
            with contextlib.ExitStack() as stack:
                ROWS[name](bench, stack)
        except (RuntimeError, AssertionError, subprocess.SubprocessError, OSError) as e:
            failed.append(name)
            print(f"{name}: FAILED: {e}", flush=True)
    path = args.json or os.path.join(args.build, "bench", "results.json")
    with open(path, "w") as f:
        json.dump({"machine": info, "rounds": args.rounds, "rows": bench.rows, "failed": failed}, f, indent=1)
    print(f"every figure: {path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
