#!/usr/bin/env python3
"""Bytes from outside never crash a parser: every fuzz target runs over its seeds and the same mutations of them each time.
`make fuzz` looks for new ones."""
import glob
import os
import subprocess
import unittest

from harness import BUILD

HERE = os.path.dirname(os.path.abspath(__file__))


def run(name, *args):
    return subprocess.run([os.path.join(BUILD, "replay", name), *args], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


class ReplayTest(unittest.TestCase):
    def test_every_target_holds(self):
        names = sorted(os.path.splitext(os.path.basename(p))[0] for p in glob.glob(os.path.join(HERE, "*.cc")))
        self.assertIn("segment", names)
        for name in names:
            with self.subTest(name):
                result = run(name)
                self.assertEqual(result.returncode, 0, f"build/replay/{name}: the input was {result.stderr[-3000:]}")
                self.assertIn("inputs", result.stdout)

    def test_a_planted_bug_is_found(self):
        result = run("planted")
        self.assertLess(result.returncode, 0)
        self.assertTrue(result.stderr.startswith("\\x62\\x75"), result.stderr[:100])


if __name__ == "__main__":
    unittest.main()
