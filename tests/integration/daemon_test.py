"""larderd under load, killed, refreshed, too small, and gone: programs read the right bytes or get an errno."""
import errno
import os
import random
import subprocess
import threading
import time
import unittest

from harness import (LARDER, PYTHON, Daemon, KeptDaemon, LarderTest, MiB, Proxy, content, digest, make_tree, run_program, s3_environment, s3_server,
                     scratch, tree_digests, wait_for)

# Reads every file below a folder in an order given by a seed, reports progress, prints hashes of what it read.
READER = """
import hashlib, os, random, sys, time
root, seed, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
paths = [os.path.join(d, f) for d, _, names in os.walk(root) for f in names]
random.Random(seed).shuffle(paths)
for n, path in enumerate(paths):
    with open(path, "rb") as f:
        data = f.read()
    print(os.path.relpath(path, root), hashlib.sha256(data).hexdigest(), flush=True)
    time.sleep(pause)
"""


def many_files(root, count, size):
    for i in range(count):
        path = os.path.join(root, f"{i % 7}", f"f{i:04}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content(i, size + i % 997))


def start_reader(daemon, root, seed=1, pause=0.0, **env):
    return subprocess.Popen([PYTHON, "-c", READER, root, str(seed), str(pause)], env=daemon.preload_env(**env), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def finish_reader(process, timeout=120):
    out, err = process.communicate(timeout=timeout)
    return process.returncode, dict(line.rsplit(" ", 1) for line in out.splitlines()), err


class OnS3(LarderTest):
    """500 objects on a real S3 server, behind a proxy that counts requests."""

    FILES = 500

    @classmethod
    def setUpClass(cls):
        import s3_put
        cls.plain = os.path.join(cls.enterClassContext(scratch("/dev/shm")), "plain")
        many_files(cls.plain, cls.FILES, 20_000)
        cls.server = cls.enterClassContext(s3_server(cls.enterClassContext(scratch())))
        s3_put.put_tree(cls.server.endpoint, cls.server.access_key, cls.server.secret_key, cls.plain, "bucket", "p/")
        cls.proxy = cls.enterClassContext(Proxy(cls.server.endpoint, latency_ms=5))
        cls.expected = tree_digests(cls.plain)

    def daemon(self, kind=Daemon, **config):
        daemon = self.enterContext(kind(env=s3_environment(self.server), **config))
        daemon.mount("s3://bucket/p", "/data/x", endpoint=self.proxy.endpoint)
        self.proxy.clear()
        return daemon

    def object_gets(self):
        return sum(n for path, n in self.proxy.log()["paths"].items() if path.startswith("GET /bucket/p/"))

    def read_by_eight(self, daemon):
        readers = [start_reader(daemon, "/data/x", seed) for seed in range(8)]
        for reader in readers:
            status, found, err = finish_reader(reader)
            self.assertEqual((status, err), (0, ""))
            self.assertEqual(found, self.expected)

    def test_eight_processes_cause_one_get_a_file(self):
        """S2: `open` of an uncached file returns when the whole object is on the node."""
        for fill in ("off", "eager"):
            with self.subTest(fill=fill):
                daemon = self.daemon(fill=fill)
                self.read_by_eight(daemon)
                self.assertEqual(self.object_gets(), self.FILES)
                self.assertEqual(daemon.status()["store"]["gets"], self.FILES)
                self.read_by_eight(daemon)
                self.assertEqual(self.object_gets(), self.FILES, "the second epoch went to the store")
                daemon.remove()

    def test_warm_evict_check(self):
        daemon = self.daemon()
        out = daemon.larder("warm", "/data/x/0", "/data/x/1/f0001").stdout
        zero = sum(1 for name in self.expected if name.startswith("0/"))
        self.assertIn(f"{zero + 1} files", out)
        self.assertEqual(self.object_gets(), zero + 1)
        self.assertIn(f"{zero + 1} were cached", daemon.larder("warm", "/data/x/0", "/data/x/1/f0001").stdout)
        self.assertEqual(daemon.status()["mounts"][0]["cached_files"], zero + 1)
        self.assertIn(f"{zero + 1} files", daemon.larder("check").stdout)
        self.assertIn(f"{zero} files", daemon.larder("evict", "/data/x/0").stdout)
        self.assertEqual(daemon.status()["mounts"][0]["cached_files"], 1)
        self.assertEqual(daemon.status()["cache"]["files"], 1)
        with scratch() as folder:
            listing = os.path.join(folder, "list")
            with open(listing, "w") as f:
                f.write("\n".join(f"/data/x/{name}" for name in sorted(self.expected)) + "\n")
            self.assertIn(f"{self.FILES} files", daemon.larder("warm", "--list", listing, "--jobs", "16").stdout)
        self.proxy.clear()
        status, found, err = finish_reader(start_reader(daemon, "/data/x"))
        self.assertEqual((status, err, found), (0, "", self.expected))
        self.assertEqual(self.object_gets(), 0, "warmed files went to the store again")

    def test_kill_9_in_the_middle_of_a_cold_epoch(self):
        """S1: A program gets the object's bytes or an errno."""
        daemon = self.daemon()
        reader = start_reader(daemon, "/data/x", pause=0.002)
        wait_for(lambda: self.object_gets() > self.FILES // 5, what="a fifth of the epoch")
        daemon.kill()
        time.sleep(0.3)  # the reader meets the dead daemon
        self.assertIsNone(reader.poll(), "the reader did not wait for the daemon")
        daemon.start()
        status, found, err = finish_reader(reader)
        self.assertEqual((status, err), (0, ""))
        self.assertEqual(found, self.expected)
        self.assertLess(self.object_gets(), self.FILES + self.FILES // 2, "the new daemon did not take the cache over")

    def test_a_dead_daemon_loses_nothing(self):
        """S13: Cached files stay readable by running programs. S14: `"wait"` waits for the daemon up to `wait_ms`, then
        gives EIO."""
        daemon = self.daemon(KeptDaemon, wait_ms=500)
        daemon.larder("warm", "/data/x/0", "/data/x/1")
        warm = {name: d for name, d in self.expected.items() if name[0] in "01"}
        program = [PYTHON, "-c", "import sys, hashlib\nprint('up', flush=True)\nsys.stdin.readline()\nfor p in sys.argv[1:]:\n"
                   "  print(hashlib.sha256(open('/data/x/' + p, 'rb').read()).hexdigest())", *sorted(warm)]
        before = subprocess.Popen(program, env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(before.stdout.readline(), "up\n")
        daemon.hold_starts()
        daemon.kill_larderd()
        out, _ = before.communicate("go\n", timeout=60)
        self.assertEqual((before.returncode, out.split()), (0, [warm[name] for name in sorted(warm)]), "a program from before")
        after = run_program(program, daemon.preload_env(), data=b"\n")
        self.assertEqual((after.returncode, after.stdout.decode().split()[1:]), (0, [warm[name] for name in sorted(warm)]),
                         f"a program that starts now: {after.stderr.decode()}")
        absent = next(name for name in sorted(self.expected) if name not in warm)
        miss = run_program(["cat", f"/data/x/{absent}"], daemon.preload_env())
        self.assertNotEqual(miss.returncode, 0)
        self.assertEqual(miss.stdout, b"", "a file that is not there gave bytes")
        self.assertIn(os.strerror(errno.EIO).encode(), miss.stderr)

    def test_the_cache_is_taken_over(self):
        daemon = self.daemon()
        daemon.larder("warm", "/data/x")
        for end in (daemon.stop, daemon.kill):
            end()
            daemon.start()
            self.proxy.clear()
            status, found, err = finish_reader(start_reader(daemon, "/data/x"))
            self.assertEqual((status, err, found), (0, "", self.expected))
            self.assertEqual(self.object_gets(), 0)

    def test_a_corrupt_file_on_the_way_back_is_not_served(self):
        daemon = self.daemon()
        daemon.larder("warm", "/data/x/0")
        daemon.stop()
        victim = max((os.path.join(d, f) for d, _, names in os.walk(daemon.cache_path()) for f in names if len(f) == 32), key=os.path.getsize)
        os.chmod(victim, 0o644)
        with open(victim, "r+b") as f:
            f.seek(1000)
            f.write(b"ROT")
        daemon.start()
        daemon.larder("check", "--repair")
        status, found, err = finish_reader(start_reader(daemon, "/data/x"))
        self.assertEqual((status, err, found), (0, "", self.expected))


class OnFiles(LarderTest):
    def setUp(self):
        self.folder = self.enterContext(scratch("/dev/shm"))
        self.plain = os.path.join(self.folder, "plain")

    def test_a_refresh_reaches_running_programs(self):
        """S4: After a refresh, the next `open` gets the new object, a removed object is ENOENT, and a changed object
        has a new inode number."""
        many_files(self.plain, 20, 1000)
        daemon = self.enterContext(Daemon())
        daemon.larder("format", "data", "file://" + self.plain)
        daemon.larder("mount", "data", "/data/x")
        # One line in, one answer out; "keep" stays open throughout.
        program = subprocess.Popen(
            [PYTHON, "-c", "import os, sys\nkeep = open('/data/x/0/f0000', 'rb')\n"
             "for line in sys.stdin:\n  try: print(repr(eval(line)), flush=True)\n  except OSError as e: print(e.errno, flush=True)"],
            env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

        def ask(expression):
            program.stdin.write(expression + "\n")
            program.stdin.flush()
            return eval(program.stdout.readline())

        first = content(0, 1000)
        self.assertEqual(ask("sorted(os.listdir('/data/x/0'))"), ["f0000", "f0007", "f0014"])
        self.assertEqual(ask("os.path.exists('/data/x/new/file')"), False)
        self.assertEqual(ask("open('/data/x/0/f0000', 'rb').read()"), first)
        with open(os.path.join(self.plain, "next"), "wb") as f:
            f.write(b"the new content")
        os.replace(os.path.join(self.plain, "next"), os.path.join(self.plain, "0/f0000"))
        os.unlink(os.path.join(self.plain, "0/f0007"))
        os.mkdir(os.path.join(self.plain, "new"))
        with open(os.path.join(self.plain, "new/file"), "wb") as f:
            f.write(b"brand new")
        out = daemon.larder("refresh", "data").stdout
        self.assertIn("1 added, 1 changed, 1 removed", out)
        self.assertEqual(ask("sorted(os.listdir('/data/x/0'))"), ["f0000", "f0014"])
        self.assertEqual(ask("open('/data/x/new/file', 'rb').read()"), b"brand new")
        self.assertEqual(ask("open('/data/x/0/f0000', 'rb').read()"), b"the new content")
        self.assertEqual(ask("open('/data/x/0/f0007', 'rb')"), errno.ENOENT)
        self.assertEqual(ask("keep.seek(0), keep.read()"), (0, first), "an open descriptor changed its content")
        self.assertEqual(ask("os.fstat(keep.fileno()).st_size, os.stat('/data/x/0/f0000').st_size"), (1000, 15))
        program.stdin.close()
        self.assertEqual(program.wait(10), 0)
        program.stdout.close()

    def test_mounts_reach_running_programs_and_end(self):
        many_files(self.plain, 20, 1000)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + self.plain, "/data/x")
        with subprocess.Popen(["/bin/sh"], env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as shell:
            def ask(command):
                shell.stdin.write(f"{command}; echo\n")
                shell.stdin.flush()
                return shell.stdout.readline().strip()
            self.assertEqual(ask("for f in /data/x/0/*; do printf '%s ' $f; done"), "/data/x/0/f0000 /data/x/0/f0007 /data/x/0/f0014")
            daemon.mount("file://" + self.plain, "/data/y/later")
            # A program that saw many changes in a row may read the last one some milliseconds later.
            wait_for(lambda: ask("test -s /data/y/later/1/f0001 && printf seen") == "seen", 2, "the new mount")
            daemon.larder("umount", "/data/y/later")
            wait_for(lambda: ask("test -e /data/y/later/1/f0001 || printf gone") == "gone", 2, "the end of the mount")
            shell.stdin.close()
        self.assertEqual([m["path"] for m in daemon.status()["mounts"]], ["/data/x"])

    def test_a_cache_that_is_too_small_gives_right_bytes(self):
        many_files(self.plain, 400, 300_000)  # 115 MiB
        expected = tree_digests(self.plain)
        daemon = self.enterContext(Daemon(cache_size="48MiB", fill="eager"))
        daemon.mount("file://" + self.plain, "/data/x")
        peak, stop = [0], threading.Event()

        def watch():
            while not stop.wait(0.01):
                out = subprocess.run(["du", "-sB1", daemon.cache_path() + "/"], capture_output=True, text=True, check=False).stdout
                peak[0] = max(peak[0], int(out.split()[0] or 0) if out else 0)
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for _ in range(2):
                readers = [start_reader(daemon, "/data/x", seed) for seed in range(3)]
                for reader in readers:
                    status, found, err = finish_reader(reader)
                    self.assertEqual((status, err), (0, ""))
                    self.assertEqual(found, expected)
        finally:
            stop.set()
            watcher.join()
        self.assertGreater(peak[0], 20 * MiB, "nothing was cached")
        self.assertLessEqual(peak[0], 48 * MiB + 4 * MiB, "cache_size was not kept")  # the catalog and other tables come on top
        self.assertLessEqual(daemon.status()["cache"]["used"], 48 * MiB)

    def test_an_open_file_survives_eviction_and_a_refresh(self):
        """S4: An open descriptor keeps its version."""
        many_files(self.plain, 10, 200_000)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + self.plain, "/data/x")
        program = subprocess.Popen([PYTHON, "-c", "import mmap, os, sys, hashlib\nf = open('/data/x/0/f0000', 'rb')\n"
                                    "m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)\nprint('open', flush=True)\nsys.stdin.readline()\n"
                                    "assert m[:] == f.read()\nprint(hashlib.sha256(m[:]).hexdigest())"],
                                   env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(program.stdout.readline(), "open\n")
        self.assertIn("1 are in use", daemon.larder("evict", "/data/x").stdout)
        out, _ = program.communicate("go\n", timeout=30)
        self.assertEqual((program.returncode, out.strip()), (0, digest(os.path.join(self.plain, "0/f0000"))))

    def test_what_a_miss_gets_while_the_daemon_is_away(self):
        """S14: `"origin"` reads the real file system below the mount; `"error"` fails at once."""
        many_files(self.plain, 2, 1000)
        below = self.enterContext(scratch())
        os.makedirs(os.path.join(below, "0"))
        with open(os.path.join(below, "0/f0000"), "wb") as f:
            f.write(b"the original")
        for fallback, expected in (("origin", (0, b"the original")), ("error", (1, b""))):
            with self.subTest(fallback):
                daemon = self.enterContext(Daemon(wait_ms=600_000))  # "wait" would outlast the test
                self.needs_a_path(daemon)
                daemon.larder("mount", "file://" + self.plain, below, "--fallback", fallback)
                daemon.kill()
                result = run_program(["cat", os.path.join(below, "0/f0000")], daemon.preload_env(), timeout=60)
                self.assertEqual((result.returncode, result.stdout), expected, result.stderr)
                if fallback == "error":
                    self.assertIn(os.strerror(errno.EIO).encode(), result.stderr)

    def test_it_is_a_read_only_file_system(self):
        """S12: Whatever would change a dataset is EROFS."""
        make_tree(self.plain)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + self.plain, "/data/x")
        program = """
import errno, os, shutil
os.chdir('/data/x')
calls = dict(
  write=lambda: open('top.txt', 'w'), append=lambda: open('top.txt', 'a'), update=lambda: open('top.txt', 'r+'), create=lambda: open('new', 'w'),
  create_in=lambda: open('odd/new', 'x'), unlink=lambda: os.unlink('top.txt'), rmdir=lambda: os.rmdir('odd'), mkdir=lambda: os.mkdir('new'),
  rename=lambda: os.rename('top.txt', 'new'), rename_out=lambda: os.rename('top.txt', '/tmp/larder-never'), rename_in=lambda: os.rename('/etc/hostname', 'new'),
  chmod=lambda: os.chmod('top.txt', 0o600), chown=lambda: os.chown('top.txt', 1, 1), truncate=lambda: os.truncate('top.txt', 0), utime=lambda: os.utime('top.txt'),
  symlink=lambda: os.symlink('x', 'new'), link=lambda: os.link('top.txt', 'new'), mknod=lambda: os.mknod('new'), rmtree=lambda: os.unlink('/data/x/odd/.hidden'))
for name, call in calls.items():
  try:
    call(); print(name, 'no error')
  except OSError as e:
    print(name, errno.errorcode[e.errno])
print(os.access('top.txt', os.W_OK), os.access('odd', os.W_OK), bool(os.statvfs('top.txt').f_flag & os.ST_RDONLY))
"""
        result = run_program([PYTHON, "-c", program], daemon.preload_env())
        lines = result.stdout.decode().splitlines()
        self.assertEqual(lines[-1:], ["False False True"], result.stderr.decode())
        allowed = {"rename_out": ("EROFS", "EXDEV"), "rename_in": ("EROFS", "EXDEV")}
        for line in lines[:-1]:
            name, got = line.split(" ", 1)
            self.assertIn(got, allowed.get(name, ("EROFS",)), line)
        self.assertEqual(len(lines), 20)
        self.assertFalse(os.path.exists("/tmp/larder-never"))
        for command, error in (("touch /data/x/new", "Read-only"), ("rm -f /data/x/top.txt", "Read-only"), ("cp /etc/hostname /data/x/", "Read-only"),
                               ("echo x > /data/x/new", "Read-only")):
            result = run_program(command, daemon.preload_env())
            self.assertNotEqual(result.returncode, 0, command)
            self.assertIn(error.encode(), result.stderr, command)

    def test_objects_that_no_path_can_name_are_reported(self):
        """S7: `larder refresh`, `larder mount` and the log count them and give examples."""
        # A disk cannot have a file and a folder of one name; S3 can. tests/cached covers those keys one by one.
        make_tree(self.plain)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + self.plain, "/data/x")
        mount = daemon.status()["mounts"][0]
        self.assertEqual(mount["skipped"], 0)
        self.assertEqual(mount["objects"], sum(len(names) for _, _, names in os.walk(self.plain)))

    def test_random_reads_of_a_large_file(self):
        os.makedirs(self.plain)
        data = content("large", 48 * MiB)
        with open(os.path.join(self.plain, "large"), "wb") as f:
            f.write(data)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + self.plain, "/data/x")
        rng = random.Random(5)
        spots = [(rng.randrange(len(data)), rng.randrange(1, 200_000)) for _ in range(200)]
        program = ("import os, sys, hashlib\nfd = os.open('/data/x/large', os.O_RDONLY)\nh = hashlib.sha256()\n"
                   "for s in sys.argv[1:]:\n  a, n = map(int, s.split(','))\n  h.update(os.pread(fd, n, a))\nprint(h.hexdigest())")
        result = run_program([PYTHON, "-c", program, *(f"{a},{n}" for a, n in spots)], daemon.preload_env())
        import hashlib
        h = hashlib.sha256()
        for a, n in spots:
            h.update(data[a:a + n])
        self.assertEqual((result.returncode, result.stdout.decode().strip()), (0, h.hexdigest()), result.stderr.decode())


class OneDaemon(LarderTest):
    def test_a_second_daemon_on_the_same_cache_is_refused(self):
        folder = os.path.join(self.enterContext(scratch("/dev/shm")), "c")
        daemon = self.enterContext(Daemon(cache_dir=folder))
        other = Daemon(cache_dir=folder)
        with self.assertRaises(AssertionError) as raised:
            other.start()
        self.assertIn("ended with", str(raised.exception))
        other.remove()
        self.assertEqual(daemon.larder("status").returncode, 0)

    def test_shutdown_ends_it_in_order(self):
        daemon = self.enterContext(Daemon())
        daemon.larder("shutdown")
        self.assertEqual(daemon.process.wait(10), 0)
        self.assertFalse(os.path.exists(daemon.socket))
        result = subprocess.run([LARDER, "status"], env=daemon.env, capture_output=True, text=True, check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("no larderd answers", result.stderr)


if __name__ == "__main__":
    unittest.main()
