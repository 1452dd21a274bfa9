"""liblarder.so for aarch64, run by qemu-user against a larderd of this machine: the second architecture's system calls, scalar
code and structures, not only its linking. `make cross` builds what this runs."""
import difflib
import os
import shutil
import subprocess
import tempfile
import unittest

from harness import ROOT, Daemon, make_probe_tree

CROSS = os.path.join(ROOT, "build-cross")
LIBRARY, PROBE, TWINS = (os.path.join(CROSS, n) for n in ("liblarder-aarch64.so", "probe", "probe_twins"))
QEMU, SYSROOT = shutil.which("qemu-aarch64"), "/usr/aarch64-linux-gnu"
READ_ONLY = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'
MISSING = [n for n in (LIBRARY, PROBE, TWINS, SYSROOT) if not os.path.exists(n)] + ([] if QEMU else ["qemu-aarch64"])


@unittest.skipIf(MISSING, f"make cross makes {', '.join(MISSING)}")
class Aarch64(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp(prefix="larder-aarch64-", dir="/dev/shm")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.tree, cls.plain = os.path.join(cls.base, "tree"), os.path.join(cls.base, "plain")
        os.makedirs(cls.tree)
        os.makedirs(cls.plain)
        make_probe_tree(cls.tree)
        cls.larder = Daemon(fill="eager", lazy_threshold="1MiB", wait_ms=20000)
        cls.addClassCleanup(cls.larder.remove)
        cls.larder.start()
        cls.dataset = "/larder-test-aarch64/data"
        cls.larder.mount("file://" + cls.tree, cls.dataset)

    def emulated(self, *command, preload):
        """The words that run an aarch64 program; the library is preloaded into it alone, not into qemu."""
        variables = ["-E", "PROBE_EMULATED=1"]
        if preload:
            for name, value in (("LD_PRELOAD", LIBRARY), ("LARDER_SOCKET", self.larder.socket)):
                variables += ["-E", f"{name}={value}"]
        return [QEMU, "-L", SYSROOT, *variables, *command]

    def ours(self, *command):
        return subprocess.run(self.emulated(*command, preload=True), env=self.larder.env, capture_output=True, text=True,
                              errors="surrogateescape", timeout=300)

    def bare(self, *command):
        return subprocess.run(["unshare", "-m", "sh", "-c", READ_ONLY, "sh", self.tree, self.plain, *self.emulated(*command, preload=False)],
                              env=self.larder.env, capture_output=True, text=True, errors="surrogateescape", timeout=300)

    def compare(self, program, part):
        a, b = self.bare(program, self.plain, part), self.ours(program, self.dataset, part)
        self.assertEqual((a.returncode, b.returncode), (0, 0), (a.stderr[-500:], b.stderr[-500:]))
        left, right = a.stdout.replace(self.plain, "$R").splitlines(), b.stdout.replace(self.dataset, "$R").splitlines()
        self.assertGreater(len(left), 20)
        lines = list(difflib.unified_diff(left, right, "plain", "dataset", lineterm="", n=2))
        self.assertFalse(lines, "\n".join(lines[:80]))


def add(part, program):
    setattr(Aarch64, f"test_{part}", lambda self: self.compare(program, part))


for name in ("stats", "opens", "reads", "directories", "cwd", "links", "writes"):
    add(name, PROBE)
add("twins", TWINS)

if __name__ == "__main__":
    unittest.main()
