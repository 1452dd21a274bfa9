"""A cache_dir that is larderd's own tmpfs with large folios, mounted as examples/dev-shm-larder.mount.in says: every byte is right, it
takes no more memory than `status` says, survives kill -9, is readable by programs that cannot see the mount, and is never a SIGBUS
when it is full.

What the user would lose: docs/configuration.md recommends a faster cache directory that nobody tried."""
import os
import re
import shutil
import subprocess
import unittest

from harness import PYTHON, ROOT, Daemon, LarderTest, MiB, content, run_program, scratch

READ = """
import hashlib, mmap, os, sys
for name in sorted(os.listdir(sys.argv[1])):
    with open(os.path.join(sys.argv[1], name), "rb") as f:
        data = f.read()
        mapped = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) if data else b""
    assert bytes(mapped) == data
    print(name, hashlib.sha256(data).hexdigest())
"""
SIZES = [0, 1, 4095, 4096, 4097, 65536, 110_000, 131_072, 262_145, 1 * MiB + 1, 2 * MiB + 5]


def options_of_the_unit():
    with open(os.path.join(ROOT, "examples", "dev-shm-larder.mount.in")) as f:
        return re.search(r"^Options=(.*)$", f.read(), re.M).group(1)


class OwnMount(LarderTest):
    @classmethod
    def setUpClass(cls):
        cls.plain = cls.enterClassContext(scratch("/dev/shm"))
        for i in range(60):
            with open(os.path.join(cls.plain, f"f{i:03}"), "wb") as f:
                f.write(content(i, SIZES[i % len(SIZES)] + (i // len(SIZES)) * 1000))
        out = run_program([PYTHON, "-c", READ, cls.plain], os.environ)
        assert out.returncode == 0, out.stderr
        cls.expected, cls.bytes = out.stdout, sum(os.path.getsize(os.path.join(cls.plain, n)) for n in os.listdir(cls.plain))

    def mount(self, size):
        folder = self.enterContext(scratch())
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", re.sub(r"size=[^,]*", f"size={size}", options_of_the_unit()), "larder-test", folder],
                              capture_output=True, text=True, check=False)
        if made.returncode != 0:
            self.skipTest("a tmpfs cannot be mounted here: " + made.stderr.strip())
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        return folder

    def daemon(self, folder, **config):
        d = self.enterContext(Daemon(cache_dir=folder, **config))
        d.mount(f"file://{self.plain}", "/data/x")
        return d

    def read(self, daemon, prefix=(), **env):
        return run_program([*prefix, PYTHON, "-c", READ, "/data/x"], daemon.preload_env(**env))

    def test_right_bytes_and_no_more_memory_than_told(self):
        folder = self.mount("64M")
        d = self.daemon(folder, cache_size="48MiB")
        out = self.read(d)
        self.assertEqual((out.returncode, out.stdout), (0, self.expected), out.stderr)
        fs, used = os.statvfs(folder), d.status()["cache"]["used"]
        taken = (fs.f_blocks - fs.f_bfree) * fs.f_frsize
        self.assertGreaterEqual(taken, self.bytes)  # the cache is on this mount
        self.assertLessEqual(taken, used)
        gets = d.status()["store"]["gets"]
        d.kill()
        d.start()
        out = self.read(d)
        self.assertEqual((out.returncode, out.stdout), (0, self.expected), out.stderr)
        self.assertGreater(gets, 50)
        self.assertEqual(d.status()["store"]["gets"], 0)  # of the new larderd
        d.larder("check")

    def test_a_program_that_cannot_see_the_mount(self):
        folder = self.mount("64M")
        d = self.daemon(folder, cache_size="48MiB")
        d.larder("warm", "/data/x")
        hidden = ["unshare", "-m", "sh", "-c", f'umount -l {folder} && [ ! -e {folder}/lock ] && exec "$@"', "-"]
        out = self.read(d, prefix=hidden)
        self.assertEqual((out.returncode, out.stdout), (0, self.expected), out.stderr)

    def test_a_mount_that_others_fill(self):
        folder = self.mount("24M")
        d = self.daemon(folder, cache_size="20MiB", reserve="64KiB", wait_ms=2000)
        with open(os.path.join(folder, "hog"), "wb") as f:  # larderd thinks that it has 20 MiB
            f.write(b"x" * (12 * MiB))
        self.assertGreater(self.bytes, 12 * MiB)
        for _ in range(2):
            out = self.read(d)
            self.assertEqual((out.returncode, out.stdout), (0, self.expected), out.stderr)

    def test_the_units_are_good(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("systemd-analyze is not here")
        with scratch() as root:
            made = subprocess.run(["make", "-s", "-C", ROOT, "install", f"BUILD={os.environ.get('LARDER_BUILD', 'build')}", f"DESTDIR={root}", "PREFIX=/usr"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(made.returncode, 0, made.stderr)
            units = [os.path.join(root, "usr/lib/systemd/system", n) for n in ("larderd.service", "dev-shm-larder.mount", "dev-shm-larder-chunks.mount")]
            for unit in units:
                with open(unit) as f:
                    text = re.sub("/usr/(bin/larderd|lib/larder-keeper)", lambda m: root + m.group(), f.read())
                self.assertNotIn("@", re.sub(r"~@\S*", "", text))
                with open(unit, "w") as f:
                    f.write(text)
            checked = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
            self.assertEqual([line for line in checked.stderr.splitlines() if root in line or "larder" in line], [])
            self.assertEqual(checked.returncode, 0, checked.stderr)


if __name__ == "__main__":
    unittest.main()
