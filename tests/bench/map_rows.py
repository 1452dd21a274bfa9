"""Rows of make bench about mappings: a page's first touch, in a whole file and in a lazy object whose chunks are there; mmap elsewhere."""
import json
import os
import statistics
import subprocess

from harness import Daemon, content


def mapbench(bench, env, *words):
    out = subprocess.run([bench.program("mapbench"), *map(str, words)], env=env, capture_output=True, text=True, timeout=600, check=False)
    if out.returncode != 0:
        raise RuntimeError(f"mapbench {' '.join(map(str, words))}: {out.stderr.strip()}")
    return json.loads(out.stdout)


def row_map(bench, stack, dataset_class):
    size = (256 if bench.args.quick else 1024) << 20
    there = size // 2  # read-ahead must not make the lazy one whole
    daemon = stack.enter_context(Daemon(cache_size="8GiB", lazy_threshold=f"{size}"))
    data = dataset_class(stack, daemon, "/data/bench")
    block = content("map", 1 << 20)
    for name, more in (("whole", 0), ("lazy", 1)):
        with open(os.path.join(data.plain, name), "wb") as f:
            for _ in range(size >> 20):
                f.write(block)
            f.write(b"x" * more)
    data.show(warm=False)
    daemon.larder("warm", data.mount + "/whole", timeout=600)
    bench.fsbench(data.larder_env, "stream", data.mount + "/lazy", 1 << 20, there)
    if daemon.status()["cache"]["files"] != 1:
        raise RuntimeError("the lazy object is whole: its rows would show nothing")

    def variants(name, *words):
        return {"tmpfs": lambda n: mapbench(bench, data.bare_env, words[0], f"{data.plain}/{name}", there, *words[1:], *([n] if words[1:] else [])),
                "larder": lambda n: mapbench(bench, data.larder_env, words[0], f"{data.mount}/{name}", there, *words[1:], *([n] if words[1:] else []))}
    for name, goal in (("whole", ">= 0.97 x tmpfs"), ("lazy", "a userfault")):
        bench.compare(f"first touch of pages at random, {name}", variants(name, "touch", 2000), bench.args.rounds, goal, "us")
        bench.compare(f"first pass over all pages, {name}", variants(name, "pass"), bench.args.rounds, goal, "ns")
    results = bench.interleave({name: lambda n, e=env: mapbench(bench, e, "outside", os.path.join(data.plain, "whole"), 20_000)
                                for name, env in (("bare", data.bare_env), ("larder", data.larder_env))}, bench.args.rounds)
    more = {name: statistics.median(r["more"] for r in rs) for name, rs in results.items()}
    bench.add({"row": "mmap and munmap outside every dataset", "goal": "<= 30 ns more", "results": results, "more_ns": more["larder"],
               "text": f"libc's own {statistics.median(r['libc_ns'] for r in results['larder']):.0f} ns   larder {more['larder']:+.1f} ns   "
                       f"(without the preload {more['bare']:+.1f} ns)"})
