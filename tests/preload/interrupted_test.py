"""Calls that wait for larderd, left by siglongjmp; and programs that give up rights between open and read.

What the user would lose: an interpreter that jumps out of its signal handlers reads on at the wrong place, and runs out of descriptors.
A server that opens its files and then locks itself in reads nothing, or hangs.
"""
import os
import unittest

from harness import BUILD, Daemon, LarderTest, MiB, scratch

PROGRAM = os.path.join(BUILD, "interrupted")


class Interrupted(LarderTest):
    @classmethod
    def setUpClass(cls):
        cls.tree = cls.enterClassContext(scratch())
        with open(os.path.join(cls.tree, "large"), "wb") as f:
            for i in range(64):
                f.write(bytes([i + 1]) * MiB)
        with open(os.path.join(cls.tree, "small"), "wb") as f:
            f.write(b"small")

    def setUp(self):
        self.larder = Daemon(lazy_threshold="1MiB", wait_ms=600_000)
        self.addCleanup(self.larder.remove)
        self.larder.start()
        self.larder.mount("file://" + self.tree, "/larder-test/interrupted")

    def run_it(self, *words):
        result = self.larder.run(PROGRAM, *words, text=True, timeout=60)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.splitlines()

    def test_a_jump_leaves_nothing_behind(self):
        lines = self.run_it("jump", str(self.larder.process.pid), "/larder-test/interrupted/large", "/larder-test/interrupted/small")
        calls = ("read", "small reads", "readv", "pread", "sendfile", "open", "fopen")
        self.assertEqual(lines, [f"{call}: jumped, moved 0, descriptors 0, mappings 0" for call in calls])

    def restricted(self, how):
        self.larder.run("head", "-c", "1", "/larder-test/interrupted/large")  # its first chunk is there
        return self.run_it(how, "/larder-test/interrupted/large")

    def test_no_more_descriptors(self):
        self.assertEqual(self.restricted("limit"), ["there: 1", "not there: EMFILE"])

    def test_another_root(self):
        self.assertEqual(self.restricted("root"), ["there: 1", "not there: EIO"])

    def test_another_user(self):
        """The socket's folder is not for that user."""
        self.assertEqual(self.restricted("user"), ["there: 1", "not there: EACCES"])


if __name__ == "__main__":
    unittest.main()
