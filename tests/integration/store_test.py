"""larderd and its object store: who waits for whom, what is fetched how often, what readers get from a failing or changing store.

A real S3 server (SeaweedFS) is behind tests/tools/fault_proxy.py, which counts requests and breaks those that it is told to.
"""
import base64
import os
import threading
import time
import unittest
import zlib

from harness import (PYTHON, ROOT, VENV, Daemon, MiB, LarderTest, Proxy, content, run_program, s3_environment, s3_server, scratch,
                     wait_for)

# Opens each path given and prints its SHA-256 or the name of the errno, then the seconds it took.
READ = """
import errno, hashlib, sys, time
for path in sys.argv[1:]:
    start = time.monotonic()
    try:
        with open(path, "rb") as f:
            what = hashlib.sha256(f.read()).hexdigest()
    except OSError as e:
        what = errno.errorcode[e.errno]
    print(what, "%.3f" % (time.monotonic() - start))
"""


def sha(data):
    import hashlib
    return hashlib.sha256(data).hexdigest()


class OnStore(LarderTest):
    @classmethod
    def setUpClass(cls):
        import s3_put
        cls.server = cls.enterClassContext(s3_server(cls.enterClassContext(scratch())))
        cls.client = s3_put.Client(cls.server.endpoint, cls.server.access_key, cls.server.secret_key)
        cls.client.make_bucket("bucket")
        cls.proxy = cls.enterClassContext(Proxy(cls.server.endpoint))

    def setUp(self):
        self.proxy.rules()
        self.proxy.latency(0)
        self.proxy.clear()

    def put(self, prefix, count, size=8000):
        """{relative name: content} of `count` objects below the prefix."""
        files = {f"{i % 4}/f{i:04}": content((prefix, i), size + i % 100) for i in range(count)}
        for name, data in files.items():
            self.client.put("bucket", f"{prefix}/{name}", data)
        return files

    def daemon(self, prefix, options=None, **config):
        daemon = self.enterContext(Daemon(env=s3_environment(self.server), **config))
        daemon.mount(f"s3://bucket/{prefix}", "/data/x", endpoint=self.proxy.endpoint, **(options or {}))
        self.proxy.clear()
        return daemon

    def gets(self):
        """{path: how often it was fetched}"""
        return {path[4:]: n for path, n in self.proxy.log()["paths"].items() if path.startswith("GET /bucket/") and path != "GET /bucket/"}

    def read(self, daemon, *names, timeout=120):
        """[(hash or errno, seconds)]"""
        result = run_program([PYTHON, "-c", READ, *(f"/data/x/{n}" for n in names)], daemon.preload_env(), timeout=timeout)
        self.assertEqual(result.returncode, 0, result.stderr)
        return [(line.split()[0], float(line.split()[1])) for line in result.stdout.decode().splitlines()]

    def read_one(self, daemon, name):
        return self.read(daemon, name)[0][0]


class Order(OnStore):
    """Demand and fill share the connections."""

    def test_demand_waits_for_no_fill(self):
        """What the user would lose: a program waits behind hundreds of GETs that nobody asked for."""
        files = self.put("order", 300)
        self.proxy.latency(300)
        daemon = self.daemon("order", {"max_connections": 8}, fill="eager")
        names = sorted(files)
        self.read_one(daemon, names[0])
        wait_for(lambda: self.proxy.log()["max_in_flight"] >= 6, what="fill with its connections in use")
        last = names[-1]
        before = self.gets()
        self.assertNotIn("/bucket/order/" + last, before)
        self.assertEqual(self.read_one(daemon, last), sha(files[last]))
        at_end = self.gets()
        # While the demand GET was under way no more than two turns of the seven other connections passed.
        self.assertLess(sum(at_end.values()) - sum(before.values()), 3 * 8)
        self.assertLessEqual(self.proxy.log()["max_in_flight"], 8)

    def test_fill_goes_on_after_kill_9_and_fetches_nothing_twice(self):
        files = self.put("resume", 400)
        self.proxy.latency(20)
        daemon = self.daemon("resume", {"max_connections": 8}, fill="eager")
        first = sorted(files)[0]
        self.read_one(daemon, first)
        wait_for(lambda: daemon.status()["mounts"][0]["cached_files"] > 100, what="a quarter of the fill")
        daemon.kill()
        before = self.gets()
        cached = sum(len(names) for folder, _, names in os.walk(daemon.cache_path()))
        daemon.start()
        # Nobody reads: the fill continues by itself.
        wait_for(lambda: daemon.status()["mounts"][0]["fill"]["state"] == "done", 60, "the end of the fill")
        status = daemon.status()["mounts"][0]
        self.assertEqual((status["cached_files"], status["fill"]["done"], status["fill"]["total"]), (400, 400, 400))
        twice = {p: n for p, n in self.gets().items() if n > 1}
        # Only what was on its way when the daemon was killed: at the store, or whole and waiting (10 ms) to be verified with others.
        self.assertLessEqual(len(twice), 16, twice)
        self.assertGreater(cached, 100)
        self.assertEqual(sum(self.gets().values()), 400 + len(twice))
        self.assertGreater(sum(before.values()), 100)

    def test_fill_stops_at_the_budget(self):
        self.put("budget", 300, 40_000)
        daemon = self.daemon("budget", fill="eager", cache_size="4MiB")
        self.read_one(daemon, "0/f0000")
        wait_for(lambda: daemon.status()["mounts"][0]["fill"]["state"] == "paused", 30, "the end of the room")
        # It pauses when the last room is assigned; objects that have room are still under way.
        wait_for(lambda: daemon.status()["mounts"][0]["cached_files"] > 50, 30, "what has the room")
        wait_for(lambda: daemon.status()["store"]["in_flight"] == 0, 30, "the end of the GETs")
        self.assertLessEqual(daemon.status()["cache"]["used"], 4 << 20)
        count = sum(self.gets().values())
        time.sleep(1.5)
        self.assertLessEqual(sum(self.gets().values()), count + 8, "a full cache goes on fetching")

    def test_warm_follows_a_list(self):
        files = self.put("listed", 60)
        daemon = self.daemon("listed", {"max_connections": 1})
        order = sorted(files, key=lambda n: sha(n.encode()))[:40]
        with scratch() as folder:
            path = os.path.join(folder, "list")
            with open(path, "w") as f:
                f.write("".join(f"/data/x/{n}\n" for n in order))
            daemon.larder("warm", "--jobs", "1", "--list", path)  # more start in this order, but may overtake each other
        fetched = [r["line"].split()[1] for r in self.proxy.log()["requests"]]
        self.assertEqual(fetched, ["/bucket/listed/" + n for n in order])


class Caps(OnStore):
    """Requests are counted at the store; durations are not compared, since a cap may always be slower."""

    def test_requests_a_second(self):
        files = self.put("rate", 60)
        daemon = self.daemon("rate", {"max_requests_per_second": 20})
        start = time.monotonic()
        daemon.larder("warm", "/data/x")
        seconds = time.monotonic() - start
        self.assertEqual(sum(self.gets().values()), len(files))
        self.assertLessEqual(len(files), 20 * (seconds + 0.2) + 2, f"{len(files)} requests in {seconds:.2f} s")

    def test_bandwidth_and_demand_before_prefetch(self):
        files = self.put("band", 80, 50_000)  # more than background work has connections: the last one is not asked for yet
        daemon = self.daemon("band", {"max_bandwidth": "500K"})
        start = time.monotonic()
        warm = threading.Thread(target=lambda: daemon.larder("warm", "/data/x"))
        warm.start()
        last = sorted(files)[-1]
        wait_for(lambda: len(self.gets()) >= 3, what="the first objects")
        self.assertEqual(self.read_one(daemon, last), sha(files[last]))
        position = list(self.gets()).index("/bucket/band/" + last)
        warm.join()
        seconds = time.monotonic() - start
        total = sum(map(len, files.values()))
        self.assertEqual(sum(self.gets().values()), len(files))
        self.assertLessEqual(total, 512_000 * (seconds + 0.2) + 2 * 50_100, f"{total} bytes in {seconds:.2f} s")
        self.assertLess(position, 40, "a program waited for what nobody asked for")

    def test_connections(self):
        self.put("conns", 40)
        self.proxy.latency(20)
        daemon = self.daemon("conns", {"max_connections": 3})
        daemon.larder("warm", "/data/x")
        self.assertLessEqual(self.proxy.log()["max_in_flight"], 3)

    def test_words_that_are_no_caps(self):
        daemon = self.enterContext(Daemon(env=s3_environment(self.server)))
        for name, value in (("max_bandwidth", "fast"), ("max_bandwidth", "0"), ("max_requests_per_second", "-1"), ("refresh_interval", "soon")):
            result = daemon.larder("mount", "s3://bucket/conns", "/data/y", "--option", f"endpoint={self.proxy.endpoint}", "--option",
                                   f"{name}={value}", check=False)
            self.assert_one_line(result, name, value)


class Slow(OnStore):
    def test_the_slowest_get_is_asked_for_again(self):
        """A request that hangs does not make a reader wait for a timeout; the object is counted once."""
        files = self.put("hedge", 5, 30_000)
        daemon = self.daemon("hedge", {"hedge_after_ms": 300, "stall_timeout_ms": 120_000})
        self.proxy.rules({"match": "GET /bucket/hedge/", "fault": "hold", "count": 1})
        what, _ = self.read(daemon, "0/f0000")[0]  # nobody lets the first GET go
        self.assertEqual(what, sha(files["0/f0000"]))
        self.assertEqual(self.gets(), {"/bucket/hedge/0/f0000": 2})
        status = daemon.status()
        self.assertEqual((status["store"]["hedges"], status["cache"]["files"], status["store"]["errors"]), (1, 1, 0))
        # The first GET is aborted, not left to run.
        wait_for(lambda: daemon.status()["store"]["in_flight"] == 0, 5, "the end of the loser")

    def test_a_hedge_is_no_mix_when_the_object_changes(self):
        self.put("hedge2", 1, 30_000)
        daemon = self.daemon("hedge2", {"hedge_after_ms": 300})
        new = content("new", 30_000)
        self.proxy.rules({"match": "GET /bucket/hedge2/", "fault": "delay", "delay": 3, "count": 1})
        results = []
        reader = threading.Thread(target=lambda: results.append(self.read_one(daemon, "0/f0000")))
        reader.start()
        wait_for(lambda: self.gets(), what="the first GET")
        self.client.put("bucket", "hedge2/0/f0000", new)
        reader.join()
        self.assertEqual(results, [sha(new)])


class Faults(OnStore):
    """For each fault: the exact bytes or the right errno, no reader stuck, no connection left, and a log line that names the fault."""

    CURED = [
        ("refused", {"fault": "refuse"}), ("reset in the middle", {"fault": "reset", "at": 5000}), ("reset at once", {"fault": "reset", "at": 0}),
        ("truncated", {"fault": "truncate", "at": 7000}), ("longer than announced", {"fault": "length", "by": -1}),
        ("shorter than announced", {"fault": "length", "by": 7}), ("a flipped bit", {"fault": "flip", "at": 4321}),
        *((f"HTTP {s}", {"fault": "status", "status": s}) for s in (500, 502, 503, 504, 429, 408)),
        ("slow drip", {"fault": "drip", "rate": 40_000}), ("a stall", {"fault": "stall", "at": 3000, "seconds": 30}),
        ("expired keys", {"fault": "status", "status": 400, "code": "RequestTimeout"})]

    def test_what_a_retry_can_cure(self):
        files = self.put("cure", len(self.CURED))
        daemon = self.daemon("cure", {"stall_timeout_ms": 1000})
        names = sorted(files)
        for (what, rule), name in zip(self.CURED, names):
            with self.subTest(what):
                self.proxy.rules({"match": f"GET /bucket/cure/{name}", "count": 1, **rule})
                self.assertEqual(self.read_one(daemon, name), sha(files[name]))
        self.quiet(daemon)

    def test_a_flipped_bit_in_an_object_that_comes_in_ranges(self):
        """No store has a checksum of a range. The ETag covers the whole: an MD5, or that of an upload in parts (boto3's, of 5 MiB)."""
        data = {name: content(name, 20 * MiB + 5) for name in ("single", "in-parts")}
        self.client.put("bucket", "ranges/single", data["single"])
        folder = self.enterContext(scratch())
        with open(os.path.join(folder, "in-parts"), "wb") as f:
            f.write(data["in-parts"])
        run_program([os.path.join(VENV, "bin", "python"), os.path.join(ROOT, "tests", "tools", "s3_sdk.py"), "put", self.server.endpoint, "bucket", "ranges/", folder],
                    s3_environment(self.server))
        daemon = self.daemon("ranges")
        for name, whole in data.items():
            with self.subTest(name):
                self.proxy.rules({"match": f"GET /bucket/ranges/{name}", "fault": "flip", "at": 123456, "count": 1})
                self.assertEqual(self.read_one(daemon, name), sha(whole))
                self.assertEqual(self.proxy.log()["faults"].get("flip"), 1)
                self.proxy.clear()
                daemon.larder("evict", "/data/x")
        self.proxy.rules({"match": "GET /bucket/ranges/single", "fault": "flip", "at": 123456})
        self.assertEqual(self.read(daemon, "single")[0][0], "EIO")
        self.proxy.rules()
        self.assertEqual(self.read_one(daemon, "single"), sha(data["single"]))

    def test_a_flipped_bit_in_chunks_that_make_a_whole(self):
        """Chunks are read before anything can be compared. Before the object counts as whole, it is compared with the CRC of a HEAD."""
        data = content("chunks", 20 * MiB + 5)
        self.client.put("bucket", "chunks/large", data)

        def crc(value):
            return {"match": "^HEAD /bucket/chunks/", "fault": "headers", "headers": {"x-amz-checksum-crc32": base64.b64encode(value.to_bytes(4, "big")).decode()}}
        daemon = self.daemon("chunks", lazy_threshold="4MiB", cache_size="128MiB")
        self.proxy.rules(crc(zlib.crc32(data)), {"match": "^GET /bucket/chunks/", "fault": "flip", "at": 12345, "count": 1})
        self.assertNotEqual(daemon.larder("warm", "/data/x/large", check=False).returncode, 0)
        self.assertIn("do not match the store's checksum; they are dropped", daemon.log_tail(50))
        self.assertEqual(daemon.status()["cache"]["files"], 0)
        self.assertEqual(self.read_one(daemon, "large"), sha(data))
        wait_for(lambda: daemon.status()["cache"]["files"] == 1, 20, "the whole file")
        daemon.larder("evict", "/data/x")
        self.proxy.rules(crc(zlib.crc32(data) ^ 1))
        for _ in range(5):  # the store itself is wrong: larderd does not fetch for ever
            daemon.larder("warm", "/data/x/large", check=False)
        self.assertIn("they stay unverified", daemon.log_tail(50))
        got = daemon.status()["store"]["bytes"]
        self.assertEqual(self.read_one(daemon, "large"), sha(data))
        self.assertEqual((daemon.status()["store"]["bytes"], daemon.status()["cache"]["files"]), (got, 0))

    def quiet(self, daemon):
        """No request and no connection is left behind."""
        wait_for(lambda: daemon.status()["store"]["in_flight"] == 0, 10, "the end of all requests")
        wait_for(lambda: self.proxy.log()["max_in_flight"] >= 0, 1)

    STAYS = [
        ("access denied", {"fault": "status", "status": 403, "code": "AccessDenied"}, "EACCES", "403"),
        # The bucket's list still has it, and goes on having it.
        ("gone", {"fault": "status", "status": 404, "code": "NoSuchKey"}, "ENOENT", None),
        ("storm of 503", {"fault": "status", "status": 503}, "EIO", "503"),
        ("storm of 500", {"fault": "status", "status": 500, "code": "InternalError"}, "EIO", "500"),
        ("storm of 429", {"fault": "status", "status": 429, "code": "TooManyRequests"}, "EIO", "429"),
        ("301 without a region", {"fault": "status", "status": 301, "code": "PermanentRedirect"}, "EIO", "301"),
        ("307 to elsewhere", {"fault": "status", "status": 307, "code": "TemporaryRedirect", "headers": {"Location": "http://127.0.0.1:9/"}}, "EIO", "307"),
        ("always flipped", {"fault": "flip", "at": 100}, "EIO", "checksum"),
        ("always refused", {"fault": "refuse"}, "EIO", "broken reply")]

    def test_what_no_retry_cures(self):
        files = self.put("stay", len(self.STAYS))
        daemon = self.daemon("stay", {"retries": 2, "stall_timeout_ms": 1000})
        for (what, rule, code, words), name in zip(self.STAYS, sorted(files)):
            with self.subTest(what):
                self.proxy.rules({"match": f"GET /bucket/stay/{name}", **rule})
                found, seconds = self.read(daemon, name)[0]
                self.assertEqual(found, code)
                self.assertLess(seconds, 60)
                with open(daemon.log) as f:
                    lines = [line for line in f if name in line and ("not fetched" in line or "changed" in line)]
                if words:
                    self.assertTrue(lines, f"no log line names {name}")
                    self.assertIn(words, lines[-1])
                    self.assertIn(f"s3://bucket/stay/{name}", lines[-1])
                    if rule["fault"] == "status":
                        self.assertIn("request id FAULT", lines[-1])
                self.proxy.rules()
                self.assertEqual(self.read_one(daemon, name), sha(files[name]), "the store is well again")
        self.quiet(daemon)

    def test_no_such_host(self):
        daemon = self.enterContext(Daemon(env=s3_environment(self.server)))
        start = time.monotonic()
        result = daemon.larder("mount", "s3://bucket/x", "/data/x", "--option", "endpoint=http://no-such-host.invalid:1", check=False)
        self.assert_one_line(result, "no-such-host.invalid")
        self.assertLess(time.monotonic() - start, 60)

    def test_a_wrong_clock_is_put_right(self):
        files = self.put("clock", 2)
        daemon = self.daemon("clock")
        self.proxy.rules({"match": "GET /bucket/clock/", "fault": "status", "status": 403, "code": "RequestTimeTooSkewed", "count": 1,
                          "headers": {"Date": "Mon, 05 Jan 2015 10:00:00 GMT"}},
                         {"match": "GET /bucket/clock/", "fault": "status", "status": 403, "code": "RequestTimeTooSkewed", "count": 1,
                          "headers": {"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())}})
        self.assertEqual(self.read_one(daemon, "0/f0000"), sha(files["0/f0000"]))

    def test_ten_thousand_reads_under_faults(self):
        """One reply in ten is broken, each in another way; every epoch reads everything again."""
        files = self.put("mixed", 500, 4000)
        daemon = self.daemon("mixed", {"stall_timeout_ms": 1000, "hedge_after_ms": 800})
        kinds = [{"fault": "refuse"}, {"fault": "reset", "at": 2000}, {"fault": "truncate", "at": 3000}, {"fault": "length", "by": 5},
                 {"fault": "flip", "at": 1234}, {"fault": "status", "status": 503}, {"fault": "status", "status": 500, "code": "InternalError"},
                 {"fault": "status", "status": 429}, {"fault": "drip", "rate": 20_000}, {"fault": "stall", "at": 1000, "seconds": 3}]
        self.proxy.rules(*({"match": "GET /bucket/mixed/", "probability": 0.011, **kind} for kind in kinds))
        expected = {f"/data/x/{n}": sha(d) for n, d in files.items()}
        epoch = """
import hashlib, json, os, random, sys
from concurrent.futures import ThreadPoolExecutor
paths = json.load(sys.stdin)
random.Random(sys.argv[1]).shuffle(paths)
def one(path):
    try:
        with open(path, "rb") as f: return path, hashlib.sha256(f.read()).hexdigest()
    except OSError as e: return path, str(e)
with ThreadPoolExecutor(16) as pool: print(json.dumps(dict(pool.map(one, paths))))
"""
        import json
        for n in range(20):
            daemon.larder("evict", "/data/x")
            result = run_program([PYTHON, "-c", epoch, str(n)], daemon.preload_env(), data=json.dumps(sorted(expected)).encode())
            self.assertEqual(result.returncode, 0, result.stderr)
            found = json.loads(result.stdout)
            wrong = {p: (w, expected[p]) for p, w in found.items() if w != expected[p]}
            self.assertEqual(wrong, {}, daemon.log_tail(200) if wrong else "")
        log = self.proxy.log()
        self.assertGreaterEqual(sum(self.gets().values()), 10_000)
        self.assertGreater(sum(log["faults"].values()), 500)
        self.assertGreater(min(log["faults"].get(k["fault"], 0) for k in kinds), 20, log["faults"])
        self.assertEqual(daemon.status()["store"]["errors"], 0)
        self.quiet(daemon)


class Changes(OnStore):
    """The bucket is the truth: readers get one version of an object, never a mix."""

    def test_replaced_and_deleted_objects(self):
        """S5: An object that changed in the bucket after it was listed is noticed when it is fetched (If-Match)."""
        files = self.put("change", 4)
        daemon = self.daemon("change")
        new = content("changed", 9000)
        self.client.put("bucket", "change/0/f0000", new)
        self.client.delete("bucket", "change/1/f0001")
        self.assertEqual(self.read_one(daemon, "0/f0000"), sha(new), "the new version, for whoever opens it now")
        self.assertEqual(self.read_one(daemon, "1/f0001"), "ENOENT")
        self.assertEqual(self.read_one(daemon, "2/f0002"), sha(files["2/f0002"]))

    def test_replaced_between_two_ranges(self):
        """A large object comes in parts. All are of one version, or the reader gets the other version whole."""
        old, new = content("old", 40 << 20), content("new", 40 << 20)
        self.client.put("bucket", "parts/large", old)
        daemon = self.daemon("parts", {"max_connections": 2, "hedge_after_ms": 60_000}, cache_size="512MiB")
        # The parts after the second reach the store when the new version is there.
        self.proxy.rules({"match": "GET /bucket/parts/", "skip": 2, "fault": "delay", "delay": 12, "count": 3})
        results = []
        reader = threading.Thread(target=lambda: results.append(self.read_one(daemon, "large")))
        reader.start()
        wait_for(lambda: sum(self.gets().values()) >= 3, what="the first parts")
        self.client.put("bucket", "parts/large", new)
        reader.join()
        self.assertIn(results[0], (sha(new), "ESTALE"))
        self.assertEqual(self.read_one(daemon, "large"), sha(new))

    def test_refresh_interval(self):
        """Changes in the bucket reach programs by themselves."""
        files = self.put("auto", 3)
        daemon = self.daemon("auto", {"refresh_interval": "1s"})
        before = daemon.status()["mounts"][0]["version"]
        self.assertEqual(self.read_one(daemon, "0/f0000"), sha(files["0/f0000"]))
        self.client.put("bucket", "auto/new", b"fresh")
        wait_for(lambda: self.read_one(daemon, "new") == sha(b"fresh"), 20, "the new object")
        self.assertGreater(daemon.status()["mounts"][0]["version"], before)
        self.assertEqual(self.gets().get("/bucket/auto/0/f0000"), 1, "what did not change stays cached")

    def test_format_keeps_a_dataset_without_its_secrets(self):
        files = self.put("kept", 2)
        secret = {"access_key": self.server.access_key, "secret_key": self.server.secret_key}
        daemon = self.enterContext(Daemon(env=s3_environment(self.server)))
        words = [w for k, v in {"endpoint": self.proxy.endpoint, "region": "eu-test-7", "addressing": "path", "max_connections": "5", "refresh_interval": "1h"}.items() for w in ("--option", f"{k}={v}")]
        for name, value in secret.items():
            result = daemon.larder("format", "kept", "s3://bucket/kept", *words, "--option", f"{name}={value}", check=False)
            self.assert_one_line(result, name)
            self.assertNotIn(value, result.stderr)
        daemon.larder("format", "kept", "s3://bucket/kept", *words)
        for folder, _, names in os.walk(daemon.config["state_dir"]):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    data = f.read()
                self.assertNotIn(self.server.secret_key.encode(), data, name)
        daemon.stop()
        daemon.start()
        daemon.larder("mount", "kept", "/data/x")
        self.assertEqual(self.read_one(daemon, "0/f0000"), sha(files["0/f0000"]))
        self.assertTrue(self.gets(), "the endpoint was not kept")


class Corruption(OnStore):
    def corrupt(self, daemon, count):
        """Flips a bit in `count` cache files behind the daemon's back."""
        done = []
        for folder, _, names in os.walk(daemon.cache_path()):
            for name in sorted(names):
                if len(name) == 32 and len(done) < count:
                    path = os.path.join(folder, name)
                    os.chmod(path, 0o600)
                    with open(path, "r+b") as f:
                        f.seek(1000)
                        byte = f.read(1)[0]
                        f.seek(1000)
                        f.write(bytes([byte ^ 1]))
                    os.chmod(path, 0o444)
                    done.append(path)
        self.assertEqual(len(done), count)

    def test_check_repair(self):
        files = self.put("rot", 20)
        daemon = self.daemon("rot")
        daemon.larder("warm", "/data/x")
        self.corrupt(daemon, 3)
        result = daemon.larder("check", "--repair", check=False)
        self.assertIn("3", result.stdout + result.stderr)
        self.assertEqual(sorted(self.gets().values()), [1] * 17 + [2] * 3)
        self.assertEqual([w for w, _ in self.read(daemon, *sorted(files))], [sha(files[n]) for n in sorted(files)])
        self.assertIn("20 files", daemon.larder("check").stdout)

    def test_the_scrub_finds_what_rots(self):
        files = self.put("scrub", 20)
        daemon = self.daemon("scrub", scrub_interval_s=1)
        daemon.larder("warm", "/data/x")
        self.corrupt(daemon, 2)
        wait_for(lambda: daemon.status()["mounts"][0]["cached_files"] == 18, 30, "the scrub")
        self.assertEqual([w for w, _ in self.read(daemon, *sorted(files))], [sha(files[n]) for n in sorted(files)])
        with open(daemon.log) as f:
            self.assertEqual(sum("is corrupt" in line for line in f), 2)


class Lists(OnStore):
    """A listing in parallel parts gives the same list."""

    def test_many_folders(self):
        import concurrent.futures

        import s3_put
        local = threading.local()

        def put(key):
            if not hasattr(local, "client"):
                local.client = s3_put.Client(self.server.endpoint, self.server.access_key, self.server.secret_key)
            local.client.put("bucket", "tree/" + key, b"x")
        keys = [f"train/n{c:04}/{i:05}.jpg" for c in range(18) for i in range(200)]
        keys += [f"train/n0001-more/{i:05}.jpg" for i in range(150)] + [f"val/{i:06}" for i in range(1400)] + ["a.txt", "train.txt", "train/index", "z"]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(put, keys))
        for options in ({"parallel_lists": "true"}, {"parallel_lists": "false"}, {"list_version": "1"}, {"list_version": "1", "parallel_lists": "false"}):
            daemon = self.daemon("tree", options)
            result = run_program(["find", "/data/x", "-type", "f", "-printf", "%P\n"], daemon.preload_env())
            self.assertEqual(sorted(result.stdout.decode().split()), sorted(keys), f"{options}")
            daemon.remove()


if __name__ == "__main__":
    unittest.main(verbosity=2)
