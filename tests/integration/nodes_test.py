#!/usr/bin/env python3
"""Nodes that share one Redis: the same programs give the same bytes on all, a refresh on one reaches the others, and readers lose
nothing when Redis is away, emptied or restored."""
import json
import os
import shutil
import signal
import struct
import subprocess
import unittest

from harness import PYTHON, Daemon, clean_environment, run_program, scratch, wait_for, LARDER
from harness.redis_servers import PASSWORD, Redis, Wire


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
        self.addCleanup(self.redis.close)
        self.meta = f"redis://127.0.0.1:{self.redis.port}/0?timeout=1000"
        source = scratch()
        self.folder = source.__enter__()
        self.addCleanup(source.__exit__, None, None, None)
        for i in range(40):
            self.write(f"c{i % 4}/{i:03}.bin", bytes([i]) * (1000 + i))
        self.env = {**clean_environment(), "REDIS_PASSWORD": PASSWORD}

    def write(self, name, data):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "wb") as f:
            f.write(data)
        os.rename(path + ".new", path)

    def node(self, name):
        d = Daemon(env={"REDIS_PASSWORD": PASSWORD, "LARDER_NODE": name}, meta=self.meta)
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
        one.larder("refresh", "shared")
        wait_for(lambda: self.exists(two, "c0/new.bin"), 10, "the new file on the other node")
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
        wait_for(lambda: self.redis.command("PUBSUB", "NUMSUB", "larder:changes")[1] == 2, 30, "the subscriptions of both nodes")
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
            self.assertNotIn(PASSWORD, n.log_tail(10**6))

    # ---- a publisher that dies

    def whole_version(self):
        """The objects of the current version; fails if a part of it is missing."""
        key = lambda what: "ds:{shared}:" + what
        version = self.redis.command("GET", key("cur")).decode()
        flat = self.redis.command("HGETALL", key(version + ":meta"))
        meta, rows = dict(zip(flat[::2], flat[1::2])), self.redis.command("GET", key(version + ":dir"))
        at, objects = 16, 0
        for _ in range(struct.unpack_from("<I", rows, 4)[0]):
            low, high, size, count, first_key = struct.unpack_from("<QQIIH", rows, at)
            segment = self.redis.command("GET", key(f"seg:{high:016x}{low:016x}"))
            self.assertEqual(len(segment or b""), size)
            at, objects = at + 26 + first_key, objects + count
        self.assertEqual((at, objects), (len(rows), int(meta[b"objects"])))
        for part in ("cur", "def", "versions", version + ":meta", version + ":dir"):
            self.assertEqual(self.redis.command("TTL", key(part)), -1, f"{part} would go")
        return objects

    def refresh_killed_at(self, wire, number, passed_on):
        """True if SIGKILL ended the refresh at its command of this number, before or after Redis got it."""
        sent, publisher = 0, []

        def on_command(_, forward):
            nonlocal sent
            sent += 1
            if sent != number:
                return forward()
            if passed_on:
                forward()
            wait_for(lambda: publisher, 5, "the publisher's pid")
            publisher[0].send_signal(signal.SIGKILL)
            raise OSError("it is dead")

        wire.on_command = on_command
        publisher.append(subprocess.Popen([LARDER, "refresh", "shared", "--meta", f"redis://127.0.0.1:{wire.port}/0"], env=self.env,
                                          stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        out, err = publisher[0].communicate(timeout=60)
        self.assertIn(publisher[0].returncode, (0, -signal.SIGKILL), err)
        return publisher[0].returncode != 0

    def test_a_publisher_killed_at_any_of_its_commands_leaves_a_whole_version(self):
        one, two = self.two_nodes()
        wire = Wire(("127.0.0.1", self.redis.port))
        self.addCleanup(wire.close)
        objects, published, kept = 40, 0, 0
        for number in range(1, 60):
            for passed_on in (False, True):
                self.write(f"c0/{number:02}{passed_on}.bin", b"one more")
                killed = self.refresh_killed_at(wire, number, passed_on)
                now = self.whole_version()
                new = len(os.listdir(self.folder + "/c0")) + 30
                self.assertIn(now, (objects, new), "neither the old version nor the new one")
                published, kept, objects = published + (now == new), kept + (now != new), now
                self.redis.command("DEL", "ds:{shared}:lock")  # which ends by itself, but after 30 s
            if not killed:
                break
        self.assertGreater(number, 10)
        self.assertGreater(published, 2)
        self.assertGreater(kept, 10)
        two.larder("refresh", "shared")
        for node in (one, two):
            wait_for(lambda n=node: self.digest(n) == self.plain(), 15, "the newest version")

    def trouble(self, node):
        return next(d["trouble"] for d in node.status()["datasets"] if d["name"] == "shared")

    def test_a_node_that_restarts_without_redis_serves_what_it_has_and_follows_again(self):
        one, two = self.two_nodes()
        warm = self.digest(one)
        self.redis.kill()
        for node in (one, two):
            node.kill()
            node.start()
        self.assertEqual(self.digest(one), warm)
        self.assertEqual(self.digest(two), warm, "what is not cached comes from the store, with the catalog of before")
        for node in (one, two):
            self.assertIn(str(self.redis.port), self.trouble(node))
            self.assertIn("is served from what this node has", node.log_tail(200))
            self.assertIn("does not follow its metadata", node.larder("status").stdout)
        self.redis.start()  # empty
        wait_for(lambda: "--restore" in self.trouble(two), 30, "word that the metadata was emptied")
        two.stop()
        two.start()
        self.assertEqual(self.digest(two), warm, "emptied metadata empties no node that starts")
        one.larder("format", "shared", f"file://{self.folder}", "--restore")
        self.write("c0/after.bin", b"after")
        one.larder("refresh", "shared")
        wait_for(lambda: self.exists(two, "c0/after.bin"), 15, "the new file on the other node")
        self.assertEqual(self.digest(two), self.plain())
        wait_for(lambda: self.trouble(one) == "" and self.trouble(two) == "", 25, "the end of the trouble")


if __name__ == "__main__":
    unittest.main()
