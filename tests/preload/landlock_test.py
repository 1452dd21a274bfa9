"""Programs that restrict themselves with Landlock (xz 5.8, sandboxes around whole programs).

What the user would lose: files that were opened before the rules cannot be read after, and a rule for the mount's path allows nothing.
"""
import os
import unittest

from harness import BUILD, Daemon, LarderTest, MiB, scratch

PROGRAM = os.path.join(BUILD, "landlocked")
ROOT = "/larder-test/locked/data"
SYSTEM = "/usr,/lib,/lib64,/bin,/etc,/proc"


class Landlock(LarderTest):
    def setUp(self):
        self.tree = self.enterContext(scratch())
        os.mkdir(os.path.join(self.tree, "sub"))
        for name in ("warm", "sub/cold"):
            with open(os.path.join(self.tree, name), "wb") as f:
                f.write(b"contents")
        for i in range(3):
            with open(os.path.join(self.tree, f"large{i}"), "wb") as f:
                f.write(b"LARGE" * MiB)
        self.larder = Daemon(lazy_threshold="1MiB")
        self.addCleanup(self.larder.remove)
        self.larder.start()
        self.larder.mount("file://" + self.tree, ROOT)
        self.larder.larder("warm", ROOT + "/warm")

    def enterContext(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def run_it(self, allowed, before, after, *program):
        result = self.larder.run(PROGRAM, allowed, before, after, *program, text=True)
        if result.returncode == 77:
            self.skipTest("no Landlock here")
        self.assertEqual(result.stderr, "")
        return result.stdout.splitlines()

    def test_a_rule_for_a_mount(self):
        """S30: a rule that allows reading a mount's path, or a folder above or inside a mount, allows reading the datasets"""
        for folder in (ROOT, ROOT + "/sub", "/larder-test/locked", "/larder-test"):
            with self.subTest(folder):
                self.assertEqual(self.run_it(folder, "-", ROOT + "/warm"), ["after: contents"])
        self.assertEqual(self.run_it(ROOT, ROOT + "/large0", ROOT + "/sub/cold"), ["before: LARGELAR", "after: contents"])
        self.assertEqual(self.run_it(ROOT, "-", ROOT + "/large1"), ["after: LARGELAR"])

    def test_no_rule_for_it(self):
        self.assertEqual(self.run_it("/usr", "-", ROOT + "/warm"), ["after: EACCES"])

    def test_opened_before(self):
        """S30: A large object that was opened before the rules is read on"""
        self.assertEqual(self.run_it("/usr", ROOT + "/large0", ROOT + "/warm")[0], "before: LARGELAR")

    def test_a_program_that_is_started_under_the_rules(self):
        got = self.run_it(f"{SYSTEM},{BUILD},{ROOT}", "-", ROOT + "/warm", "/bin/cat")
        self.assertEqual(got, ["after: contents", "contents"])


MANY = """
import ctypes, os, sys
libc, fds = ctypes.CDLL(None), [os.open(f"{sys.argv[1]}/{i}", os.O_RDONLY) for i in range(300)]
class Attr(ctypes.Structure): _fields_ = [("fs", ctypes.c_uint64)]
rules = libc.syscall(444, ctypes.byref(Attr(4 | 8)), 8, 0)
if rules < 0: sys.exit(77)
libc.prctl(38, 1, 0, 0, 0)
if libc.syscall(446, rules, 0): sys.exit(77)
print(sum(os.pread(fd, 2, 10) == b"AB" for fd in fds))
"""


class ManyObjects(LarderTest):
    def test_more_objects_than_a_process_keeps_open(self):
        """S30: larderd opens its files where the program may not."""
        with scratch() as tree, Daemon(lazy_threshold=65536, cache_size="512MiB") as larder:
            for i in range(300):
                with open(os.path.join(tree, str(i)), "wb") as f:
                    f.write(b"AB" * 50_000)
            larder.mount("file://" + tree, "/larder-test/many")
            result = larder.run("python3", "-c", MANY, "/larder-test/many", text=True)
            if result.returncode == 77:
                self.skipTest("no Landlock here")
            self.assertEqual((result.stdout, result.stderr), ("300\n", ""))


if __name__ == "__main__":
    unittest.main()
