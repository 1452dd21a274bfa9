"""Stores with odd habits and stores that lie (tests/tools/odd_s3_server.py): what programs see, and what is told."""
import os
import unittest

from harness import PYTHON, Daemon, LarderTest, OddServer, run_program, s3_environment

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


if __name__ == "__main__":
    unittest.main(verbosity=2)
