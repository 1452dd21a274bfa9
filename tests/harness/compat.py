"""Shared by the tests of other people's programs.

The same command runs twice at the same path: bare in a mount namespace of its own, where a plain folder is bound read-only over the
path, and under the preload, where the path is a dataset of the same content and the disk has only a decoy below it. Status, output
and whatever the command wrote must be equal, so a program that bypasses the preload cannot pass a test by accident.
"""
import hashlib
import os
import shutil
import subprocess
import tempfile
import unittest

from .base import BUILD, TESTS
from .daemon import Daemon

PROGRAMS = os.path.join(TESTS, "compat", "programs")
BUILT = os.path.join(BUILD, "compat")
DECOY = "decoy: the disk below the mount"
BIND = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && cd "$3" && shift 3 && exec "$@"'


def content(seed, size):
    """Bytes that no other seed or offset has."""
    return hashlib.shake_256(f"compat {seed}".encode()).digest(size)


def write(path, data):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)


def make_tree(root):
    """About 170 files, 12 MB: texts, binaries, sizes around every boundary, awkward names, folders with many and with few."""
    for size in (0, 1, 4095, 4096, 4097, 65536, 110_000, 262_144, 1_048_577, 5_242_883):
        write(f"{root}/sizes/{size:08}.bin", content(size, size))
    for i in range(120):
        write(f"{root}/images/n{i % 6:02}/img_{i:04}.JPEG", content(("img", i), 3000 + 137 * i))
    for name in ("with space.txt", "per%cent.txt", "quote'\".txt", "über-日本.txt", "x" * 200 + ".txt", ".hidden", "-dash.txt"):
        write(f"{root}/odd/{name}", f"needle in {len(name)}\n".encode())
    for i in range(20):
        lines = "".join(f"{(j * 7919 + i) % 1000} line {j} of {i}{' needle' if j % 97 == 0 else ''}\n" for j in range(1500))
        write(f"{root}/text/{i:02}.txt", lines.encode())
    write(f"{root}/deep/" + "/".join(f"level{i}" for i in range(12)) + "/leaf", b"at the bottom\n")
    write(f"{root}/script.sh", b"#!/bin/sh\necho ran with $# arguments from $(pwd)\n")
    write(f"{root}/MD5SUMS", "".join(f"{md5(p)}  {os.path.relpath(p, root)}\n" for p in files_of(root)).encode())


def md5(path):
    with open(path, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


def files_of(root):
    return sorted(os.path.join(d, f) for d, _, names in os.walk(root) for f in names)


def settle(root):
    """Modes and times as a dataset shows them (docs/semantics.md, S10): a folder is as new as its newest child."""
    for folder, folders, files in os.walk(root, topdown=False):
        newest = 0
        for i, name in enumerate(sorted(files)):
            path = os.path.join(folder, name)
            os.utime(path, ns=((1_600_000_000 + 1000 * i) * 10**9,) * 2)
            os.chmod(path, 0o444)
        for name in files + folders:
            newest = max(newest, os.stat(os.path.join(folder, name)).st_mtime_ns)
        os.utime(folder, ns=(newest, newest))
        os.chmod(folder, 0o555)


def snapshot(folder):
    """Everything below a folder: type, mode, time of files, content."""
    result = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            st = os.lstat(path)
            what = os.readlink(path) if os.path.islink(path) else ""
            if os.path.isfile(path) and not what:
                with open(path, "rb") as f:
                    what = hashlib.sha256(f.read()).hexdigest()
            result[os.path.relpath(path, folder)] = (oct(st.st_mode), what)
    return result


def tool(name):
    """The path of a program, or a skip that says what is missing."""
    found = shutil.which(name)
    if not found:
        raise unittest.SkipTest(f"{name} is not installed here")
    return found


def build(name, command, sources):
    """Compiles into build/compat once; {out} in the command is the result. Skips where the compiler is missing."""
    out = os.path.join(BUILT, name)
    tool(command[0])
    sources = [os.path.join(PROGRAMS, s) for s in sources]
    if os.path.exists(out) and all(os.path.getmtime(out) > os.path.getmtime(s) for s in sources):
        return out
    os.makedirs(os.path.dirname(out), exist_ok=True)
    done = subprocess.run([w.format(out=out, src=sources[0]) for w in command], capture_output=True, text=True, errors="replace", timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.stderr[-3000:]}")
    return out


def build_c(name, source, *flags):
    compiler = "g++" if source.endswith(".cc") else "gcc"
    return build(name, [compiler, "-O1", "-Wall", "-o", "{out}", "{src}", *flags], [source])


class Result:
    """The effects of a command, for comparison."""

    def __init__(self, done, scratch, sort):
        self.status = done.returncode
        self.out = sorted(done.stdout.splitlines()) if sort else done.stdout.splitlines()
        self.err = sorted(done.stderr.splitlines())
        self.written = snapshot(scratch)


class Compat(unittest.TestCase):
    """Each class has one dataset and one larderd. $D: the dataset. $W: a folder to write in, empty at the start of every command."""
    maxDiff = 3000
    make_tree = staticmethod(make_tree)
    config = {"cache_size": "256MiB", "fill": "eager"}  # of larderd

    @classmethod
    def setUpClass(cls):
        if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
            raise unittest.SkipTest("needs mount namespaces (unshare -m) for the plain folder at the dataset's path")
        cls.base = tempfile.mkdtemp(prefix="larder-compat-", dir="/dev/shm")
        cls.addClassCleanup(shutil.rmtree, cls.base, ignore_errors=True)
        cls.plain, cls.data, cls.scratch = (os.path.join(cls.base, n) for n in ("plain", "data", "scratch"))
        for folder in (cls.plain, cls.data, cls.scratch):
            os.makedirs(folder)
        write(cls.data + "/decoy", DECOY.encode())
        cls.make_tree(cls.plain)
        settle(cls.plain)
        cls.addClassCleanup(subprocess.run, ["chmod", "-R", "u+w", cls.base], check=False)
        cls.larder = Daemon(**cls.config)
        cls.addClassCleanup(cls.larder.remove)
        cls.larder.start()
        cls.larder.mount("file://" + cls.plain, cls.data)

    def empty_scratch(self):
        subprocess.run(["chmod", "-R", "u+w", self.scratch], check=True)
        shutil.rmtree(self.scratch)
        os.makedirs(self.scratch)

    def environment(self, preload, **more):
        env = self.larder.preload_env() if preload else self.larder.env
        return {**env, "D": self.data, "W": self.scratch, "TZ": "UTC", "HOME": self.base, **more}

    def run_bare(self, command, cwd=None, timeout=120, data=b"", env=None):
        self.empty_scratch()
        return subprocess.run(["unshare", "-m", "sh", "-c", BIND, "sh", self.plain, self.data, cwd or self.base, *command],
                              env={**self.environment(False), **(env or {})}, input=data, capture_output=True, timeout=timeout)

    def run_preloaded(self, command, cwd=None, timeout=120, data=b"", env=None):
        self.empty_scratch()
        if cwd and cwd.startswith(self.data):  # for a shell under the preload to go to: ours cannot
            command, cwd = ["sh", "-c", 'cd "$0" && exec "$@"', cwd, *command], None
        return subprocess.run(command, cwd=cwd or self.base, env={**self.environment(True), **(env or {})}, input=data,
                              capture_output=True, timeout=timeout)

    def same(self, command, status=0, sort=False, lines=1, **options):
        """Runs a command (a list, or a text for bash) both ways and compares all effects. `lines`: how many it must print at least."""
        words = ["bash", "-c", command] if isinstance(command, str) else command
        bare = Result(self.run_bare(words, **options), self.scratch, sort)
        ours = Result(self.run_preloaded(words, **options), self.scratch, sort)
        self.assertEqual(bare.status, status, bare.err)
        self.assertGreaterEqual(len(bare.out) + len(bare.written), lines, "the command did next to nothing")
        self.assertEqual(ours.err, bare.err)
        self.assertEqual(ours.out, bare.out)
        self.assertEqual(ours.status, bare.status)
        self.assertEqual(ours.written, bare.written)
        return ours

    def make_cold(self):
        self.larder.larder("evict", self.data)
