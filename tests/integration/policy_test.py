"""What stays in a full cache, by an operator's choice: quotas, pins, sieve. At once, after a restart, and where it must be refused."""
import os
import random
import shutil
import subprocess
import unittest

from harness import LARDER, PYTHON, Daemon, LarderTest, MiB, content, run_program, scratch

READ = """
import hashlib, sys
for line in sys.stdin:
    with open(line.rstrip("\\n"), "rb") as f:
        print(hashlib.sha256(f.read()).hexdigest())
"""


class Policies(LarderTest):
    """600 files of 40 KB in 6 folders: 24 MB, and a cache of 12 MiB."""

    COUNT = 600

    @classmethod
    def setUpClass(cls):
        cls.plain = os.path.join(cls.enterClassContext(scratch("/dev/shm")), "plain")
        for i in range(cls.COUNT):
            path = os.path.join(cls.plain, cls.name(i))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(content(i, 40_000))

    @staticmethod
    def name(i):
        return f"{i % 6}/f{i:04}"

    def daemon(self, **config):
        return self.enterContext(Daemon(**{"cache_size": "12MiB", **config}))

    def read(self, daemon, order, mount="/data/x"):
        """One program reads the files; every byte is compared with the plain file."""
        out = run_program([PYTHON, "-c", READ], daemon.preload_env(), data="".join(f"{mount}/{self.name(i)}\n" for i in order).encode())
        self.assertEqual((out.returncode, out.stderr), (0, b""))
        bare = run_program([PYTHON, "-c", READ], daemon.env, data="".join(f"{self.plain}/{self.name(i)}\n" for i in order).encode())
        self.assertEqual(out.stdout, bare.stdout)

    def mount_status(self, daemon, path="/data/x"):
        return next(m for m in daemon.status()["mounts"] if m["path"] == path)

    def gets(self, daemon):
        return daemon.status()["store"]["gets"]

    def test_a_quota_is_kept_and_survives_kill_9(self):
        daemon = self.daemon()
        daemon.larder("mount", f"file://{self.plain}", "/data/x", "--quota", "4MiB")
        for _ in range(2):
            self.read(daemon, range(self.COUNT))
            m = self.mount_status(daemon)
            self.assertEqual(m["quota"], 4 * MiB)
            self.assertLessEqual(m["cached_bytes"], 4 * MiB)
            self.assertGreater(m["cached_bytes"], 3 * MiB)
        daemon.kill()
        daemon.start()
        self.read(daemon, range(0, self.COUNT, 2))
        self.assertLessEqual(self.mount_status(daemon)["cached_bytes"], 4 * MiB)
        daemon.larder("mount", f"file://{self.plain}", "/data/x", "--quota", "25%")
        self.assertEqual(self.mount_status(daemon)["quota"], 3 * MiB)
        self.assertLessEqual(self.mount_status(daemon)["cached_bytes"], 3 * MiB)
        daemon.larder("mount", f"file://{self.plain}", "/data/x", "--quota", "none")
        self.read(daemon, range(self.COUNT))
        self.assertGreater(self.mount_status(daemon)["cached_bytes"], 8 * MiB)

    def test_pins_stay_through_epochs_restarts_and_refreshes(self):
        daemon = self.daemon(fill="eager")
        changing = os.path.join(self.enterContext(scratch("/dev/shm")), "t")
        shutil.copytree(self.plain, changing)
        daemon.larder("mount", f"file://{changing}", "/data/x")
        self.read(daemon, range(self.COUNT))  # full of others
        out = daemon.larder("warm", "--pin", "/data/x/3").stdout
        self.assertIn("100 files", out)
        self.assertIn("0 failed", out)
        pinned = [i for i in range(self.COUNT) if i % 6 == 3]
        random.Random(1).shuffle(pinned)

        def all_pinned_are_warm():
            before = self.gets(daemon)
            self.read(daemon, pinned)
            self.assertEqual(self.gets(daemon), before, "a pinned file was fetched again")

        order = list(range(self.COUNT))
        for epoch in range(2):
            random.Random(epoch).shuffle(order)
            self.read(daemon, order)
            all_pinned_are_warm()
        self.assertIn("pinned   100 files", daemon.larder("status").stdout)
        self.assertEqual(self.mount_status(daemon)["pinned_files"], 100)
        evicted = daemon.larder("evict", "/data/x")
        self.assertIn("100 files are pinned and stay", evicted.stderr)
        all_pinned_are_warm()
        daemon.kill()
        daemon.start()
        self.read(daemon, order)
        all_pinned_are_warm()
        with open(os.path.join(changing, "3", "new"), "wb") as f:
            f.write(b"x" * 9000)
        dataset = self.mount_status(daemon)["dataset"]
        daemon.larder("refresh", dataset)
        self.assertEqual(self.mount_status(daemon)["pinned_files"], 101, "what a refresh adds below a pinned folder is pinned")
        self.assertIn("1 pins removed", daemon.larder("unpin", "/data/x/3").stdout)
        self.assertIn("100 files", daemon.larder("evict", "/data/x/3").stdout)
        self.assertEqual(self.mount_status(daemon)["pinned_files"], 0)

    def test_what_cannot_be_pinned_is_refused_and_nothing_changes(self):
        daemon = self.daemon()
        daemon.larder("mount", f"file://{self.plain}", "/data/x")
        self.assert_one_line(daemon.larder("warm", "--pin", "/data/x", check=False), "would be pinned")
        self.assertEqual(self.mount_status(daemon)["pinned_files"], 0)
        self.assertEqual(self.mount_status(daemon)["cached_files"], 0, "refused before anything was fetched")
        daemon.larder("warm", "--pin", "/data/x/1")
        self.assert_one_line(daemon.larder("unpin", "/data/x/1/f0001", check=False), "/data/x/1/f0001", "pinned through the folder 1")
        out = daemon.larder("unpin", "/data/x/2", check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn("is not pinned", out.stderr)
        for words in (["--policy", "lru"], ["--quota", "many"]):
            out = daemon.larder("mount", f"file://{self.plain}", "/data/x", *words, check=False)
            self.assertNotEqual(out.returncode, 0)
            self.assertIn(words[1], out.stderr)
        os.chmod(daemon.work, 0o755)
        os.chmod(daemon.socket, 0o666)
        out = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", LARDER, "warm", "--pin", "/data/x/2"],
                             env=daemon.env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assert_one_line(out, "pinning requires root")
        out = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", LARDER, "unpin", "/data/x/1"],
                             env=daemon.env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        self.assert_one_line(out, "unpin requires root")
        self.assertEqual(self.mount_status(daemon)["pinned_files"], 100)

    def hits_of_skewed_reads(self, policy):
        """Hits in the second half of 2,400 reads, nine tenths of which go to a tenth of the files."""
        daemon = self.daemon(cache_size="5MiB")
        daemon.larder("mount", f"file://{self.plain}", "/data/x", "--policy", policy)
        self.assertEqual(self.mount_status(daemon)["policy"], policy)
        rng = random.Random(7)
        hot = rng.sample(range(self.COUNT), self.COUNT // 10)
        order = [rng.choice(hot) if rng.random() < 0.9 else rng.randrange(self.COUNT) for _ in range(2400)]
        cold = [i for i in range(self.COUNT) if i not in hot]
        self.read(daemon, cold[:200])  # the files read first are not the ones read later
        for part in range(0, 1200, 100):
            self.read(daemon, order[part:part + 100])
        before = self.gets(daemon)
        for part in range(1200, 2400, 100):
            self.read(daemon, order[part:part + 100])
        return 1200 - (self.gets(daemon) - before)

    def test_sieve_hits_what_is_read_again_and_again(self):
        keep, sieve = self.hits_of_skewed_reads("keep"), self.hits_of_skewed_reads("sieve")
        self.assertGreater(sieve, 900, "a tenth of the files fits the cache and gets nine tenths of the reads")
        self.assertLess(keep, 600)

    def test_the_configuration_says_it_too(self):
        daemon = self.daemon(policy="sieve")
        path = daemon.write_config()
        daemon.stop()
        with open(path, "a") as f:
            f.write(f'[[mount]]\npath = "/data/x"\nsource = "file://{self.plain}"\nquota = "50%"\n'
                    f'[[mount]]\npath = "/data/y"\nsource = "file://{self.plain}/1"\npolicy = "keep"\n')
        daemon.write_config = lambda: path
        daemon.start()
        m = self.mount_status(daemon)
        self.assertEqual((m["policy"], m["quota"]), ("sieve", 6 * MiB))
        y = self.mount_status(daemon, "/data/y")
        self.assertEqual((y["policy"], y["quota"]), ("keep", 0))
        self.assertIn("policy   sieve, quota 6.0 MiB", daemon.larder("status").stdout)


if __name__ == "__main__":
    unittest.main()
