"""The same liblarder.so in chroots of older Debians (glibc 2.31, 2.28), where only the socket and the library are visible."""
import os
import shutil
import subprocess
import tempfile
import unittest

from harness import LIBRARY
from harness.compat import Compat, md5

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "larder")  # chroots are kept, as venv.sh keeps its own
CHROOT = ('mount --bind "$2" "$1/mnt/liblarder.so" && mount --bind "$3" "$1/mnt/socket" && mount -t proc proc "$1/proc" && '
          'if [ -n "$4" ]; then mount --bind "$4" "$1$5" && mount -o remount,bind,ro "$1$5"; fi && root="$1" && shift 5 && exec chroot "$root" "$@"')
SCRIPT = ('set -e; D=$1; export LC_ALL=C.UTF-8; find $D -type f | sort | xargs -d "\\n" md5sum; ls -lR --time-style=+%s $D | sed "s/^total.*//"; cat < $D/text/00.txt | wc -l; '
          'perl -e \'opendir(D, "$ARGV[0]/images") or die; print join(" ", sort readdir D), " ", -s "$ARGV[0]/text/03.txt", "\\n"\' $D; '
          'tar cf - --sort=name -C $D . | md5sum; cd $D/text && pwd && ls | wc -l && cat ../odd/.hidden; t=$(mktemp -d); cp -a $D/images $t/copy && diff -r $D/images $t/copy && rm -rf $t; echo x > $D/new || echo refused')


class Debian(Compat):
    def chroot(self, suite):
        if not shutil.which("debootstrap"):
            self.skipTest("debootstrap is not installed here")
        root = os.path.join(CACHE, "debian-" + suite)
        if os.path.exists(root + "/mnt/socket"):
            return root
        os.makedirs(CACHE, exist_ok=True)
        fresh = tempfile.mkdtemp(prefix="debian-new-", dir=CACHE)
        self.addCleanup(shutil.rmtree, fresh, ignore_errors=True)
        done = subprocess.run(["debootstrap", "--variant=minbase", suite, fresh], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            self.skipTest(f"debootstrap {suite}: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")
        for name in ("liblarder.so", "socket"):
            with open(f"{fresh}/mnt/{name}", "w"):
                pass
        os.chmod(fresh, 0o755)
        if not os.path.exists(root):
            os.rename(fresh, root)
        return root

    def in_chroot(self, root, preload, path):
        env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **({"LD_PRELOAD": "/mnt/liblarder.so", "LARDER_SOCKET": "/mnt/socket"} if preload else {})}
        return subprocess.run(["unshare", "-m", "sh", "-c", CHROOT, "sh", root, LIBRARY, self.larder.socket, "" if preload else self.plain, path, "/usr/bin/env", "-i",
                               *[f"{k}={v}" for k, v in env.items()], "sh", "-c", SCRIPT, "sh", path], capture_output=True, text=True, timeout=200)

    def compare(self, suite, glibc):
        root = self.chroot(suite)
        version = subprocess.run(["chroot", root, "ldd", "--version"], capture_output=True, text=True).stdout.splitlines()[0]
        self.assertIn(glibc, version)
        os.makedirs(root + self.data)  # empty: a bare program sees the plain folder bound over it
        try:
            bare, ours = (self.in_chroot(root, preload, self.data) for preload in (False, True))
        finally:
            shutil.rmtree(f"{root}/dev/shm/" + os.path.basename(self.base))
        self.assertEqual(bare.returncode, 0, bare.stderr)
        self.assertIn(md5(self.plain + "/text/00.txt"), bare.stdout)
        self.assertEqual((ours.stdout, ours.stderr, ours.returncode), (bare.stdout, bare.stderr, 0))
        self.assertTrue(ours.stdout.endswith("refused\n"))
        print(version)

    def test_bullseye(self):
        self.compare("bullseye", "2.31")

    def test_buster(self):
        self.compare("buster", "2.28")


if __name__ == "__main__":
    unittest.main()
