"""http:// end to end: programs read a folder of a web server, listed by its manifest."""
import hashlib
import json
import os
import subprocess
import sys
import zlib

from harness import PYTHON, ROOT, Daemon, LarderTest, make_tree, run_program, scratch, tree_digests

READER = """
import hashlib, os, sys
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "rb") as f:
            print(os.path.relpath(path, sys.argv[1]).encode().hex(), hashlib.sha256(f.read()).hexdigest())
"""


def write_manifest(folder):
    lines = []
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            st = os.stat(path)
            with open(path, "rb") as f:
                crc = zlib.crc32(f.read())
            lines.append({"path": os.path.relpath(path, folder), "size": st.st_size, "etag": f"{st.st_mtime_ns:x}-{st.st_size:x}", "crc32": f"{crc:08x}"})
    with open(os.path.join(folder, "larder-manifest.jsonl"), "w") as f:
        f.writelines(json.dumps(line) + "\n" for line in lines)


class HttpTest(LarderTest):
    def setUp(self):
        self.root = self.enterContext(scratch("/dev/shm"))
        self.plain = os.path.join(self.root, "data set")
        server = subprocess.Popen([sys.executable, os.path.join(ROOT, "tests", "tools", "file_server.py"), "--dir", self.root],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (server.stdin.close(), server.stdout.close(), server.wait(10)))
        self.endpoint = json.loads(server.stdout.readline())["endpoint"]

    def read(self, daemon):
        result = run_program([PYTHON, "-c", READER, "/data/x"], daemon.preload_env())
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return {bytes.fromhex(name).decode(): digest for name, digest in (line.split() for line in result.stdout.decode().splitlines())}

    def test_a_program_reads_the_folder_and_its_next_version(self):
        make_tree(self.plain)
        expected = tree_digests(self.plain)
        write_manifest(self.plain)
        daemon = self.enterContext(Daemon())
        daemon.mount(self.endpoint + "/data%20set", "/data/x")
        self.assertEqual(self.read(daemon), expected)
        os.remove(os.path.join(self.plain, "larder-manifest.jsonl"))
        with open(os.path.join(self.plain, "top.txt"), "wb") as f:
            f.write(b"another version")
        write_manifest(self.plain)
        daemon.larder("refresh", daemon.status()["mounts"][0]["dataset"])
        expected["top.txt"] = hashlib.sha256(b"another version").hexdigest()
        self.assertEqual(self.read(daemon), expected)

    def test_a_folder_without_a_manifest(self):
        make_tree(self.plain)
        daemon = self.enterContext(Daemon())
        self.assert_one_line(daemon.larder("mount", self.endpoint + "/data%20set", "/data/x", check=False), "larder-manifest.jsonl", "404")


if __name__ == "__main__":
    import unittest
    unittest.main()
