"""Data is written and sent from mappings of large objects, by a user without CAP_SYS_PTRACE too.

What the user would lose: safetensors, pyarrow, `save_to_disk` and others write from a mapping, and get EFAULT, in most containers.
"""
import os
import random
import subprocess
import unittest

from harness import BUILD, Daemon, LarderTest, MiB, scratch

PROGRAM = os.path.join(BUILD, "probe_sends")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all")


class Sends(LarderTest):
    @classmethod
    def setUpClass(cls):
        cls.tree = cls.enterClassContext(scratch())
        cls.plain = os.path.join(cls.tree, "large")
        with open(cls.plain, "wb") as f:
            f.write(random.Random(3).randbytes(64 * MiB))
        os.chmod(cls.tree, 0o755)
        cls.bare = subprocess.run([PROGRAM, cls.plain], capture_output=True, text=True, check=True, timeout=60).stdout

    def expect_same(self, cache_size, as_user=()):
        with Daemon(lazy_threshold="1MiB", cache_size=cache_size, reserve="16MiB") as larder:
            larder.mount("file://" + self.tree, "/larder-test/sends")
            for folder in (larder.work, larder.cache):
                os.chmod(folder, 0o755)
            result = larder.run(*as_user, PROGRAM, "/larder-test/sends/large", text=True)
            self.assertEqual((result.returncode, result.stderr), (0, ""), larder.log_tail())
            self.assertEqual(result.stdout.splitlines(), self.bare.splitlines())

    def test_the_kernel_waits_for_pages(self):
        self.expect_same("256MiB")

    def test_it_cannot(self):
        """S25: such a call is made again after the page was touched"""
        with open("/proc/sys/vm/unprivileged_userfaultfd") as f:
            if f.read().strip() != "0":
                self.skipTest("vm.unprivileged_userfaultfd lets everybody's kernel faults wait")
        self.expect_same("256MiB", NOBODY)

    def test_whole_mappings(self):
        """S25: With `LARDER_MAPPINGS=whole`, `mmap` makes the object whole first, whatever the kernel allows."""
        with Daemon(lazy_threshold="1MiB", cache_size="256MiB") as larder:
            larder.mount("file://" + self.tree, "/larder-test/sends")
            words = ("env", "LARDER_MAPPINGS=whole", PROGRAM, "/larder-test/sends/large")
            self.assertEqual(larder.run(*words, text=True).stdout.splitlines(), self.bare.splitlines())
            self.assertEqual(larder.status()["cache"]["files"], 1)

    def test_it_cannot_and_pages_are_evicted(self):
        self.expect_same("32MiB", NOBODY)


if __name__ == "__main__":
    unittest.main()
