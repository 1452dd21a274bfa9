#!/usr/bin/env python3
"""Nodes that share one Redis: the same programs give the same bytes on all, a refresh on one reaches the others, and a Redis that
is away, emptied or restored takes nothing from whoever reads."""
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

from harness import PYTHON, Daemon, clean_environment, run_program, scratch, tree_digests, wait_for, LARDER


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Redis:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="larder-test-")
        self.port = free_port()
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--requirepass", "redis-pw",
             "--dir", self.dir], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 20, "redis-server")

    def answers(self):
        try:
            return self.command("PING") == b"+PONG\r\n"
        except OSError:
            return False

    def command(self, *words):
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            for line in (("AUTH", "redis-pw"), words):
                s.sendall(f"*{len(line)}\r\n".encode() + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in line))
                reply = s.recv(4096)
            return reply

    def kill(self):
        self.process.kill()
        self.process.wait()

    def remove(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


READ = """
import hashlib, os, sys
h = hashlib.sha256()
for d, ds, fs in sorted(os.walk(sys.argv[1])):
    for f in sorted(fs):
        h.update(f.encode()); h.update(open(os.path.join(d, f), 'rb').read())
print(h.hexdigest())
"""


@unittest.skipUnless(shutil.which("redis-server"), "there is no redis-server: apt-get install redis-server")
class NodesTest(unittest.TestCase):
    def setUp(self):
        self.redis = Redis()
        self.addCleanup(self.redis.remove)
        self.meta = f"redis://127.0.0.1:{self.redis.port}/0?timeout=1000"
        source = scratch()
        self.folder = source.__enter__()
        self.addCleanup(source.__exit__, None, None, None)
        for i in range(40):
            self.write(f"c{i % 4}/{i:03}.bin", bytes([i]) * (1000 + i))
        self.env = {**clean_environment(), "REDIS_PASSWORD": "redis-pw"}

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as f:
            f.write(data)
        os.rename(path + ".new", path)

    def node(self, name):
        d = Daemon(env={"REDIS_PASSWORD": "redis-pw", "LARDER_NODE": name}, meta=self.meta)
        d.__enter__()
        self.addCleanup(d.__exit__)
        return d

    def cli(self, *args):
        return subprocess.run([LARDER, *args], env=self.env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    def digest(self, node, path="/data/shared"):
        result = run_program([PYTHON, "-c", READ, path], node.preload_env())
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def plain(self):
        return run_program([PYTHON, "-c", READ, self.folder], clean_environment()).stdout

    def exists(self, node, name):
        return run_program([PYTHON, "-c", f"import os; print(os.path.exists('/data/shared/{name}'))"], node.preload_env()).stdout == b"True\n"

    def two_nodes(self):
        formatted = self.cli("format", "shared", f"file://{self.folder}", "--meta", self.meta)  # no larderd needed
        self.assertEqual(formatted.returncode, 0, formatted.stderr)
        refreshed = self.cli("refresh", "shared", "--meta", self.meta)
        self.assertEqual(refreshed.returncode, 0, refreshed.stderr)
        nodes = [self.node("n1"), self.node("n2")]
        for n in nodes:
            n.larder("mount", "shared", "/data/shared")
        return nodes

    def test_a_refresh_on_one_node_reaches_programs_on_the_other(self):
        one, two = self.two_nodes()
        self.assertEqual(self.digest(one), self.plain())
        self.assertEqual(self.digest(two), self.plain())
        held = subprocess.Popen([PYTHON, "-c", "f = open('/data/shared/c1/001.bin', 'rb'); print(f.read(1)[0], flush=True); input(); print(len(f.read()), flush=True)"],
                                env=two.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(held.stdout.readline(), "1\n")
        self.write("c0/new.bin", b"new")
        self.write("c1/001.bin", b"another content")
        os.unlink(os.path.join(self.folder, "c2/002.bin"))
        start = time.monotonic()
        one.larder("refresh", "shared")
        wait_for(lambda: self.exists(two, "c0/new.bin"), 10, "the new file on the other node")
        self.assertLess(time.monotonic() - start, 8)
        self.assertFalse(self.exists(two, "c2/002.bin"))
        self.assertEqual(self.digest(two), self.plain())
        self.assertEqual(self.digest(one), self.plain())
        held.stdin.write("\n")
        held.stdin.flush()
        self.assertEqual(held.stdout.readline(), "1000\n", "an open descriptor keeps the old version")
        held.communicate()

    def test_who_has_what(self):
        one, two = self.two_nodes()
        self.digest(one)

        def listed():
            nodes = json.loads(self.cli("nodes", "shared", "--json", "--meta", self.meta).stdout)["nodes"]
            return nodes if len(nodes) == 2 and nodes[0]["files"] == 40 else None

        nodes = wait_for(listed, 25, "the heartbeats of both nodes")
        self.assertEqual([n["node"] for n in nodes], ["n1", "n2"])
        self.assertEqual(nodes[0]["bytes"], 40 * 4096)  # what they take of the cache: pages
        self.assertEqual(nodes[1]["files"], 0)
        self.assertIn("n1", two.larder("nodes", "shared").stdout)
        self.assertNotEqual(self.cli("nodes", "nobody", "--meta", self.meta).returncode, 0)

    def test_a_redis_that_is_down_or_emptied_takes_nothing_from_readers(self):
        one, two = self.two_nodes()
        warm = self.digest(one)
        self.redis.kill()
        self.assertEqual(self.digest(one), warm)
        self.assertEqual(self.digest(two), warm, "a cold node reads on with the catalog it has loaded")
        failed = one.larder("refresh", "shared", check=False)
        self.assertNotEqual(failed.returncode, 0)
        self.assertIn(str(self.redis.port), failed.stderr)
        self.redis.start()  # empty
        time.sleep(5)       # polls and heartbeats see it
        self.assertEqual(self.digest(two), warm)
        lost = one.larder("refresh", "shared", check=False)
        self.assertNotEqual(lost.returncode, 0)
        self.assertIn("--restore", lost.stderr)
        self.assertEqual(self.digest(one), warm)
        restored = one.larder("format", "shared", f"file://{self.folder}", "--restore")
        self.assertIn("40 files", restored.stdout)
        self.write("c0/after.bin", b"after")
        one.larder("refresh", "shared")
        wait_for(lambda: self.exists(two, "c0/after.bin"), 15, "the new file on the other node")
        self.assertEqual(self.digest(two), self.plain())
        for n in (one, two):
            self.assertNotIn("redis-pw", n.log_tail(10**6))


if __name__ == "__main__":
    unittest.main()
