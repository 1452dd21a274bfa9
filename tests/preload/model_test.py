"""Random sequences of file calls, bare on a plain read-only folder and preloaded on a dataset, compared step by step.

    python3 tests/preload/model_test.py [--sequences N] [--seed FIRST]

What the user would lose: a program that makes two harmless calls in an order that no other test tries. A sequence is reproduced by its seed.
"""
import argparse
import difflib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

from harness import BUILD, Daemon, make_probe_tree
from harness.compat import settle

MODEL = os.path.join(BUILD, "model")
SEQUENCES = 10_000  # for each of the two kinds of mount point
FIRST = 1
PROCESSES = 2
BIND = ('if [ -n "$4" ]; then mount -t tmpfs none "$4" && mkdir -p "$2"; fi; mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && '
        'if [ -n "$4" ]; then mount -o remount,ro "$4"; fi && cd "$3" && shift 4 && exec "$@"')


class Model(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            raise unittest.SkipTest("needs mount namespaces (unshare -m) for the plain folder at the dataset's path")
        cls.tree = tempfile.mkdtemp(prefix="larder-model-", dir="/dev/shm")
        cls.addClassCleanup(shutil.rmtree, cls.tree, ignore_errors=True)
        make_probe_tree(cls.tree)
        settle(cls.tree)
        cls.base = tempfile.mkdtemp(prefix="larder-model-")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.larder = Daemon(fill="eager")
        cls.addClassCleanup(cls.larder.remove)
        cls.larder.start()
        cls.nowhere, cls.covered = cls.base + "/x/deeper/data", cls.base + "/covered/data"
        os.makedirs(cls.base + "/x")
        os.makedirs(cls.covered)
        with open(cls.covered + "/decoy", "w") as f:
            f.write("the disk below the mount")
        cls.larder.mount_named("nowhere", "file://" + cls.tree, cls.nowhere)
        cls.larder.mount_named("covered", "file://" + cls.tree, cls.covered)

    def links(self, mount):
        """A folder outside with links that lead into the tree, one that leads nowhere and one in a circle."""
        scratch = tempfile.mkdtemp(dir=self.base)
        for name, target in (("in", mount), ("ina", mount + "/a"), ("rel", "in/a"), ("file", mount + "/a/one"), ("dangling", mount + "/none"), ("loop", "loop")):
            os.symlink(target, os.path.join(scratch, name))
        return scratch

    def command(self, preload, mount, words):
        words = [MODEL, mount, *map(str, words)]
        if preload:
            return words
        return ["unshare", "-m", "sh", "-c", BIND, "sh", self.tree, mount, self.base, self.base + "/x" if mount == self.nowhere else "", *words]

    def start(self, preload, mount, scratch, first, count, *more):
        return subprocess.Popen(self.command(preload, mount, (scratch, int(mount == self.covered), first, count, *more)), env=self.larder.preload_env() if preload else self.larder.env, cwd=self.base,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")

    def run_all(self, preload, mount, scratch):
        """seed -> hash; several processes share the sequences, so that they run against each other."""
        share = SEQUENCES // PROCESSES
        started = [self.start(preload, mount, scratch, FIRST + i * share, share) for i in range(PROCESSES)]
        result = {}
        for process in started:
            out, err = process.communicate(timeout=300)
            self.assertEqual((process.returncode, err), (0, ""), f"after {len(result)} sequences: {out.splitlines()[-1:]}")
            result.update(line.split() for line in out.splitlines())
        self.assertEqual(len(result), share * PROCESSES)
        return result

    def steps(self, preload, mount, scratch, seed):
        out, err = self.start(preload, mount, scratch, seed, 1, "print").communicate(timeout=60)
        return (out + err).splitlines()

    def compare(self, mount):
        scratch = self.links(mount)
        done = threading.Event()

        def evict():  # so that cold and warm files take turns
            while mount == self.nowhere and not done.wait(0.2):
                self.larder.larder("evict", mount, check=False)
        evictor = threading.Thread(target=evict)
        evictor.start()
        try:
            ours = self.run_all(True, mount, scratch)
        finally:
            done.set()
            evictor.join()
        bare = self.run_all(False, mount, scratch)
        self.assertEqual(sorted(os.listdir(scratch)), sorted(["in", "ina", "rel", "file", "dangling", "loop"]))
        self.assertEqual(os.listdir(self.covered), ["decoy"])
        self.assertEqual(os.listdir(self.base + "/x"), [])
        different = sorted((int(seed) for seed in bare if bare[seed] != ours[seed]))
        report = []
        for seed in different[:4]:
            lines = difflib.unified_diff(self.steps(False, mount, scratch, seed), self.steps(True, mount, scratch, seed), "plain", "dataset", lineterm="", n=6)
            report += [f"seed {seed}:"] + list(lines)[:40]
        self.assertFalse(different, f"{len(different)} sequences differ\n" + "\n".join(report))

    def test_a_mount_point_that_is_not_on_disk(self):
        self.compare(self.nowhere)

    def test_a_mount_point_that_covers_a_folder(self):
        self.compare(self.covered)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--seed", type=int, default=FIRST)
    args, rest = parser.parse_known_args()
    SEQUENCES, FIRST = args.sequences, args.seed
    unittest.main(argv=sys.argv[:1] + rest)
