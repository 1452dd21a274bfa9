"""A cache that is memory of larderd's own, and one that is a folder with a read-only mount of it: who can change what, what it takes,
what outlives larderd, and what becomes of the texts that the kernel shows for its files.

What the user would lose: cached bytes that any program of root may change for all others; memory beyond cache_size."""
import json
import os
import subprocess
import unittest

from harness import LARDERD, PYTHON, Daemon, LarderTest, MiB, content, run_program, scratch, wait_for

ROOT = os.geteuid() == 0

# Each way to change a file, a folder or the handle of a large object that a program has open; prints the errnos.
CHANGE = r"""
import errno, os, sys
def error(call, *args, **options):
    try:
        call(*args, **options)
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
found = {}
for name in sys.argv[1:]:
    fd = os.open(name, os.O_RDONLY)
    for spelling in (f"/proc/self/fd/{fd}", f"/dev/fd/{fd}"):
        found[name, "write", spelling[:5]] = error(os.open, spelling, os.O_WRONLY | (os.O_DIRECTORY if os.path.isdir(name) else 0))
        found[name, "truncate", spelling[:5]] = error(os.truncate, spelling, 0)
        found[name, "chmod", spelling[:5]] = error(os.chmod, spelling, 0o777)
    found[name, "fchmod"] = error(os.fchmod, fd, 0o777)
    found[name, "fchown"] = error(os.fchown, fd, 0, 0)
    found[name, "utime"] = error(os.utime, fd)
    found[name, "setxattr"] = error(os.setxattr, fd, "user.x", b"1")
    found[name, "mkdirat"] = error(os.mkdir, "y", dir_fd=fd)
    os.close(fd)
for what, how in sorted(found.items(), key=str):
    print(*what, how)
"""


def refused(text):
    """True if nothing was done, and files and folders said that they are read-only."""
    words = [line.split()[-1] for line in text.splitlines()]
    return len(words) > 20 and "done" not in words and words.count("EROFS") > len(words) // 2


class HomeTest(LarderTest):
    def setUp(self):
        self.plain = self.enterContext(scratch("/dev/shm"))
        for i in range(40):
            self.write(f"d/f{i:02}", content(i, 110_000))
        self.write("a", b"0123456789\n")

    def write(self, name, data):
        path = os.path.join(self.plain, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)

    def own(self, **config):
        d = Daemon(cache_home="own", **config)
        self.addCleanup(d.remove)
        try:
            d.start()
        except AssertionError as e:
            if "cannot be made" in str(e):
                self.skipTest(str(e).splitlines()[-1])
            raise
        d.mount(f"file://{self.plain}", "/data/x")
        return d

    def taken(self, d):
        """What the kernel says that the cache's file systems hold."""
        folder = d.cache_path()
        return sum((s.f_blocks - s.f_bfree) * s.f_frsize for s in (os.statvfs(folder + "/"), os.statvfs(folder + "/chunks")))

    def assert_nothing_changes(self, d):
        names = ["/data/x/a", "/data/x/d", "/data/x/big"]
        preloaded = run_program([PYTHON, "-c", CHANGE, *names], d.preload_env())
        self.assertTrue(refused(preloaded.stdout.decode()), preloaded)
        # A child without the library has the descriptors alone.
        script = ('exec 3< /data/x/a 4< /data/x/d 5< /data/x/big; chmod u+w /dev/fd/3; env -u LD_PRELOAD chmod 777 /proc/self/fd/3; '
                  'env -u LD_PRELOAD bash -c "echo HACK > /dev/fd/3; echo HACK > /proc/self/fd/3"; '
                  'env -u LD_PRELOAD mkdir /proc/self/fd/4/y; env -u LD_PRELOAD mkdir /proc/self/fd/5/y; cat /data/x/a')
        bare = run_program(["bash", "-c", script], d.preload_env())
        self.assertEqual(bare.stdout, b"0123456789\n", bare)
        self.assertEqual(bare.stderr.count(b"Read-only file system"), 6, bare.stderr.decode())
        d.larder("check")


class OwnHome(HomeTest):
    def test_status_says_so_and_programs_read_right_bytes(self):
        d = self.own()
        for _ in range(2):
            out = d.run("sh", "-c", f"diff -r /data/x {self.plain}", text=True)
            self.assertEqual(out.returncode, 0, out.stdout + out.stderr)
        status = d.status()
        self.assertEqual((status["cache_dir"], status["home"]["kind"], status["home"]["read_only"]), ("", "own", True))
        self.assertIn("memory of its own", d.larder("status").stdout)
        self.assertIn("memory of its own", d.larder("doctor", check=False).stdout)

    def test_nothing_can_be_changed_by_any_spelling(self):
        self.write("big", content(7, 6 * MiB))
        self.assert_nothing_changes(self.own(lazy_threshold="1MiB"))

    def test_the_next_larderd_gets_it_from_who_kept_it(self):
        self.write("big", content(7, 6 * MiB))
        d = self.own(lazy_threshold="1MiB")
        read = ["sh", "-c", f"diff -r /data/x {self.plain} && head -c 100 /data/x/big | cksum"]
        self.assertEqual(d.run(*read).returncode, 0)
        self.assertGreater(d.status()["store"]["gets"], 40)
        reader = subprocess.Popen([PYTHON, "-c", "import sys; f = open('/data/x/a', 'rb'); input(); print(f.read())"], env=d.preload_env(),
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        wait_for(lambda: d.status()["clients"]["present"], what="the reader")
        d.kill()
        self.assertEqual(d.run("cat", "/data/x/a").returncode, 1)  # nobody greets: no mounts
        d.start()
        self.assertEqual(d.run(*read).returncode, 0)
        status = d.status()
        self.assertEqual((status["store"]["gets"], status["home"]["reason"]), (0, "kept from the former larderd"))
        self.assertEqual(reader.communicate(b"\n", timeout=60)[0], b"b'0123456789\\n'\n")

    def test_it_is_freed_when_nobody_keeps_it(self):
        d = self.own()
        d.larder("warm", "/data/x")
        d.stop()
        d.store.close()
        d.store = None
        d.config["cache_home"] = "own"
        d.start()
        d.larder("status")
        self.assertEqual(d.status()["cache"]["files"], 0)

    def test_it_takes_what_status_says(self):
        """Within 2 %, for each kind of load: files, random reads, an object that became whole, one that was evicted."""
        for i in range(300):
            self.write(f"s/{i:03}", content(i, 1 + i * 97 % 9000))
        self.write("large", content(1, 300 * MiB))
        self.write("whole", content(2, 24 * MiB))
        d = self.own(cache_size="128MiB", lazy_threshold="8MiB")
        random_reads = ("import os, random; random.seed(1); fd = os.open('/data/x/large', os.O_RDONLY)\n"
                        "for _ in range(1500): os.pread(fd, 4096, random.randrange(300 << 20))")
        loads = [["sh", "-c", "cat /data/x/d/* /data/x/a /data/x/s/* | cksum"],
                 ["sh", "-c", "cat /data/x/whole | cksum"],
                 [PYTHON, "-c", random_reads],
                 ["sh", "-c", "cat /data/x/large | cksum"]]
        for load in loads:
            out = d.run(*load)
            self.assertEqual(out.returncode, 0, out.stderr)
            self.assert_agree(d, load)
        d.larder("evict", "/data/x/large")
        d.larder("evict", "/data/x/whole")
        self.assert_agree(d, "evict")

    def assert_agree(self, d, load):
        def agree():
            used, taken = d.status()["cache"]["used"], self.taken(d)
            self.seen = f"{load}: {used} used, {taken} taken"
            # Folders, handles and the page that a checksum log is ahead: below 1 MiB in all.
            return abs(used - taken) <= used // 50 + MiB and taken <= 128 * MiB + MiB
        try:
            wait_for(agree, 5, "agreement")
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.seen}") from None

    def test_what_the_kernel_shows_for_its_files_leads_to_them(self):
        d = self.own()
        script = ('cat /proc/self/fd/3; cat /dev/fd/3; env -u LD_PRELOAD cat /proc/self/fd/3; cat /dev/stdin < /data/x/a; '
                  'env -u LD_PRELOAD cat /dev/stdin < /data/x/a; readlink /proc/self/fd/3; realpath /proc/self/fd/3; '
                  'cd /data/x/d; pwd; realpath .; cat ../a')
        out = run_program(["bash", "-c", f"exec 3< /data/x/a; {script}"], d.preload_env())
        self.assertEqual(out.stdout.decode().splitlines(),
                         ["0123456789"] * 5 + ["/data/x/a", "/data/x/a", "/data/x/d", "/data/x/d", "0123456789"], out.stderr)


class ChosenHome(HomeTest):
    def start(self, env=None, **config):
        work = self.enterContext(scratch())
        config = {"socket": os.path.join(work, "s"), "state_dir": os.path.join(work, "state"), "cache_size": "32MiB", "private": True, **config}
        with open(os.path.join(work, "c"), "w") as f:
            f.writelines(f"{k} = {json.dumps(v)}\n" for k, v in config.items())
        return subprocess.run(["timeout", "-s", "TERM", "10", LARDERD, "--config", f.name], capture_output=True, text=True, check=False,
                              env={**os.environ, **(env or {})})

    def test_a_folder_that_is_named_is_taken(self):
        with scratch("/dev/shm") as folder, Daemon(cache_dir=os.path.join(folder, "c"), private=True) as d:
            self.assertEqual(d.status()["home"]["kind"], "folder")
            self.assertEqual(d.status()["home"]["reason"], "cache_dir names it")
            self.assertEqual(os.stat(d.config["cache_dir"]).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(os.path.join(d.config["cache_dir"], "lock")).st_mode & 0o777, 0o600)

    def test_contradictions_are_one_line(self):
        out = self.start(cache_home="own", cache_dir="/dev/shm/larder-test-x")
        self.assert_one_line(out, "cache_home", "/dev/shm/larder-test-x")
        out = self.start(cache_dir_readonly="/mnt/x")
        self.assert_one_line(out, "cache_dir_readonly", "cache_dir as well")

    @unittest.skipUnless(ROOT, "root alone may mount")
    def test_a_folder_with_a_read_only_mount_of_it(self):
        """As a DaemonSet without CAP_SYS_ADMIN gets it: the same folder twice, once readOnly."""
        self.write("big", content(7, 6 * MiB))
        folder, view = self.enterContext(scratch("/dev/shm")), self.enterContext(scratch())
        os.mkdir(folder + "/c")
        mounted = subprocess.run(["sh", "-c", f"mount --bind {folder}/c {view} && mount -o remount,bind,ro {view}"], check=False)
        if mounted.returncode != 0:
            self.skipTest("no mounts here")
        self.addCleanup(subprocess.run, ["umount", "-l", view], check=True)
        with Daemon(cache_dir=folder + "/c", cache_dir_readonly=view, lazy_threshold="1MiB") as d:
            d.mount(f"file://{self.plain}", "/data/x")
            env = d.preload_env
            d.preload_env = lambda **more: {k: v for k, v in env(**more).items() if k != "LARDER_CACHE"}
            self.assertTrue(d.status()["home"]["read_only"])
            self.assert_nothing_changes(d)


class Budget(HomeTest):
    @unittest.skipUnless(ROOT, "root alone may mount")
    def test_inodes_are_a_budget_like_bytes(self):
        """Many small files in a file system with few inodes: the oldest go, nobody gets EIO."""
        for i in range(3000):
            self.write(f"s/{i:04}", b"%d\n" % i)
        folder = self.enterContext(scratch())
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128M,nr_inodes=3500", "larder-test", folder], check=False).returncode != 0:
            self.skipTest("a tmpfs cannot be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", folder], check=True)
        with Daemon(cache_dir=folder + "/c", cache_size="100MiB", reserve="1MiB") as d:
            d.mount(f"file://{self.plain}", "/data/x")
            for _ in range(2):
                out = d.run("sh", "-c", "cat /data/x/s/* | cksum")
                self.assertEqual(out.stderr, b"")
                self.assertEqual(out.stdout, run_program(f"cat {self.plain}/s/* | cksum", os.environ).stdout)
            self.assertGreater(os.statvfs(folder).f_favail, 500)

    @unittest.skipUnless(ROOT, "root alone may make control groups")
    def test_the_limit_of_the_control_group_bounds_it(self):
        v1 = os.path.isdir("/sys/fs/cgroup/memory")
        group = f"/sys/fs/cgroup/{'memory/' if v1 else ''}larder-test-{os.getpid()}"
        try:
            os.mkdir(group)
            with open(os.path.join(group, "memory.limit_in_bytes" if v1 else "memory.max"), "w") as f:
                f.write("200M")
        except OSError as e:
            self.skipTest(f"no control group: {e}")
        self.addCleanup(os.rmdir, group)
        enter = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "-"]
        d = Daemon(prefix=enter, cache_size="300MiB")
        self.addCleanup(d.remove)
        with self.assertRaises(AssertionError) as raised:
            d.start()
        self.assertIn(f"control group, 200.0 MiB ({group}/memory.", str(raised.exception))
        del d.config["cache_size"]
        d.start()
        self.assertLessEqual(d.status()["cache"]["size"], 100 * MiB)
        self.write("many", content(3, 400 * MiB))
        d.mount(f"file://{self.plain}", "/data/x")
        out = d.run("sh", "-c", "cat /data/x/many | cksum")
        self.assertEqual((out.returncode, out.stderr), (0, b""))
        self.assertIsNone(d.process.poll())
        d.stop()


if __name__ == "__main__":
    unittest.main()
