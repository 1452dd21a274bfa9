"""A program on a dataset gets what it gets on a read-only local directory: result, errno, content, side effects."""
import difflib
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BUILD, ROOT, Daemon, make_probe_tree

PROBE, TWINS, FILES = (os.path.join(BUILD, name) for name in ("probe", "probe_twins", "probe_files"))
SENDS, LIBRARIES = os.path.join(BUILD, "probe_sends"), os.path.join(BUILD, "probe_libraries")  # have tests of their own
# A read-only bind mount in a mount namespace of its own is the plain directory to compare with.
READ_ONLY = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'


def libc():
    loaded = subprocess.run(["ldd", PROBE], check=True, capture_output=True, text=True).stdout
    return re.search(r"libc\.so\.6 => (\S+)", loaded).group(1)


class Differential(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix="larder-plain-", dir="/dev/shm")
        cls.tree = os.path.join(cls.base, "tree")
        cls.plain = os.path.join(cls.base, "plain")
        os.makedirs(cls.tree)
        os.makedirs(cls.plain)
        make_probe_tree(cls.tree)
        with open(os.path.join(cls.tree, "words"), "wb") as f:  # text of several bytes a letter, then bytes that are none
            f.write("".join(f"{i} \u00e9\u20ac\U0001f642 line {i * 7}\n" for i in range(9000)).encode() + b"bad \xff\xfe byte\n")
        os.chmod(f.name, 0o444)
        cls.larder = Daemon(fill="eager")
        cls.larder.start()
        # One mount where nothing is on disk, one that covers an existing folder.
        cls.nowhere = "/larder-test-nowhere/deeper/data"
        cls.covered = os.path.join(cls.base, "covered")
        os.makedirs(cls.covered)
        with open(os.path.join(cls.covered, "hidden"), "w") as f:
            f.write("must not be seen")
        cls.larder.mount_named("tree", "file://" + cls.tree, cls.nowhere)
        cls.larder.mount_named("again", "file://" + cls.tree, cls.covered)

    @classmethod
    def tearDownClass(cls):
        cls.larder.remove()
        shutil.rmtree(cls.base, ignore_errors=True)

    def bare(self, *command):
        return subprocess.run(["unshare", "-m", "sh", "-c", READ_ONLY, "sh", self.tree, self.plain, *command],
                              capture_output=True, text=True, errors="surrogateescape", timeout=120)

    def compare(self, where, part, larder=None):
        program = {"twins": TWINS, "files": FILES}.get(part, PROBE)
        a = self.bare(program, self.plain, part)
        b = (larder or self.larder).run(program, where, part, text=True, errors="surrogateescape")
        self.assertEqual(a.returncode, 0, a.stderr)
        # Shells that the probe starts print the tree's name too.
        left, right = a.stdout.replace(self.plain, "$R").splitlines(), b.stdout.replace(where, "$R").splitlines()
        lines = list(difflib.unified_diff(left, right, "plain", "dataset", lineterm="", n=2))
        self.assertEqual(b.returncode, 0, b.stderr)
        self.assertGreater(len(left), 20)
        self.assertFalse(lines, "\n".join(lines[:80]))


def add(part):
    for where in ("nowhere", "covered"):
        def test(self, where=where):
            self.compare(getattr(self, where), part)
        setattr(Differential, f"test_{part}_{where}", test)


PARTS = ("stats", "opens", "reads", "directories", "cwd", "links", "writes", "twins", "files")
for name in PARTS:
    add(name)


class LazyDifferential(unittest.TestCase):
    """The same where a/big is a lazy object: to the kernel its descriptor is a directory, to a program it is a file."""

    setUpClass = Differential.__dict__["setUpClass"]
    tearDownClass = Differential.__dict__["tearDownClass"]
    bare, compare = Differential.bare, Differential.compare

    def test_every_part(self):
        for part in PARTS:
            with self.subTest(part), Daemon(lazy_threshold=65536) as larder:
                larder.mount("file://" + self.tree, self.nowhere)
                self.compare(self.nowhere, part, larder)


class Coverage(unittest.TestCase):
    """Every intercepted function is compared, and every libc function that takes a path is intercepted or excused."""

    def symbols(self, *arguments):
        out = subprocess.run(["nm", "-D", *arguments], capture_output=True, text=True, check=True).stdout
        return {line.split()[-1].split("@")[0] for line in out.splitlines() if line.split()}

    def test_every_intercepted_function_has_a_probe(self):
        with open(os.path.join(ROOT, "preload", "base", "symbols.def")) as f:
            listed = set(re.findall(r"^SYM\([^,]*, (\w+),", f.read(), re.M))
        provided = self.symbols("--defined-only", libc())  # a newer glibc's functions are not here to be called
        called = self.symbols("-u", PROBE) | self.symbols("-u", TWINS)
        called |= self.symbols("-u", FILES) | self.symbols("-u", SENDS) | self.symbols("-u", LIBRARIES)
        called |= self.symbols("-u", os.path.join(BUILD, "filtered"))
        self.assertGreater(len(listed & provided), 180)
        self.assertEqual(sorted(listed & provided - called), [])


class Above(unittest.TestCase):
    """Folders above a mount point show it, whether they are on disk or not."""

    setUpClass = Differential.__dict__["setUpClass"]
    tearDownClass = Differential.__dict__["tearDownClass"]

    def out(self, *command):
        r = self.larder.run(*command, text=True)
        self.assertEqual((r.returncode, r.stderr), (0, ""), command)
        return r.stdout

    def test_a_folder_that_is_not_on_disk(self):
        self.assertEqual(self.out("ls", "/larder-test-nowhere"), "deeper\n")
        self.assertEqual(self.out("find", "/larder-test-nowhere", "-maxdepth", "2"),
                         "/larder-test-nowhere\n/larder-test-nowhere/deeper\n/larder-test-nowhere/deeper/data\n")
        self.assertEqual(self.out("sh", "-c", "cd /larder-test-nowhere/deeper && cat data/a/one"), "x")
        self.assertIn("larder-test-nowhere", self.out("ls", "/").split())

    def test_a_folder_on_disk(self):
        self.assertEqual(sorted(self.out("ls", self.base).split()), ["covered", "plain", "tree"])
        found = self.out("find", self.base, "-name", "leaf").split()
        self.assertIn(os.path.join(self.covered, "a/b/deep/leaf"), found)
        self.assertIn(os.path.join(self.tree, "a/b/deep/leaf"), found)

    def test_a_mount_covers_what_is_on_disk(self):
        self.assertNotIn("hidden", self.out("ls", self.covered).split())
        self.assertNotEqual(self.larder.run("cat", self.covered + "/hidden").returncode, 0)
        self.assertEqual(self.out("sh", "-c", f"cd {self.base} && cat covered/a/one && cat ./covered/../covered/a/one"), "xx")


# Lists a folder by getdents64 with room for two entries at a time; stops after a hundred calls.
BY_DESCRIPTOR = """
import ctypes, os, struct, sys
libc, buffer, names = ctypes.CDLL(None), ctypes.create_string_buffer(64), []
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
for _ in range(100):
    n, at = libc.getdents64(fd, buffer, ctypes.c_size_t(len(buffer))), 0
    if n <= 0:
        break
    while at < n:
        size = struct.unpack_from("H", buffer, at + 16)[0]
        names.append(buffer.raw[at + 19:at + size].split(b"\\0")[0].decode())
        at += size
print(n, *sorted(names))
"""


class Nested(unittest.TestCase):
    """A mount point inside another mount."""

    def test_a_folder_lists_it_once(self):
        with tempfile.TemporaryDirectory() as base, Daemon() as larder:
            for name in ("outer/file", "inner/leaf"):
                os.makedirs(os.path.dirname(f"{base}/{name}"))
                open(f"{base}/{name}", "w").close()
            larder.mount_named("outer", f"file://{base}/outer", "/larder-test-nested")
            larder.mount_named("first", f"file://{base}/inner", "/larder-test-nested/first")
            larder.mount_named("second", f"file://{base}/inner", "/larder-test-nested/second")
            listed = larder.run("python3", "-c", BY_DESCRIPTOR, "/larder-test-nested", text=True)
            self.assertEqual((listed.stdout, listed.stderr), ("0 . .. file first second\n", ""))
            self.assertEqual(larder.run("ls", "/larder-test-nested", text=True).stdout, "file\nfirst\nsecond\n")


if __name__ == "__main__":
    unittest.main()
