"""S1: A program gets the object's bytes or an errno. Two datasets on stores in trouble, random reads, evictions, refreshes, kill -9.

    python3 tests/run.py tests/preload/store_model_test.py                    some seconds, as in make test
    PYTHONPATH=tests:tests/tools python3 tests/preload/store_model_test.py --steps 1000000 [--seed N]      a million steps
    LARDER_SOAK=1 (make soak)                                                 a hundred million

The stores (tests/preload/model_store.cc) hang, cut, lie, refuse (403, 404, 412, 429, 500, 503), crawl and change objects, as a seed says.
Programs (tests/preload/store_model.cc) know which bytes and which errnos may be. What the user would lose: a training run on wrong bytes.
"""
import argparse
import os
import random
import subprocess
import sys
import time
import unittest
import urllib.request

from harness import BUILD, Daemon, LarderTest, scratch

SOAK = os.environ.get("LARDER_SOAK", "") not in ("", "0")
STEPS = 100_000_000 if SOAK else 60_000
SEED = 1
READERS = 3
TROUBLE = 40  # percent of the requests
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "eu-west-1"}
OPTIONS = {"stall_timeout_ms": 300, "connect_timeout_ms": 1000, "retries": 2, "hedge_after_ms": 150}


class Store:
    """model_store, on a port of its own."""

    def __init__(self, versions, seed):
        self.process = subprocess.Popen([os.path.join(BUILD, "model_store"), versions, str(seed), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def trouble(self, percent):
        request = urllib.request.Request(f"{self.endpoint}/-/percent/{percent}", method="PUT")
        urllib.request.urlopen(request).close()

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)


class StoreModel(LarderTest):
    def setUp(self):
        self.folder = self.enterContext(scratch())
        self.versions = os.path.join(self.folder, "versions")
        self.store = Store(self.versions, SEED)
        self.addCleanup(self.store.close)
        # Half of what the datasets have fits.
        self.daemon = self.enterContext(Daemon(env=KEYS, cache_size="12MiB", reserve="8MiB", lazy_threshold="512KiB", wait_ms=3000, fill="siblings", log_level="warn"))
        for name in ("a", "b"):
            self.daemon.mount(f"s3://model/{name}", f"/data/{name}", endpoint=self.store.endpoint, **OPTIONS)
        self.names = [d["name"] for d in self.daemon.status()["datasets"]]

    def program(self, *words):
        return subprocess.Popen([os.path.join(BUILD, "store_model"), self.versions, "/data/a", "/data/b", *map(str, words)], env=self.daemon.preload_env(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def disturb(self, rng):
        """Something that happens to a larderd in service."""
        what = rng.choice(("evict", "evict", "refresh", "refresh", "kill", "check", "nothing"))
        if what == "kill":
            self.daemon.kill()
            time.sleep(rng.random() / 2)
            self.daemon.start()
        elif what == "evict":
            self.daemon.larder("evict", rng.choice(("/data/a", "/data/b", f"/data/a/d{rng.randrange(5)}")), check=False)
        elif what == "refresh":
            self.daemon.larder("refresh", rng.choice(self.names), check=False)
        elif what == "check":
            self.daemon.larder("check", check=False)
        return what

    def test_two_datasets_on_stores_in_trouble(self):
        self.store.trouble(TROUBLE)
        readers = [self.program(SEED * READERS + i, STEPS // READERS) for i in range(READERS)]
        self.addCleanup(lambda: [p.kill() for p in readers if p.poll() is None])
        rng, done = random.Random(SEED), []
        while all(p.poll() is None for p in readers):
            time.sleep(0.1 + rng.random() * 0.7)
            done.append(self.disturb(rng))
        for p in readers:
            out, err = p.communicate(timeout=None if SOAK or STEPS > 1_000_000 else 300)
            self.assertEqual((p.returncode, err), (0, ""), f"seed {SEED}\n{out}\n{self.daemon.log_tail(12)}")
            print(out, end="", file=sys.stderr)
        print({what: done.count(what) for what in sorted(set(done))}, self.daemon.status()["store"], file=sys.stderr)
        self.all_is_well_again()

    def all_is_well_again(self):
        """Nothing of the trouble stays."""
        self.store.trouble(0)
        time.sleep(2)  # what the store holds back ends
        for name in self.names:
            self.daemon.larder("refresh", name)
        out, err = self.program("final").communicate(timeout=120)
        self.assertEqual((out, err), ("everything is right\n", ""), self.daemon.log_tail(12))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=SEED)
    args, rest = parser.parse_known_args()
    STEPS, SEED = args.steps, args.seed
    unittest.main(argv=sys.argv[:1] + rest)
