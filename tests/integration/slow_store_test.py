"""Stores that are slow, stall or hang: what waits, for how long, and whom it concerns (docs/semantics.md, S2a)."""
import threading
import time
import unittest

from harness import PYTHON, content, run_program
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


if __name__ == "__main__":
    unittest.main()
