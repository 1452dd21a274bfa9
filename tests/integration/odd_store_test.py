"""Stores with odd habits and stores that lie (tests/tools/odd_s3_server.py): what programs see, and what is told."""
import errno
import os
import socket
import subprocess
import unittest

from harness import LARDER, PYTHON, Daemon, LarderTest, MiB, OddServer, content, run_program, s3_environment, scratch, wait_for

WALK = """
import os, sys
for folder, folders, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            print(os.path.relpath(path, sys.argv[1]), f.read().hex())
"""


class OddStore(LarderTest):
    def setUp(self):
        self.store = self.enterContext(OddServer())

    def daemon(self, **config):
        return self.enterContext(Daemon(env=s3_environment(self.store), **config))

    def mount(self, daemon, **options):
        return daemon.mount("s3://bucket/d", "/data/x", endpoint=self.store.endpoint, **options)

    def walk(self, daemon):
        result = run_program([PYTHON, "-c", WALK, "/data/x"], daemon.preload_env())
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return {name: bytes.fromhex(data) for name, data in (line.split(" ") for line in result.stdout.decode().splitlines())}


class Twice(OddStore):
    def test_of_a_key_that_is_listed_twice_the_later_counts_and_it_is_told(self):
        files = {f"f{i:04}": b"%d" % i for i in range(2100)} | {"n/x": b"in a folder"}
        for name, data in files.items():
            self.store.put("d/" + name, data)
        self.store.put("d/n", b"a file with the name of a folder")
        self.store.habits(twice=True)
        daemon = self.daemon()
        for parallel in ("true", "false"):
            result = daemon.larder("mount", "--refresh", "s3://bucket/d", "/data/x", "--endpoint", self.store.endpoint, "--option", f"parallel_lists={parallel}")
            self.assertIn("listed twice, such as 'f0000'", result.stderr)
            self.assertIn("objects have keys that no path can name", result.stderr)
            self.assertEqual(self.walk(daemon), files)
            daemon.larder("umount", "/data/x")
        self.mount(daemon)
        name = daemon.status()["mounts"][0]["dataset"]
        self.assertIn("listed twice", daemon.larder("refresh", name).stderr)
        self.assertIn("listed twice", daemon.log_text())


READ = """
import errno, sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as f:
            print(len(f.read()))
    except OSError as e:
        print(errno.errorcode[e.errno])
"""


class Sizes(OddStore):
    def test_sizes_that_a_store_invents_are_errors_and_take_no_room(self):
        names = [f"huge{i:02}" for i in range(12)]
        for name in [*names, "short", "long", "right"]:
            self.store.put("d/" + name, b"ten bytes!")
        self.store.habits(sizes={**{f"d/{n}": 1 << 45 for n in names}, "d/huge00": 1 << 62, "d/short": 4, "d/long": 1000})
        daemon = self.daemon(cache_size="32MiB", wait_ms=2000)
        self.mount(daemon)
        read = daemon.run(PYTHON, "-c", READ, *(f"/data/x/{n}" for n in [*names, "right"]), text=True).stdout.split()
        self.assertEqual(read, ["EFBIG"] * 12 + ["10"])
        for word in daemon.run(PYTHON, "-c", READ, "/data/x/short", "/data/x/long", text=True).stdout.split():
            self.assertIn(word, ("EIO", "ESTALE"))
        status = daemon.status()
        self.assertLess(status["cache"]["used"], 4 << 20)
        with open(f"/proc/{status['pid']}/status") as f:
            resident = next(int(line.split()[1]) for line in f if line.startswith("RssShmem"))
        self.assertLess(resident, 32 << 10)


class Offline(OddStore):
    def setUp(self):
        super().setUp()
        self.files = {f"f{i}": b"%d" % i for i in range(5)}
        for name, data in self.files.items():
            self.store.put("d/" + name, data)

    def test_offline_the_stored_version_is_used_and_nothing_is_listed(self):
        daemon = self.daemon()
        self.mount(daemon)
        name = daemon.status()["mounts"][0]["dataset"]
        self.assertEqual(self.walk(daemon), self.files)
        daemon.larder("umount", "/data/x")
        self.store.put("d/new", b"new")
        self.store.habits(secret="another")  # a listing is refused
        self.store.log()
        self.assert_one_line(daemon.larder("mount", "--refresh", name, "/data/x", check=False), "InvalidAccessKeyId")
        self.assertTrue(self.lists())
        daemon.larder("mount", "--refresh", "--offline", name, "/data/x")
        self.assertIn("version 1: 5 files", daemon.larder("refresh", "--offline", name).stdout)
        ran = daemon.larder("run", "--offline", "--mount", "s3://bucket/d=/data/x", "--option", f"endpoint={self.store.endpoint}", "--", "/bin/ls", "/data/x")
        self.assertEqual(ran.stdout.split(), sorted(self.files))
        self.assertEqual(self.walk(daemon), self.files)
        self.assertEqual(self.lists(), [])

    def test_offline_without_a_stored_version(self):
        daemon = self.daemon()
        for command in (("mount", "--offline", "s3://bucket/d", "/data/x", "--endpoint", self.store.endpoint),
                        ("run", "--offline", "--mount", "s3://bucket/d=/data/x", "--option", f"endpoint={self.store.endpoint}", "--", "/bin/true")):
            self.assert_one_line(daemon.larder(*command, check=False), "no stored version")
        self.assertEqual(self.lists(), [])
        self.mount(daemon)

    def test_a_larderd_that_is_offline(self):
        daemon = self.daemon()
        self.mount(daemon)
        name = daemon.status()["mounts"][0]["dataset"]
        daemon.stop()
        daemon.config["offline"] = True
        daemon.start()
        self.store.log()
        daemon.larder("umount", "/data/x")
        daemon.larder("mount", "--refresh", name, "/data/x")
        daemon.larder("refresh", name)
        self.assertEqual(self.walk(daemon), self.files)
        self.assertEqual(self.lists(), [])

    def lists(self):
        return [one for one in self.store.log() if not one["path"]]


class Warm(OddStore):
    def setUp(self):
        super().setUp()
        for i in range(40):
            self.store.put(f"d/f{i:02}", b"%d" % i)
        self.store.habits(hold=10_000)  # a GET of an object hangs for 20 s
        self.work = self.daemon(connections=4)
        self.mount(self.work)

    def jobs(self, state):
        return [j["job"] for j in self.work.status()["warm_jobs"] if j["state"] == state]

    def test_what_an_administrator_does_waits_for_no_warm(self):
        waiting = [subprocess.Popen([LARDER, "warm", "/data/x"], env=self.work.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for _ in range(40)]
        try:
            wait_for(lambda: len(self.jobs("running")) == 4 and len(self.jobs("waiting")) == 36, 60, "40 jobs")
            self.work.mount("file:///etc/ssl", "/data/y")
            self.work.larder("evict", "/data/x")
            self.work.larder("umount", "/data/y", timeout=15)
            self.work.larder("shutdown", timeout=60)
        finally:
            for process in waiting:
                process.kill()
                process.wait()

    def test_a_job_that_nobody_waits_for(self):
        jobs = [self.work.larder("warm", "--wait=false", f"/data/x/f{i:02}").stdout for i in range(6)]
        self.assertEqual(jobs, [f"warm job {i}\n" for i in range(1, 7)])
        wait_for(lambda: self.jobs("running") == [1, 2, 3, 4], 20, "four running")
        self.assertEqual(self.jobs("waiting"), [5, 6])
        self.assertIn("warm job 5: /data/x/f04: waiting", self.work.larder("status").stdout)
        self.work.larder("warm", "--stop", "5")
        wait_for(lambda: self.jobs("stopped") == [5], 20, "5 stopped")
        self.assert_one_line(self.work.larder("warm", "--stop", "5", check=False), "no warm job 5")
        self.store.habits()  # GETs are answered from now on
        wait_for(lambda: self.jobs("done") == [1, 2, 3, 4, 6], 60, "all others done")
        self.assertEqual({j["fetched"] for j in self.work.status()["warm_jobs"] if j["state"] == "done"}, {1})
        self.assertIn("6 were cached", self.work.larder("warm", *(f"/data/x/f{i:02}" for i in (0, 1, 2, 3, 5)), "/data/x/f00").stdout)


HOLD = """
import os, sys
held = []
try:
    for name in sorted(os.listdir(sys.argv[1])):
        held.append(open(os.path.join(sys.argv[1], name), "rb"))
except OSError as e:
    print(e.errno, len(held), flush=True)
sys.stdin.read()
"""
SAME = """
import os, sys
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), "rb") as ours, open(os.path.join(sys.argv[2], name), "rb") as plain:
        assert ours.read() == plain.read(), name
        assert os.fstat(ours.fileno()) == os.stat(ours.name), name
print("same")
"""


class InUse(LarderTest):
    def test_one_reader_who_keeps_files_open_leaves_room_for_others(self):
        plain = {name: self.enterContext(scratch()) for name in ("a", "b")}
        for name, folder in plain.items():
            for i in range(250):
                with open(os.path.join(folder, f"f{i:03}"), "wb") as f:
                    f.write(content((name, i), 100_000))
        with open(os.path.join(plain["b"], "large"), "wb") as f:
            f.write(content("large", 20 * MiB))
        with Daemon(cache_size="16MiB", wait_ms=1000) as daemon:
            for name, folder in plain.items():
                daemon.mount("file://" + folder, "/data/" + name)
            holder = subprocess.Popen([PYTHON, "-c", HOLD, "/data/a"], env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                error, held = map(int, holder.stdout.readline().split())
                self.assertEqual(error, errno.EIO)
                self.assertGreater(held, 100)
                other = daemon.run(PYTHON, "-c", SAME, "/data/b", plain["b"], text=True)
                self.assertEqual((other.stdout, other.stderr), ("same\n", ""))
                self.assertGreaterEqual(daemon.status()["cache"]["passed"], 250)
                self.assertLessEqual(daemon.status()["cache"]["used"], 16 * MiB + 16 * MiB // 32)
            finally:
                holder.communicate("")
            wait_for(lambda: daemon.status()["cache"]["passing"] == 0, 20, "nothing passing")


MANY = """
import concurrent.futures, sys
def read(i):
    with open(f"/data/x/f{i:03}", "rb") as f:
        return f.read() == b"%d" % i * 1000
with concurrent.futures.ThreadPoolExecutor(60) as pool:
    print(sum(pool.map(read, range(200))))
"""


class Descriptors(LarderTest):
    def test_a_daemon_short_of_descriptors_lets_its_clients_wait(self):
        plain = self.enterContext(scratch())
        for i in range(200):
            with open(os.path.join(plain, f"f{i:03}"), "wb") as f:
                f.write(b"%d" % i * 1000)
        with Daemon(prefix=["prlimit", "--nofile=72:72"]) as daemon:
            daemon.mount("file://" + plain, "/data/x")
            silent = [self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(80)]
            for one in silent:
                one.connect(daemon.socket)
            result = daemon.run(PYTHON, "-c", MANY, text=True)
            self.assertEqual((result.stdout, result.stderr), ("200\n", ""))


if __name__ == "__main__":
    unittest.main(verbosity=2)
