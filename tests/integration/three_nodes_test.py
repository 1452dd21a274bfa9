#!/usr/bin/env python3
"""Three nodes, each with its own network, larderd and cache; one bucket; one Redis, then Sentinel, then a Cluster. The same
programs give the same bytes on all; loaders lose nothing whatever happens to Redis, and Larder says what happened."""
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
import unittest

from harness import LARDER, PYTHON, Daemon, LarderTest, clean_environment, content, run_program, s3_environment, s3_server, scratch, wait_for
from harness.network import HUB, Host, enter_hub
from harness.redis_servers import PASSWORD, Cluster, Redis, Sentinels, Wire

PATH = "/data/shared"

# Reads files in random order until its stdin ends, compares each with what was uploaded, and prints how many it read. A file
# that differs ends it.
LOADER = """
import hashlib, json, os, random, select, sys
root, wanted, done = sys.argv[1], json.load(open(sys.argv[2])), 0
rnd = random.Random(os.getpid())
print('running', flush=True)
while not select.select([0], [], [], 0)[0]:
    name = rnd.choice(list(wanted))
    with open(os.path.join(root, name), 'rb') as f:
        data = f.read()
    if hashlib.sha256(data).hexdigest() != wanted[name]:
        sys.exit(f'{name}: other bytes')
    if os.stat(os.path.join(root, name)).st_size != len(data) or not os.listdir(os.path.dirname(os.path.join(root, name))):
        sys.exit(f'{name}: stat or listdir')
    done += 1
print(done)
"""

PROGRAMS = [f"cd {PATH} && find . -type f | LC_ALL=C sort", f"cd {PATH} && find . -type f | LC_ALL=C sort | xargs -d '\\n' sha256sum",
            f"tar --sort=name -C {PATH} -c . | sha256sum", f"ls -lR --time-style=full-iso {PATH}", f"du -s --apparent-size {PATH}", f"grep -rc x {PATH}/c0 | sort"]


class Node:
    def __init__(self, number, env, meta):
        self.host = Host(number)
        self.daemon = Daemon(env={**env, "LARDER_NODE": f"node{number}"}, meta=meta, prefix=self.host.prefix, cache_size="64MiB")
        self.daemon.__enter__()

    def run(self, command, **more):
        words = [*self.host.prefix, *(["/bin/sh", "-c", command] if isinstance(command, str) else command)]
        return run_program(words, self.daemon.preload_env(**more))

    def loader(self, wanted):
        process = subprocess.Popen([*self.host.prefix, PYTHON, "-c", LOADER, PATH, wanted], env=self.daemon.preload_env(), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdout.readline()
        return process

    def close(self):
        try:
            self.daemon.__exit__()
        finally:
            self.host.close()


class ThreeNodesTest(LarderTest):
    @classmethod
    def setUpClass(cls):
        if not shutil.which("redis-server"):
            raise unittest.SkipTest("there is no redis-server: apt-get install redis-server")
        if why := enter_hub():
            print(f"NOT RUN: {why}", file=sys.stderr)
            raise unittest.SkipTest(why)
        work = scratch()
        cls.work = work.__enter__()
        cls.addClassCleanup(work.__exit__, None, None, None)
        cls.server = s3_server(os.path.join(cls.work, "s3"))
        cls.server.host = HUB
        cls.server.start()
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        import s3_put
        self.bucket = f"b{random.randrange(10**9)}"
        self.client = s3_put.Client(self.server.endpoint, self.server.access_key, self.server.secret_key)
        self.client.make_bucket(self.bucket)
        self.addCleanup(self.client.close)
        self.wanted = {}
        for i in range(60):
            self.put(f"c{i % 4}/{i:03}.bin", content(i, 3000 + 101 * i))
        self.put("top.txt", b"x marks the top\n")
        self.nodes = []
        self.env = {**clean_environment(), **s3_environment(self.server), "REDIS_PASSWORD": PASSWORD}

    def put(self, name, data):
        self.client.put(self.bucket, "p/" + name, data)
        self.wanted[name] = hashlib.sha256(data).hexdigest()

    def wanted_file(self, without=()):
        path = os.path.join(self.work, f"wanted{time.monotonic_ns()}")
        with open(path, "w") as f:
            json.dump({k: v for k, v in self.wanted.items() if k not in without}, f)
        return path

    def cli(self, *args, meta=None, timeout=60):
        """From a machine without larderd."""
        return subprocess.run([LARDER, *args, *(["--meta", meta] if meta else [])], env=self.env, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)

    def done(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def start(self, meta):
        self.done(self.cli("format", "shared", f"s3://{self.bucket}/p", "--endpoint", self.server.endpoint, "--region", "us-east-1", meta=meta))
        self.done(self.cli("refresh", "shared", meta=meta))
        for number in (1, 2, 3):
            node = Node(number, {**s3_environment(self.server), "REDIS_PASSWORD": PASSWORD}, meta)
            self.addCleanup(node.close)
            self.nodes.append(node)
            node.daemon.larder("mount", "shared", PATH)

    def same_everywhere(self):
        for program in PROGRAMS:
            results = [n.run(program) for n in self.nodes]
            for r in results:
                self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual({r.stdout for r in results}, {results[0].stdout}, program)
        sums = {line[66:].removeprefix("./"): line[:64] for line in self.nodes[0].run(PROGRAMS[1]).stdout.decode().splitlines()}
        self.assertEqual(sums, self.wanted)

    def loaders(self, without=()):
        wanted = self.wanted_file(without)
        started = [n.loader(wanted) for n in self.nodes]
        for p in started:
            self.addCleanup(lambda p=p: (p.kill(), p.communicate()))
        return started

    def ended_well(self, loaders):
        for p in loaders:
            out, err = p.communicate("\n", timeout=60)
            self.assertEqual((p.returncode, err), (0, ""), out)
            self.assertGreater(int(out), 5)

    def cold(self):
        """Makes loaders' next reads go to the bucket again."""
        for n in self.nodes:
            n.daemon.larder("evict", PATH)

    def new_file_arrives(self, name, through=0):
        self.put(name, name.encode() * 50)
        self.nodes[through].daemon.larder("refresh", "shared")
        for n in self.nodes:
            wait_for(lambda n=n: n.run(["test", "-e", f"{PATH}/{name}"]).returncode == 0, 20, f"{name} on {n.host.address}")

    def refresh_fails(self, *parts, node=0):
        self.put("never.txt", b"not published yet")  # there is something to publish
        result = self.nodes[node].daemon.larder("refresh", "shared", check=False)
        self.assert_one_line(result, *parts)

    # ---- one Redis

    def test_one_redis_and_everything_that_happens_to_it(self):
        redis = Redis(host=HUB)
        self.addCleanup(redis.close)
        wire = Wire((HUB, redis.port), HUB)
        self.addCleanup(wire.close)
        self.start(f"redis://{HUB}:{wire.port}/0?timeout=1000&prefix=team1")
        self.same_everywhere()
        self.a_refresh_reaches_programs_everywhere()
        self.two_refresh_at_once()
        loaders = self.loaders()
        for fault in (self.slow, self.deaf, self.down, self.garbage, self.lying, self.out_of_memory, self.emptied):
            with self.subTest(fault.__name__):
                self.cold()
                fault(redis, wire)
                self.assertTrue(all(p.poll() is None for p in loaders), "a loader ended")
        self.ended_well(loaders)
        self.same_everywhere()
        for n in self.nodes:
            self.assertNotIn(PASSWORD, n.daemon.log_tail(10**6))

    def a_refresh_reaches_programs_everywhere(self):
        held = self.nodes[2].run  # an open descriptor keeps what it has, while a later open sees the new version
        program = f"exec 3<{PATH}/top.txt; touch {self.work}/opened; while [ ! -e {self.work}/refreshed ]; do sleep 0.05; done; cat <&3; cat {PATH}/top.txt"
        reader = subprocess.Popen([*self.nodes[2].host.prefix, "/bin/sh", "-c", program], env=self.nodes[2].daemon.preload_env(), stdout=subprocess.PIPE)
        self.addCleanup(reader.stdout.close)
        wait_for(lambda: os.path.exists(f"{self.work}/opened"), 20, "the open descriptor")
        self.put("top.txt", b"another top\n")
        self.new_file_arrives("first.txt")
        self.client.delete(self.bucket, "p/first.txt")
        del self.wanted["first.txt"]
        self.new_file_arrives("second.txt", through=1)
        open(f"{self.work}/refreshed", "w").close()
        self.assertEqual(reader.communicate(timeout=30)[0], b"x marks the top\nanother top\n")
        self.assertNotEqual(held(["test", "-e", f"{PATH}/first.txt"]).returncode, 0)
        self.same_everywhere()
        listed = wait_for(lambda: (lambda nodes: nodes if len(nodes) == 3 and all(n["files"] for n in nodes) else None)(
            json.loads(self.nodes[0].daemon.larder("nodes", "shared", "--json").stdout)["nodes"]), 30, "three heartbeats")
        self.assertEqual({n["node"] for n in listed}, {"node1", "node2", "node3"})

    def two_refresh_at_once(self):
        self.put("both.txt", b"seen by both")
        started = [subprocess.Popen([LARDER, "refresh", "shared"], env=n.daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for n in self.nodes]
        for p in started:
            out, err = p.communicate(timeout=60)
            self.assertEqual(p.returncode, 0, out + err)
        for n in self.nodes:
            wait_for(lambda n=n: n.run(["cat", f"{PATH}/both.txt"]).stdout == b"seen by both", 20, "the file that all listed")
        versions = {n.daemon.status()["mounts"][0]["version"] for n in self.nodes}
        wait_for(lambda: len({n.daemon.status()["mounts"][0]["version"] for n in self.nodes}) == 1, 20, f"one version on all of {versions}")
        self.same_everywhere()

    # ---- faults: each returns when everything is in order again

    def slow(self, _, wire):
        wire.set("slow")
        self.new_file_arrives("slow.txt")
        wire.set("pass")

    def deaf(self, _, wire):
        wire.set("deaf")
        self.refresh_fails(str(wire.port), "no answer in time")
        wire.set("pass")
        self.new_file_arrives("deaf.txt", through=1)

    def down(self, redis, wire):
        saved = redis.command("SAVE")
        self.assertEqual(saved, b"OK")
        redis.kill()
        self.refresh_fails(str(wire.port))
        status = self.nodes[1].daemon
        wait_for(lambda: status.status()["datasets"][0]["trouble"], 40, "word of the trouble in larder status")
        redis.start()  # with what it had
        self.new_file_arrives("down.txt", through=2)
        wait_for(lambda: not status.status()["datasets"][0]["trouble"], 40, "the end of the trouble")

    def garbage(self, _, wire):
        wire.set("garbage")
        self.refresh_fails(str(wire.port), node=1)
        wire.set("cut")
        self.put("garbage.txt", b"after noise")
        self.nodes[0].daemon.larder("refresh", "shared", check=False)
        wire.set("pass")
        self.new_file_arrives("garbage2.txt")

    def lying(self, redis, _):
        """Segments with other bytes, cut segments, none: followers keep what they have and say so; a refresh repairs."""
        def lie(damage):
            before = self.nodes[2].daemon.status()["mounts"][0]["version"]
            self.put(f"{damage.__name__}.txt", b"behind the lie")
            damage_done = lambda: [damage(redis, key) for key in redis.keys("team1:ds:{shared}:seg:*")]
            self.nodes[2].daemon.process.send_signal(19)  # it must not follow before the damage is there
            self.nodes[0].daemon.larder("refresh", "shared")
            damage_done()
            self.nodes[2].daemon.process.send_signal(18)
            wait_for(lambda: "new version of shared" in self.nodes[2].daemon.log_tail(20), 20, "word of the lie in the log")
            self.assertEqual(self.nodes[2].daemon.status()["mounts"][0]["version"], before)
            self.new_file_arrives(f"after-{damage.__name__}.txt", through=2)

        def flipped(redis, key):
            data = bytearray(redis.command("GET", key))
            data[len(data) // 2] ^= 1
            redis.command("SET", key, bytes(data), "KEEPTTL")

        def truncated(redis, key):
            redis.command("SET", key, redis.command("GET", key)[:-7], "KEEPTTL")

        def missing(redis, key):
            redis.command("DEL", key)

        for damage in (flipped, truncated, missing):
            lie(damage)

    def out_of_memory(self, redis, _):
        redis.command("CONFIG", "SET", "maxmemory", "1")
        self.refresh_fails("maxmemory")
        redis.command("CONFIG", "SET", "maxmemory", "0")
        self.new_file_arrives("memory.txt")

    def emptied(self, redis, _):
        redis.command("FLUSHALL")
        wait_for(lambda: "--restore" in self.nodes[2].daemon.status()["datasets"][0]["trouble"], 40, "word that it was emptied")
        self.refresh_fails("--restore", node=1)
        self.nodes[1].daemon.larder("format", "shared", f"s3://{self.bucket}/p", "--restore")
        self.new_file_arrives("restored.txt", through=2)

    # ---- Sentinel

    def test_sentinel_with_a_primary_that_is_killed(self):
        servers = Sentinels(HUB)
        self.addCleanup(servers.close)
        self.start(servers.url() + "?timeout=5000")
        self.same_everywhere()
        wait_for(lambda: servers.replica.command("GET", "ds:{shared}:cur") == servers.primary.command("GET", "ds:{shared}:cur"), 20, "the replica")
        loaders = self.loaders()
        self.cold()
        servers.primary.kill()
        self.new_file_arrives("after-failover.txt", through=1)
        self.ended_well(loaders)
        self.assertEqual(servers.replica.command("ROLE")[0], b"master")
        self.same_everywhere()

    # ---- Cluster

    def test_a_cluster_whose_slot_moves(self):
        servers = Cluster(HUB)
        self.addCleanup(servers.close)
        self.start(servers.url() + "?timeout=5000")
        self.same_everywhere()
        loaders = self.loaders()
        self.cold()
        target = servers.move("ds:{shared}:cur", pause=0.05)
        self.new_file_arrives("after-move.txt", through=2)
        self.assertGreaterEqual(len(target.keys("ds:{shared}:*")), 5)
        self.ended_well(loaders)
        self.same_everywhere()


if __name__ == "__main__":
    unittest.main()
