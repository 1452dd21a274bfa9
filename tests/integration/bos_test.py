"""bos:// end to end: the official SDK writes, larderd mounts, an unmodified program reads what the SDK reads.

The server (tests/tools/bos_server.py) verifies every signature, ours and the SDK's, with the SDK's own signer.
"""
import json
import os
import subprocess
import urllib.request

from harness import PYTHON, ROOT, VENV, Daemon, LarderTest, clean_environment, content, make_tree, run_program, scratch, tree_digests

VENV_PYTHON = os.path.join(VENV, "bin", "python")

# Prints in the form of `bos_sdk.py read`.
READER = """
import hashlib, json, os, sys
root, found = sys.argv[1], {}
for folder, _, names in os.walk(root):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            data, size = f.read(), os.fstat(f.fileno()).st_size
            part = os.pread(f.fileno(), 2 * size // 3 - size // 3 + 1, size // 3) if size else b""
        found[os.path.relpath(path, root)] = [size, int(os.stat(path).st_mtime), hashlib.sha256(data).hexdigest(),
                                              hashlib.sha256(part).hexdigest()]
print(json.dumps(found))
"""


class BosServer:
    """tests/tools/bos_server.py in the environment that has the SDK."""

    def __init__(self, *args):
        if not os.path.exists(VENV_PYTHON):
            raise RuntimeError(f"{VENV_PYTHON} is missing: run tests/tools/venv.sh first")
        self.process = subprocess.Popen([VENV_PYTHON, os.path.join(ROOT, "tests", "tools", "bos_server.py"), *args],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = json.loads(self.process.stdout.readline())
        self.endpoint = line["endpoint"]
        self.keys = line["access_key"], line["secret_key"], line["session_token"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def environment(self):
        return dict(zip(("BDCLOUD_ACCESS_KEY", "BDCLOUD_SECRET_KEY", "BDCLOUD_SESSION_TOKEN"), self.keys))

    def control(self, what, **body):
        request = urllib.request.Request(f"{self.endpoint}/__test__/{what}", data=json.dumps(body).encode(), method="PUT")
        with urllib.request.urlopen(request) as reply:
            return json.load(reply)

    def set_keys(self, *keys):
        self.keys = keys
        self.control("keys", access_key=keys[0], secret_key=keys[1], session_token=keys[2])

    def sdk(self, action, *args):
        result = subprocess.run([VENV_PYTHON, os.path.join(ROOT, "tests", "tools", "bos_sdk.py"), action, self.endpoint, *args],
                                env={**clean_environment(), **self.environment()}, capture_output=True, text=True, timeout=120, check=False)
        if result.returncode != 0:
            raise AssertionError(f"bos_sdk.py {action}: {result.stderr}")
        return result.stdout


class BosTest(LarderTest):
    def setUp(self):
        self.server = self.enterContext(BosServer("--page", "25", "--session-token", "tok/en+1=="))
        self.plain = os.path.join(self.enterContext(scratch("/dev/shm")), "plain")

    def daemon(self, env=None, **options):
        daemon = self.enterContext(Daemon(env=self.server.environment() if env is None else env))
        daemon.mount("bos://bucket/a prefix", "/data/x", endpoint=self.server.endpoint, **options)
        return daemon

    def read(self, daemon):
        result = run_program([PYTHON, "-c", READER, "/data/x"], daemon.preload_env())
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return json.loads(result.stdout)

    def test_a_program_reads_what_the_official_sdk_reads(self):
        count = make_tree(self.plain)
        self.server.sdk("put", "bucket", "a prefix/", self.plain)
        by_sdk = json.loads(self.server.sdk("read", "bucket", "a prefix/"))
        self.assertEqual(len(by_sdk), count)
        daemon = self.daemon()
        self.assertEqual(self.read(daemon), by_sdk)
        self.assertEqual({name: found[2] for name, found in by_sdk.items()}, tree_digests(self.plain))
        state = self.server.control("state")
        self.assertEqual(state["verified"], len(state["requests"]), "a request was not signed, or wrongly")
        gets = daemon.status()["store"]["gets"]
        self.assertEqual(self.read(daemon), by_sdk)
        self.assertEqual(daemon.status()["store"]["gets"], gets, "the second epoch went to the store")

    def test_keys_that_rotate_in_a_file_stop_no_program(self):
        make_tree(self.plain)
        self.server.sdk("put", "bucket", "a prefix/", self.plain)
        keys = os.path.join(self.enterContext(scratch()), "keys")

        def write():
            with open(os.open(keys + ".new", os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                f.write("[Defaults]\nAk = {}\nSk = {}\nSts = {}\n".format(*self.server.keys))
            os.rename(keys + ".new", keys)

        write()
        daemon = self.daemon(env={}, credentials_file=keys)
        first = run_program(["cat", "/data/x/sizes/110000.bin"], daemon.preload_env())
        self.assertEqual(first.stdout, content(110_000, 110_000))
        self.server.set_keys("ak2", "sk2", "tok2")
        write()
        self.assertEqual({name: found[2] for name, found in self.read(daemon).items()}, tree_digests(self.plain))
        self.assertEqual(daemon.status()["store"]["errors"], 0)

    def test_a_refresh_brings_what_changed(self):
        os.makedirs(self.plain)
        for version in (b"first", b"second, longer"):
            with open(os.path.join(self.plain, "f"), "wb") as f:
                f.write(version)
            self.server.sdk("put", "bucket", "a prefix/", self.plain)
            if version == b"first":
                daemon = self.daemon()
            else:
                daemon.larder("refresh", daemon.status()["mounts"][0]["dataset"])
            self.assertEqual(run_program(["cat", "/data/x/f"], daemon.preload_env()).stdout, version)

    def test_refusals_name_the_value_and_the_remedy(self):
        os.makedirs(self.plain)
        with open(os.path.join(self.plain, "f"), "wb") as f:
            f.write(b"x")
        self.server.sdk("put", "bucket", "a prefix/", self.plain)
        daemon = self.enterContext(Daemon(env={**self.server.environment(), "BDCLOUD_SECRET_KEY": "wrong"}))
        words = ["/data/x", "--option", f"endpoint={self.server.endpoint}"]
        self.assert_one_line(daemon.larder("mount", "bos://bucket/a prefix", *words, check=False), "bos://bucket/a prefix/",
                             "SignatureDoesNotMatch", "check the secret key")
        self.assert_one_line(daemon.larder("mount", "bos://Bucket_", *words, check=False), "Bucket_", "bucket name of BOS")
        good = self.enterContext(Daemon(env=self.server.environment()))
        self.assert_one_line(good.larder("mount", "bos://nothing-here", *words, check=False), "bos://nothing-here/", "NoSuchBucket", "region")
        none = self.enterContext(Daemon(env={"HOME": self.plain}))
        self.assert_one_line(none.larder("mount", "bos://bucket", *words, check=False), "no credentials", "BDCLOUD_ACCESS_KEY")


if __name__ == "__main__":
    import unittest
    unittest.main()
