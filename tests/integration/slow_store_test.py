"""Stores that are slow, stall or hang: what waits, for how long, and whom it concerns (docs/semantics.md, S2a)."""
import threading
import time
import unittest

from harness import PYTHON, content, run_program, wait_for
from integration import store_test
from integration.store_test import sha

MiB = 1 << 20
# argv: path, how. Prints the SHA-256 of what was read, or the name of the errno.
READ = """
import errno, hashlib, mmap, os, sys
path, how = sys.argv[1:]
try:
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    data = mmap.mmap(fd, size, prot=mmap.PROT_READ)[:] if how == "map" else b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
    print(hashlib.sha256(data).hexdigest())
except OSError as e:
    print(errno.errorcode[e.errno])
"""


class Reader(threading.Thread):
    """A program that reads one file; `found` afterwards."""

    def __init__(self, daemon, path, how="read"):
        super().__init__()
        self.command, self.env, self.found = [PYTHON, "-c", READ, path, how], daemon.preload_env(), None
        self.start()

    def run(self):
        result = run_program(self.command, self.env, timeout=240)
        self.found = result.stdout.decode().strip() or result.stderr.decode()[-300:]

    def result(self):
        self.join()
        return self.found


class Lasting(store_test.OnStore):
    """S2a: An open or a read lasts as long as its transfer moves, however slow the store is."""

    WAIT = 1.0  # wait_ms, in seconds: what transfers used to end by
    MORE_THAN_THAT = 3.5  # and than the least silence that a client bears

    def put_one(self, prefix, size):
        data = content((prefix, 0), size)
        self.client.put("bucket", f"{prefix}/f", data)
        return data

    def held_for_longer_than_wait_ms(self, prefix, how, **config):
        data = self.put_one(prefix, 3 * MiB)
        daemon = self.daemon(prefix, {"hedge_after_ms": 600000, "stall_timeout_ms": 100000}, wait_ms=int(self.WAIT * 1000), **config)
        self.proxy.rules({"match": f"GET /bucket/{prefix}/f", "fault": "hold", "count": 1})
        reader = Reader(daemon, "/data/x/f", how)
        self.proxy.wait_held()
        time.sleep(self.MORE_THAN_THAT)
        self.proxy.release()
        self.assertEqual(reader.result(), sha(data), daemon.log_tail())

    def test_a_file(self):
        self.held_for_longer_than_wait_ms("whole", "read")

    def test_a_chunk_of_a_large_object(self):
        self.held_for_longer_than_wait_ms("chunk", "read", lazy_threshold="1MiB")

    def test_a_page_of_a_mapping(self):
        self.held_for_longer_than_wait_ms("page", "map", lazy_threshold="1MiB")

    def test_retries_are_made_however_long_they_take(self):
        """Each attempt stalls for longer than wait_ms, and the last that `retries` allows brings it."""
        data = self.put_one("retries", 50_000)
        daemon = self.daemon("retries", {"retries": 4, "stall_timeout_ms": 1500, "hedge_after_ms": 600000}, wait_ms=int(self.WAIT * 1000))
        self.proxy.rules({"match": "GET /bucket/retries/f", "fault": "stall", "at": 0, "seconds": 60, "count": 4})
        self.assertEqual(Reader(daemon, "/data/x/f").result(), sha(data), daemon.log_tail())
        self.assertEqual(self.gets(), {"/bucket/retries/f": 5})

    def test_a_store_that_sends_next_to_nothing_has_stalled(self):
        """A byte now and then keeps a connection open and moves nothing: other attempts, and then EIO."""
        self.put_one("drip", 50_000)
        daemon = self.daemon("drip", {"retries": 1, "stall_timeout_ms": 1500, "hedge_after_ms": 600000})
        self.proxy.rules({"match": "GET /bucket/drip/f", "fault": "drip", "rate": 10})
        self.assertEqual(Reader(daemon, "/data/x/f").result(), "EIO")
        self.assertEqual(self.gets(), {"/bucket/drip/f": 2})
        self.assertIn("stall_timeout_ms", daemon.log_text())

    def test_a_slow_store_has_not_stalled(self):
        data = self.put_one("slow", 40_000)
        daemon = self.daemon("slow", {"retries": 0, "stall_timeout_ms": 1500, "hedge_after_ms": 600000}, wait_ms=int(self.WAIT * 1000))
        self.proxy.rules({"match": "GET /bucket/slow/f", "fault": "drip", "rate": 8000})
        self.assertEqual(Reader(daemon, "/data/x/f").result(), sha(data), daemon.log_tail())

    def test_a_listing_at_next_to_no_speed_ends(self):
        self.put_one("list", 100)
        daemon = self.daemon("list", {"retries": 0, "stall_timeout_ms": 1500})
        self.proxy.rules({"match": r"GET /bucket/?\?", "fault": "drip", "rate": 10})
        name = daemon.status()["datasets"][0]["name"]
        result = daemon.larder("refresh", name, check=False)
        self.assert_one_line(result, "stall_timeout_ms")


class Neighbours(store_test.OnStore):
    """One store's trouble is its own: while it hangs, another dataset is read, listed and mounted as ever."""

    READERS = 128
    # Threads of one program, each of which waits for a file of its own.
    WAIT = """
import sys, threading
def read(path):
    try:
        open(path, "rb").read()
    except OSError:
        pass
threads = [threading.Thread(target=read, args=(p,)) for p in sys.argv[1:]]
for t in threads: t.start()
for t in threads: t.join()
"""

    def two(self, name, count, size, **config):
        """A daemon with the files of a store that hangs, and those of one that is well."""
        ill, well = self.put(name + "-ill", count, size), self.put(name + "-well", 6, size)
        daemon = self.daemon(name + "-ill", {"stall_timeout_ms": 600000, "hedge_after_ms": 600000, "max_connections": 200}, **config)
        daemon.mount(f"s3://bucket/{name}-well", "/data/y", endpoint=self.proxy.endpoint)
        self.proxy.rules({"match": f"GET /bucket/{name}-ill/", "fault": "hold"})
        return daemon, ill, well

    def wait_for_all(self, daemon, paths):
        """A program that waits for all of them, once the store has been asked as often as it ever is at once."""
        waiting = threading.Thread(target=run_program, args=([PYTHON, "-c", self.WAIT, *paths], daemon.preload_env()), kwargs={"timeout": 240})
        waiting.start()
        self.addCleanup(waiting.join)
        self.addCleanup(self.proxy.release)
        self.addCleanup(self.proxy.rules)

    def test_readers_of_a_store_that_hangs_leave_connections_to_others(self):
        daemon, ill, well = self.two("flights", self.READERS, 3000)
        self.wait_for_all(daemon, [f"/data/x/{n}" for n in ill])
        self.proxy.wait_held(32)  # what a store gets at once as long as none of its GETs succeeds
        wait_for(lambda: daemon.status()["store"]["in_flight"] + daemon.status()["store"]["queued"] >= 108, 30, "all connections taken")
        for name, data in well.items():
            self.assertEqual(Reader(daemon, f"/data/y/{name}").result(), sha(data), daemon.log_tail())

    def test_chunks_of_a_store_that_hangs_leave_connections_to_others(self):
        daemon, ill, well = self.two("chunks", 20, 100_000, lazy_threshold="64KiB", connections=12)
        self.wait_for_all(daemon, [f"/data/x/{n}" for n in ill])
        self.proxy.wait_held(8)  # two thirds of the connections are for chunks
        for name, data in well.items():
            self.assertEqual(Reader(daemon, f"/data/y/{name}").result(), sha(data), daemon.log_tail())

    def test_listings_that_hang_leave_threads_to_others(self):
        """More of them than larderd once had threads for; each follows from a changed object, as the next one does."""
        hanging = [f"relist-{i}" for i in range(9)]
        for prefix in (*hanging, "relist-well"):
            self.client.put("bucket", f"{prefix}/f", b"old " * 100)
        daemon = self.enterContext(store_test.Daemon(env=store_test.s3_environment(self.server), wait_ms=4000))
        for prefix in (*hanging, "relist-well"):
            daemon.mount(f"s3://bucket/{prefix}", f"/data/{prefix}", endpoint=self.proxy.endpoint, stall_timeout_ms=600000)
            self.client.put("bucket", f"{prefix}/f", b"new " * 100)
        self.proxy.rules({"match": r"GET /bucket/?\?.*prefix=relist-\d", "fault": "hold"})
        self.wait_for_all(daemon, [f"/data/{prefix}/f" for prefix in hanging])
        self.proxy.wait_held(len(hanging))
        self.assertEqual(Reader(daemon, "/data/relist-well/f").result(), sha(b"new " * 100), daemon.log_tail())
        # Nor do they hold the readers of their own datasets for ever.
        self.assertEqual(Reader(daemon, "/data/relist-0/f").result(), "EIO")

    def test_a_mount_whose_source_hangs_keeps_no_other_from_being_served(self):
        self.put("start-ill", 2)
        files = self.put("start-well", 2)
        daemon = store_test.Daemon(env=store_test.s3_environment(self.server))
        self.addCleanup(daemon.remove)
        plain = daemon.write_config

        def with_mounts():
            path = plain()
            with open(path, "a") as f:
                f.write(f'[store]\nendpoint = "{self.proxy.endpoint}"\nstall_timeout_ms = 600000\n')
                f.writelines(f'[[mount]]\npath = "/data/{n}"\nsource = "s3://bucket/start-{n}"\n' for n in ("ill", "well"))
            return path
        daemon.write_config = with_mounts
        self.proxy.rules({"match": r"GET /bucket/?\?.*prefix=start-ill", "fault": "hold"})
        daemon.start()
        name, data = next(iter(files.items()))
        self.assertEqual(Reader(daemon, f"/data/well/{name}").result(), sha(data), daemon.log_tail())
        self.assertEqual([m["path"] for m in daemon.status()["waiting_mounts"]], ["/data/ill"])
        self.proxy.release()
        wait_for(lambda: not daemon.status()["waiting_mounts"], 20, "the mount when its source answers")
        self.proxy.rules()


if __name__ == "__main__":
    unittest.main()
