"""Large objects for a long time: many readers read every byte, with constant eviction and larderd killed, and memory never exceeds
cache_size. What the user would lose: a week of training on wrong bytes, or the node.

`make test` runs it for some seconds, `make soak` (LARDER_SOAK=1) for as long as the second of the numbers below says.
"""
import importlib.util
import os
import subprocess
import sys
import threading
import time
import unittest

from harness import BUILD, PYTHON, Daemon, MiB, clean_environment
from integration import lazy_test

SOAK = os.environ.get("LARDER_SOAK", "") not in ("", "0")


def scale(short, long):
    return long if SOAK else short


ROOT = os.geteuid() == 0


class OwnTmpfs:
    """A file system for one cache, which only root can make: its use at any moment is all that the cache takes, including unlinked files
    that are still open. (Adding up files one by one counts a file twice that is evicted meanwhile.)"""

    def __init__(self, folder, size):
        self.folder = folder
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "larder-test", self.folder], check=True, capture_output=True)
        self.peak, self.ended = 0, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def used(self):
        s = os.statvfs(self.folder)
        return (s.f_blocks - s.f_bfree) * s.f_frsize

    def _watch(self):
        while not self.ended.wait(0.004):
            self.peak = max(self.peak, self.used())

    def close(self):
        self.ended.set()
        self.thread.join()
        subprocess.run(["umount", "-l", self.folder], check=True, capture_output=True)


def has_numpy():
    return importlib.util.find_spec("numpy") is not None and subprocess.run([PYTHON, "-c", "import numpy"], capture_output=True).returncode == 0


class SmallCache(lazy_test.LazyTest):
    """A larderd whose cache has a file system of its own, if root runs the test."""

    CACHE = 32 * MiB

    def small_cache(self, **config):
        d = Daemon(**{**lazy_test.LAZY, "cache_size": f"{self.CACHE}", **config})
        self.addCleanup(d.remove)
        self.tmpfs = OwnTmpfs(d.cache, self.CACHE * 2) if ROOT and not d.store else None
        if self.tmpfs:
            self.addCleanup(self.tmpfs.close)
        self.addCleanup(d.stop)
        d.start()
        return d

    def expect_within_the_cache(self):
        if self.tmpfs:
            print(f"at most {self.tmpfs.peak / self.CACHE:.3f} of the cache", file=sys.stderr)
            self.assertLessEqual(self.tmpfs.peak, self.CACHE)
            self.assertGreater(self.tmpfs.peak, self.CACHE // 2, "it was not full: the test shows nothing")


class ModelTest(SmallCache):
    """Random sequences of every way to read, by several processes at once, with constant eviction."""

    # Up to three times the cache.
    SIZES = {"empty": 0, "one": 1, "small": 70000, "chunk": 2 * MiB, "over": 2 * MiB + 1, "mid": 17 * MiB + 333, "big": 96 * MiB}

    def run_model(self, d, seeds, steps):
        processes = [subprocess.Popen([os.path.join(BUILD, "lazy_model"), self.source, "/data/lazy", str(s), str(steps)], env=d.preload_env(),
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for s in seeds]
        self.addCleanup(lambda: [p.kill() for p in processes if p.poll() is None])
        return processes

    def finish(self, processes):
        for p in processes:
            out, err = p.communicate(timeout=scale(240, 7200))
            self.assertEqual((p.returncode, err), (0, b""), out)

    def make(self, **config):
        for i, (name, size) in enumerate(self.SIZES.items()):
            self.write(name, size, seed=i)
        with open(os.path.join(self.source, "text"), "w") as f:
            f.writelines(f"{i} a line {'x' * (i % 97)}\n" for i in range(200_000))
        d = self.small_cache(**config)
        d.mount("file://" + self.source, "/data/lazy")
        return d

    def test_every_way_to_read_with_constant_eviction(self):
        d = self.make()
        self.finish(self.run_model(d, (1, 2, 3, 4), scale(6000, 250_000)))
        self.assertGreater(d.status()["store"]["bytes"], 200 * MiB, "it did not evict: the test shows nothing")
        self.expect_within_the_cache()

    def test_with_larderd_killed_again_and_again(self):
        d = self.make()
        processes = self.run_model(d, (11, 12, 13), scale(6000, 100_000))
        kills = 0
        while any(p.poll() is None for p in processes) and (SOAK or kills < 8):
            time.sleep(scale(1.5, 2))
            d.kill()
            time.sleep(0.2)
            d.start()
            kills += 1
        self.finish(processes)
        self.assertGreater(kills, 1)
        self.expect_within_the_cache()


# Reads and checks: argv: path, seed or "all", seconds.
STREAM = r'''
import os, random, sys, time
import numpy as np
path, what, seconds = sys.argv[1:4]
fd, size = os.open(path, os.O_RDONLY), os.stat(path).st_size
FACTOR = np.uint64(0x9E3779B97F4A7C15)

def check(at, n):
    got = os.pread(fd, n, at) if what != "all" else os.read(fd, n)
    first = at // 8
    want = (np.arange(first, (at + n + 7) // 8, dtype="<u8") * FACTOR).tobytes()[at % 8:at % 8 + n]
    if got != want[:len(got)] or not got:
        sys.exit(f"wrong within {n} at {at}: {len(got)} bytes")
    return len(got)

done = 0
if what == "all":
    while done < size:
        done += check(done, min(1 << 20, size - done))
    if os.read(fd, 1) != b"":
        sys.exit("no end")
else:
    r, end = random.Random(int(what)), time.monotonic() + float(seconds)
    while time.monotonic() < end:
        at = r.randrange(size - 8)
        done += check(at, min(size - at, r.choice((100, 4096, 70000, 1 << 20))))
print(done)
'''


@unittest.skipUnless(has_numpy(), "numpy is not installed")
class StreamTest(SmallCache):
    CACHE, SIZE = scale(64 * MiB, 1 << 30), scale(640 * MiB, 10 << 30)

    def read_all(self, d, path, whats, seconds):
        started = time.monotonic()
        readers = [subprocess.Popen([PYTHON, "-c", STREAM, path, what, str(seconds)], env=d.preload_env(), stdin=subprocess.DEVNULL,
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for what in whats]
        self.addCleanup(lambda: [p.kill() for p in readers if p.poll() is None])
        total = 0
        for p in readers:
            out, err = p.communicate(timeout=scale(240, 3600))
            self.assertEqual((p.returncode, err), (0, ""), d.log_tail())
            total += int(out)
        print(f"{'+'.join(whats)}: {total >> 20} MiB in {time.monotonic() - started:.1f} s", file=sys.stderr)
        return total

    def test_an_object_ten_times_the_cache(self):
        """Every byte: by one reader from front to back, then by eight at random, then by both at once."""
        from pattern_server import PatternServer
        with PatternServer({"huge": self.SIZE}) as server:
            d = self.small_cache()
            d.mount(server.url, "/data/lazy")
            self.assertEqual(self.read_all(d, "/data/lazy/huge", ["all"], 0), self.SIZE)
            self.assertLess(server.sent, self.SIZE * 1.1, "chunks are fetched once")
            self.read_all(d, "/data/lazy/huge", [str(n) for n in range(8)], scale(5, 120))
            self.read_all(d, "/data/lazy/huge", ["all", "1", "2"], scale(1, 30))
            self.expect_within_the_cache()


TRAIN = r'''
import os, sys
import numpy as np
path, epochs, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
data = np.memmap(path, dtype="<u8", mode="r").reshape(-1, 512)
def worker(number, out):
    r, total = np.random.default_rng(number), np.zeros(512, dtype="u8")
    for _ in range(epochs):
        for _ in range(steps):
            rows = r.integers(0, len(data), 16)
            batch = np.array(data[rows])                        # gathered: a page fault a row
            total = total * np.uint64(31) + batch.sum(axis=0)   # wraps; depends on the order
            at = int(rows[0]) % (len(data) - 600)
            total += data[at:at + 600].sum(axis=0)              # a slice: pages in a row
    os.write(out, total.tobytes().hex().encode() + b"\\n")
pipes, children = [], []
for number in range(4):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        worker(number, writing)
        os._exit(0)
    os.close(writing), pipes.append(reading), children.append(pid)
print([b"".join(iter(lambda: os.read(p, 65536), b"")) for p in pipes], [os.waitpid(c, 0)[1] for c in children])
'''.replace("\\\\n", "\\n")


@unittest.skipUnless(has_numpy(), "numpy is not installed")
class MemmapTest(SmallCache):
    CACHE, SIZE = scale(32 * MiB, 512 * MiB), scale(128 * MiB, 2 << 30)

    def test_a_training_loop_over_a_memmap_four_times_the_cache(self):
        self.write("tokens", self.SIZE)
        d = self.small_cache()
        d.mount("file://" + self.source, "/data/lazy")
        command = [PYTHON, "-c", TRAIN, None, "2", str(scale(40, 300))]
        plain, ours = (subprocess.run([path if w is None else w for w in command], env=env, capture_output=True, timeout=scale(200, 3000), check=False)
                       for path, env in ((os.path.join(self.source, "tokens"), clean_environment()), ("/data/lazy/tokens", d.preload_env())))
        self.assertEqual((plain.returncode, plain.stdout), (ours.returncode, ours.stdout), ours.stderr[-500:])
        self.assertIn(b"[0, 0, 0, 0]", ours.stdout)
        self.expect_within_the_cache()
        self.assertGreater(d.status()["store"]["bytes"], 2 * self.CACHE, "it did not evict: the test shows nothing")
