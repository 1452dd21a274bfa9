"""Shared libraries and extension modules of a dataset, as a Python environment on a mount has them.

What the user would lose: the second library that a program loads is the first one, and what a library needs beside itself is not found.
"""
import os
import shutil
import subprocess
import sysconfig
import tempfile
import unittest

from harness import BUILD, PYTHON, Daemon, LarderTest, scratch

PROGRAM = os.path.join(BUILD, "probe_libraries")
NOBODY = ("setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "--inh-caps=-all")
IMPORTS = """
import sys
sys.path = [sys.argv[1]] + [p for p in sys.path if not p.endswith("lib-dynload")]
import _bz2, _json, _lzma
for m in (_bz2, _json, _lzma):
    print(m.__file__.replace(sys.argv[1], "$R"), sorted(vars(m))[:3])
print(_bz2.BZ2Decompressor().decompress(_bz2.BZ2Compressor().compress(b"x") + b"") == b"", _lzma.CHECK_CRC64, _json.encode_basestring("x"))
"""


class Libraries(LarderTest):
    # library -> (value, what it is linked to, flags)
    MADE = {
        "1.so": ("1", "", ""), "2.so": ("2", "", ""), "same/1.so": ("11", "", ""), "other/1.so": ("12", "", ""),
        "dep/libdep.so": (None, "", ""), "dep/deeper/libdeep.so": (None, "", ""),
        "origin.so": ("dep()", "-Ldep -ldep", "-Wl,-rpath,$ORIGIN/nothing:$ORIGIN/dep"),
        "other/up.so": ("dep() + 1", "-Ldep -ldep", "-Wl,-rpath,${ORIGIN}/../dep"),
        "inherits.so": ("mid()", "-Lmids -lmid", "-Wl,--disable-new-dtags,-rpath,$ORIGIN/mids:$ORIGIN/dep/deeper"),
        "nowhere.so": ("dep()", "-Ldep -ldep", "-Wl,-rpath,$ORIGIN/nothing"),
    }

    @classmethod
    def compile(cls, name, source, *flags):
        path = os.path.join(cls.tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", path, *flags], input=source, text=True, check=True, cwd=cls.tree)

    @classmethod
    def setUpClass(cls):
        cls.tree = cls.enterClassContext(scratch())
        os.chmod(cls.tree, 0o755)
        cls.compile("dep/libdep.so", "int dep(void) { return 7; }")
        cls.compile("dep/deeper/libdeep.so", "int deep(void) { return 70; }")
        # Its own need is found by the RPATH of who loads it.
        cls.compile("mids/libmid.so", "int deep(void); int mid(void) { return deep() + 3; }", "-Ldep/deeper", "-ldeep")
        for name, (value, needs, flags) in cls.MADE.items():
            if value is not None:
                cls.compile(name, f"int dep(void); int mid(void); int value(void) {{ return {value}; }}", *needs.split(), *flags.split())
        shutil.copy(os.path.join(cls.tree, "1.so"), os.path.join(cls.tree, "large.so"))
        os.truncate(os.path.join(cls.tree, "large.so"), 5 << 20)
        with open(os.path.join(cls.tree, "text.so"), "w") as f:
            f.write("no library")
        cls.names = [n for n, (value, _, _) in cls.MADE.items() if value is not None] + ["large.so", "text.so", "missing.so"]
        dynload = os.path.join(sysconfig.get_path("platstdlib", vars={"platbase": "/usr", "base": "/usr"}), "lib-dynload")
        modules = [f for f in os.listdir(dynload) if f.startswith(("_bz2.", "_json.", "_lzma."))] if PYTHON.startswith("/usr/bin") else []
        os.mkdir(os.path.join(cls.tree, "modules"))
        for f in modules:
            shutil.copy(os.path.join(dynload, f), os.path.join(cls.tree, "modules"))
        cls.has_modules = len(modules) == 3
        cls.bare = cls.lines(subprocess.run([PROGRAM, cls.tree, *cls.names], capture_output=True, text=True, check=True).stdout)

    @staticmethod
    def lines(text):
        """The names that ld.so gives a file that it cannot load are its own."""
        return [line for line in text.splitlines() if not line.startswith(("$R/text.so", "$R/missing.so"))]

    def setUp(self):
        self.larder = Daemon(lazy_threshold="1MiB")
        self.addCleanup(self.larder.remove)
        self.larder.start()
        self.larder.mount_named("lib", "file://" + self.tree, "/larder-test/lib")
        self.runtime = tempfile.mkdtemp(prefix="larder-test-")
        self.addCleanup(shutil.rmtree, self.runtime, ignore_errors=True)

    def load(self, *names, prefix=(), **variables):
        settings = [f"{k}={v}" for k, v in {"XDG_RUNTIME_DIR": self.runtime, **variables}.items()]
        return self.larder.run("env", *settings, *prefix, PROGRAM, "/larder-test/lib", *names, text=True)

    def expect_same(self, result):
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertEqual(self.lines(result.stdout), self.bare)

    def test_each_is_itself_and_finds_what_it_needs(self):
        """S27: each under a name of its own and with what its RUNPATH, RPATH and `$ORIGIN` lead to in datasets."""
        self.expect_same(self.load(*self.names))
        self.expect_same(self.load(*self.names))  # the links are there

    def test_the_cache_has_no_path(self):
        """As in a container, where the library has a descriptor of the cache alone."""
        self.expect_same(self.load(*self.names, LARDER_CACHE=""))

    def test_a_changed_library(self):
        self.assertIn("2.so: 2", self.load("2.so").stdout.splitlines())
        before = os.path.join(self.tree, "2.so")
        shutil.copy(before, before + ".old")
        self.addCleanup(os.rename, before + ".old", before)
        os.unlink(before)
        self.compile("2.so", "int value(void) { return 22; }")
        self.larder.larder("refresh", "lib")
        self.assertIn("2.so: 22", self.load("2.so").stdout.splitlines())

    def test_no_folder_for_links(self):
        """S28: Where none of the folders can be made, a library is loaded all the same, but not what lies beside it."""
        taken = ["/tmp/larder-lib-65533", "/dev/shm/larder-lib-65533"]
        for folder in taken:
            os.makedirs(folder)  # another user's
            self.addCleanup(shutil.rmtree, folder)
        for folder in (self.larder.work, self.larder.cache):
            os.chmod(folder, 0o755)
        got = self.load("1.so", "2.so", "same/1.so", "other/1.so", prefix=NOBODY).stdout.splitlines()
        for line in ("1.so: 1", "2.so: 2", "same/1.so: 11", "other/1.so: 12"):
            self.assertIn(line, got)

    def test_extension_modules(self):
        if not self.has_modules:
            self.skipTest("no extension modules to copy")
        plain = os.path.join(self.tree, "modules")
        bare = subprocess.run([PYTHON, "-c", IMPORTS, plain], capture_output=True, text=True, check=True).stdout
        ours = self.larder.run("env", f"XDG_RUNTIME_DIR={self.runtime}", PYTHON, "-c", IMPORTS, "/larder-test/lib/modules", text=True)
        self.assertEqual((ours.stdout, ours.stderr), (bare, ""))


if __name__ == "__main__":
    unittest.main()
