"""Objects four times the cache, mapped: numpy memmap, forked workers, larderd killed, userfaultfd refused.

What the user would lose: the token file of 100 GB that a training job maps and reads at random.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import Daemon

PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
MiB = 1 << 20
CACHE = 32 * MiB
WORDS = 16 * MiB  # 64-bit numbers: 128 MiB, four times the cache

# Every number of the file tells its own place.
READER = r'''
import mmap, os, random, signal, sys, time
path, what = sys.argv[1], sys.argv[2]
signal.alarm(100)

def words(data, start, count):
    return [int.from_bytes(data[8 * i:8 * i + 8], "little") for i in range(start, start + count)]

def check(data, seed, reads, seconds=0):
    r, total, end = random.Random(seed), len(data) // 8, time.monotonic() + seconds
    while reads > 0 or time.monotonic() < end:
        reads -= 1
        at = r.randrange(total - 40)
        got = words(data, at, 40)
        if got != list(range(at + 1, at + 41)):
            sys.exit(f"wrong at {at}: {got[:4]}")

def children(n, f):
    pids = []
    for i in range(n):
        pid = os.fork()
        if pid == 0:
            f(i)
            os._exit(0)
        pids.append(pid)
    bad = [s for s in (os.waitpid(p, 0)[1] for p in pids) if s]
    if bad:
        sys.exit(f"children ended with {bad}")

with open(path, "rb") as f:
    data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY if what == "copy" else mmap.ACCESS_READ)
if what == "random":
    check(data, 1, 400)
elif what == "copy":
    data[8:16] = b"x" * 8
    check(data[16 * 8:], 1, 0)
    if data[8:16] != b"x" * 8 or words(data, 2, 1000) != list(range(3, 1003)):
        sys.exit("wrong after a write")
elif what == "workers":
    check(data, 1, 50)
    children(3, lambda i: check(data, 2 + i, 150))
elif what == "long":
    print("started", flush=True)
    children(2, lambda i: check(data, 2 + i, 0, 4))
print("right")
'''

MEMMAP = r'''
import sys, numpy as np
a = np.memmap(sys.argv[1], dtype="<u8", mode="r")
r = np.random.default_rng(5)
for at in r.integers(0, len(a) - 2048, 200):
    assert np.array_equal(a[at:at + 2048], np.arange(at + 1, at + 2049, dtype="<u8")), at
rows = a.reshape(-1, 512)
for i in range(0, len(rows), 257):
    assert rows[i].sum(dtype="u8") == np.arange(i * 512 + 1, i * 512 + 513, dtype="u8").sum(), i
print("right")
'''

MANY = r'''
import mmap, os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (9000, 9000))
maps = []
for i in range(4200):
    with open(f"{sys.argv[1]}/{i}", "rb") as f:
        maps.append(mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_READ))
assert all(m[5] == 0 for m in maps[::300])
print("right")
'''

# A container's filter: neither the call nor the device.
REFUSED = r'''
import ctypes, struct, sys, os
libc = ctypes.CDLL(None, use_errno=True)
def op(code, jt, jf, k): return struct.pack("HBBI", code, jt, jf, k)
numbers = {"x86_64": (323, 16), "aarch64": (282, 29)}[os.uname().machine]
f = b"".join([op(0x20, 0, 0, 0), op(0x15, 3, 0, numbers[0]), op(0x15, 0, 3, numbers[1]), op(0x20, 0, 0, 24), op(0x15, 0, 1, 0xaa00),
              op(0x06, 0, 0, 0x50000 | 1), op(0x06, 0, 0, 0x7fff0000)])
buffer = ctypes.create_string_buffer(f)
program = struct.pack("HxxxxxxP", len(f) // 8, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, ctypes.get_errno()
assert libc.syscall(numbers[0], 1) == -1 and ctypes.get_errno() == 1
''' + READER


class Mapped(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tree = tempfile.mkdtemp(prefix="larder-map-")
        cls.addClassCleanup(shutil.rmtree, cls.tree, ignore_errors=True)
        import array
        for name, count in (("large", WORDS), ("small", 2 * MiB)):
            with open(os.path.join(cls.tree, name), "wb") as f:
                for start in range(0, count, MiB):
                    f.write(array.array("Q", range(start + 1, start + MiB + 1)).tobytes())

    def setUp(self):
        self.larder = Daemon(cache_size=str(CACHE), lazy_threshold="4MiB")
        self.addCleanup(self.larder.remove)
        self.larder.start()
        self.larder.mount("file://" + self.tree, "/larder-map/d")

    def read(self, what, name="large", script=READER):
        return self.larder.run(PYTHON, "-c", script, "/larder-map/d/" + name, what)

    def expect_right(self, result):
        self.assertEqual((result.returncode, result.stdout), (0, b"right\n"), result.stderr.decode()[-600:] + self.larder.log_tail())

    def used(self):
        out = subprocess.run(["du", "-sB1", self.larder.cache_path() + "/"], capture_output=True, text=True, check=False).stdout
        return int(out.split()[0])

    def test_random_reads_stay_within_the_cache(self):
        most, done = [0], threading.Event()

        def watch():
            while not done.wait(0.02):
                most[0] = max(most[0], self.used())
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            result = self.read("random")
        finally:
            done.set()
            watcher.join()
        self.expect_right(result)
        self.assertLessEqual(most[0], CACHE)
        self.assertGreater(most[0], CACHE // 4)

    def test_forked_workers(self):
        self.expect_right(self.read("workers"))

    def test_copy_on_write(self):
        self.expect_right(self.read("copy"))

    def test_numpy_memmap(self):
        if subprocess.run([PYTHON, "-c", "import numpy"], capture_output=True).returncode != 0:
            self.skipTest("numpy is not installed for " + PYTHON)
        self.expect_right(self.larder.run(PYTHON, "-c", MEMMAP, "/larder-map/d/large"))

    def test_the_daemon_killed_while_workers_read(self):
        with subprocess.Popen([PYTHON, "-c", READER, "/larder-map/d/large", "long"], env=self.larder.preload_env(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as process:
            self.assertEqual(process.stdout.readline(), b"started\n")
            for _ in range(2):
                time.sleep(0.7)
                self.larder.kill()
                time.sleep(0.2)
                self.larder.start()
            out, err = process.communicate(timeout=110)
        self.assertEqual((process.returncode, out), (0, b"right\n"), err.decode()[-600:] + self.larder.log_tail())

    def test_thousands_of_files(self):
        folder = tempfile.mkdtemp(prefix="larder-map-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        for i in range(4200):
            with open(os.path.join(folder, str(i)), "wb") as f:
                f.truncate(5 * MiB)
        self.larder.stop()
        self.larder.config["cache_size"] = "128MiB"  # a quarter of it holds the tables of their chunks
        self.larder.start()
        self.larder.mount("file://" + folder, "/larder-map/many")
        self.expect_right(self.larder.run(PYTHON, "-c", MANY, "/larder-map/many"))

    def test_where_userfaultfd_is_refused(self):
        """S25: Where the kernel refuses userfaultfd (docker's default seccomp profile), `mmap` makes the object whole
        first."""
        self.expect_right(self.read("random", "small", REFUSED))
        result = self.read("random", "large", REFUSED)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(b"No such device", result.stderr)


if __name__ == "__main__":
    unittest.main()
