"""Files larger than a chunk and larger than the cache, in real processes: docs/semantics.md, S15 to S19."""
import array
import hashlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import unittest

from harness import BUILD, LARDER, PYTHON, Daemon, KeptDaemon, LarderTest, MiB, clean_environment, run_program, scratch, wait_for

LAZY = dict(cache_size="32MiB", lazy_threshold="1MiB", reserve="16MiB", wait_ms=20000)


class LazyTest(LarderTest):
    def setUp(self):
        self.source = self.enterContext(scratch())
        self.stack = []

    def enterContext(self, context):  # Python 3.11 has it, 3.10 not
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def write(self, name, size, seed=1):
        rng = random.Random(seed)
        with open(os.path.join(self.source, name), "wb") as f:
            while size > 0:
                f.write(rng.randbytes(min(size, 4 * MiB)))
                size -= min(size, 4 * MiB)

    def daemon(self, **config):
        d = self.enterContext(Daemon(**{**LAZY, **config}))
        d.mount("file://" + self.source, "/data/lazy")
        return d

    def same(self, daemon, command):
        """The command's output is the same on the plain folder (@) and on the dataset."""
        bare = run_program(command.replace("@", self.source), clean_environment())
        ours = run_program(command.replace("@", "/data/lazy"), daemon.preload_env())
        self.assertEqual((bare.returncode, bare.stdout), (ours.returncode, ours.stdout), f"{command}: {ours.stderr[-500:]}")
        return ours.stdout


class LostDescriptorTest(LazyTest):
    """S13: Programs that start while the daemon is away, and programs that close or replace the library's descriptor, reach
    cached files and chunks through the keeper."""
    PROGRAM = """
import os, sys
def read(path):
    with open(path, "rb") as f:
        f.seek(100)
        return f.read(3000).hex()
def folder(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    return os.stat("big.bin", dir_fd=fd).st_size
def look():
    return read("/data/lazy/sub/big.bin"), read("/data/lazy/small.bin"), folder("/data/lazy/sub")
def lose(how):
    numbers = [int(n) for n in os.listdir("/proc/self/fd") if int(n) >= 3]
    if how == "closed":
        return os.closerange(3, 4096)
    other = os.open({"a file": "/dev/null", "a folder": "/"}[how], os.O_RDONLY)
    for n in numbers:
        if n != other:
            os.dup2(other, n, inheritable=False)
before = look()
lose(sys.argv[1])
print("lost", flush=True)
sys.stdin.readline()
print("same" if look() == before else "another", flush=True)
"""

    def test_descriptors_that_are_lost_while_larderd_is_down(self):
        os.mkdir(os.path.join(self.source, "sub"))
        self.write("sub/big.bin", 2 * MiB)
        self.write("small.bin", MiB // 8, seed=2)
        for how in ("closed", "a file", "a folder"):
            with self.subTest(how):
                d = self.enterContext(KeptDaemon(**{**LAZY, "wait_ms": 2000}))
                d.mount("file://" + self.source, "/data/lazy")
                p = subprocess.Popen([PYTHON, "-c", self.PROGRAM, how], env=d.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True)
                self.assertEqual(p.stdout.readline(), "lost\n")
                d.hold_starts()
                d.kill_larderd()
                out, err = p.communicate("go\n", timeout=60)
                self.assertEqual((out, p.returncode), ("same\n", 0), err)


class ProgramsTest(LazyTest):
    COMMANDS = [
        "stat -c '%s %F' @/big.bin",
        "head -c 100 @/big.bin", "tail -c 77 @/big.bin", "tail -n 3 @/lines.txt",
        "sha256sum < @/big.bin", "cat @/big.bin | md5sum", "cmp @/big.bin @/big.bin && echo same",
        "sort -u @/lines.txt | md5sum", "sort < @/lines.txt | tail -1", "wc -l < @/lines.txt",
        "(read a; read b; echo $b; md5sum) < @/lines.txt", "sed -n 99999p @/lines.txt", "awk 'NR % 50000 == 0' @/lines.txt",
        "dd if=@/big.bin bs=1M skip=20 count=9 2>/dev/null | md5sum", "cp @/big.bin /dev/stdout | md5sum", "grep -c 99 @/lines.txt",
        "tar cf - -C @ big.bin lines.txt | tar xOf - | md5sum", "perl -ne 'print if $. == 70000' @/lines.txt",
        "find @ -size +20M -exec md5sum < {} \\; | md5sum; exec 7< @/big.bin; dd bs=1 skip=5 count=9 <&7 2>/dev/null; md5sum <&7",
        "python3 -c \"import hashlib, shutil, subprocess, sys; f = open('@/big.bin', 'rb'); f.seek(30000001); "
        "print(hashlib.md5(f.read(9000000)).hexdigest()); f.seek(-5, 2); print(f.read()); f.seek(0); f.flush(); "
        "print(subprocess.run(['md5sum'], stdin=open('@/big.bin', 'rb'), capture_output=True).stdout)\"",
        "python3 -c \"import shutil, hashlib, os; shutil.copyfile('@/big.bin', '/dev/shm/larder-copy-$$'); "
        "print(hashlib.md5(open('/dev/shm/larder-copy-$$', 'rb').read()).hexdigest()); os.unlink('/dev/shm/larder-copy-$$')\"",
    ]

    def test_programs_read_the_same_through_a_cache_that_is_too_small(self):
        self.write("big.bin", 70 * MiB + 12345)
        with open(os.path.join(self.source, "lines.txt"), "w") as f:
            f.writelines(f"line {i} of the file\n" for i in range(1_500_000))
        d = self.daemon()
        for command in self.COMMANDS:
            with self.subTest(command):
                self.same(d, command)
        self.assertLessEqual(d.status()["cache"]["used"], 32 * MiB)

    def test_open_does_not_wait_for_the_object(self):
        """S15: A read waits only for the chunks that it touches."""
        self.write("big.bin", 200 * MiB)
        d = self.daemon(cache_size="512MiB", lazy_threshold="16MiB")
        self.same(d, "head -c 10 @/big.bin")
        self.same(d, "tail -c 10 @/big.bin")
        self.assertLess(d.status()["store"]["bytes"], 40 * MiB)

    def test_what_was_read_whole_is_an_ordinary_file(self):
        """S15: When all chunks are there, the object becomes an ordinary cache file (S3) for later opens."""
        self.write("big.bin", 20 * MiB + 1)
        d = self.daemon(cache_size="128MiB", lazy_threshold="4MiB")
        self.same(d, "md5sum < @/big.bin")
        wait_for(lambda: d.status()["cache"]["files"] == 1, 20, "the whole file")
        got = d.status()["store"]["bytes"]
        text = self.same(d, "md5sum < @/big.bin")
        self.assertTrue(text)
        self.assertEqual(d.status()["store"]["bytes"], got, "nothing is fetched twice")
        check = d.larder("check").stdout
        self.assertIn("1", check)
        run_program([os.path.join(BUILD, "unseen_static")], d.preload_env())

    def test_warm_makes_large_objects_whole_and_says_what_does_not_fit(self):
        self.write("fits.bin", 12 * MiB)
        self.write("huge.bin", 80 * MiB)
        d = self.daemon()
        d.larder("warm", "/data/lazy/fits.bin")
        self.assertEqual(d.status()["cache"]["files"], 1)
        result = d.larder("warm", "/data/lazy/huge.bin", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("huge.bin", result.stderr)
        self.assertIn("cache_size", result.stderr)


class UnseenTest(LazyTest):
    """S16: a reader that Larder cannot see gets an error, never zeros or a short file."""

    def setUp(self):
        super().setUp()
        self.write("big.bin", 40 * MiB)
        self.d = self.daemon()

    def outcomes(self, text):
        """{way: "errno N"}; fails if a way is missing."""
        found = dict(line.split(" ", 1) for line in text.decode().splitlines())
        self.assertLessEqual({"read", "pread", "mmap", "reopen", "io_uring", "aio_read", "sendfile", "splice"}, set(found))
        return found

    def assert_all_refused(self, text):
        for way, what in self.outcomes(text).items():
            with self.subTest(way):
                self.assertRegex(what, "^errno [1-9]")

    def test_the_program_can_read_at_all(self):
        """On a plain file the same program reads bytes in every way: otherwise its refusals would prove nothing."""
        with open(os.path.join(self.source, "big.bin"), "rb") as f:
            text = subprocess.run([os.path.join(BUILD, "unseen")], stdin=f, capture_output=True, check=True).stdout
        refused = [w for w, what in self.outcomes(text).items() if what.startswith("errno") and w != "io_uring"]
        self.assertEqual(refused, [])

    def test_system_calls_made_by_hand(self):
        self.assert_all_refused(run_program(f"{BUILD}/unseen < /data/lazy/big.bin", self.d.preload_env()).stdout)

    def test_a_static_child(self):
        self.assert_all_refused(run_program(f"{BUILD}/unseen_static < /data/lazy/big.bin", self.d.preload_env()).stdout)

    def test_a_child_whose_preload_was_dropped(self):
        self.assert_all_refused(run_program(f"env -u LD_PRELOAD {BUILD}/unseen < /data/lazy/big.bin", self.d.preload_env()).stdout)

    def test_a_bare_process_that_is_sent_the_descriptor(self):
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        code = ("import os, socket, array; s = socket.socket(fileno=0); fd = os.open('/data/lazy/big.bin', os.O_RDONLY); os.read(fd, 10); "
                "s.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])")
        subprocess.run([PYTHON, "-c", code], env=self.d.preload_env(), stdin=there.fileno(), check=True, timeout=60)
        _, control, _, _ = here.recvmsg(1, socket.CMSG_SPACE(4))
        fd = array.array("i", control[0][2])[0]
        here.close(), there.close()
        try:
            self.assert_all_refused(subprocess.run([os.path.join(BUILD, "unseen")], stdin=fd, capture_output=True, check=True).stdout)
        finally:
            os.close(fd)

    def test_a_preloaded_process_that_is_sent_the_descriptor_reads_on(self):
        """S17: a preloaded process reads on wherever the descriptor came from."""
        code = ("import os, socket, array, hashlib; a, b = socket.socketpair(); fd = os.open('/data/lazy/big.bin', os.O_RDONLY); os.lseek(fd, 1000, 0)\n"
                "if os.fork() == 0:\n"
                "    os.execv('%s', ['python3', '-c', 'import os, socket, array, hashlib, sys; s = socket.socket(fileno=int(sys.argv[1])); "
                "m = s.recvmsg(1, 64); fd = array.array(\"i\", m[1][0][2])[0]; print(hashlib.md5(os.read(fd, 100000)).hexdigest(), flush=True)', str(b.fileno())])\n"
                "a.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))]); os.wait()\n"
                "print(os.lseek(fd, 0, 1))" % sys.executable)
        code = code.replace("socket.socketpair()", "socket.socketpair(); b.set_inheritable(True)")
        bare = run_program([sys.executable, "-c", code.replace("/data/lazy", self.source)], clean_environment())
        ours = run_program([sys.executable, "-c", code], self.d.preload_env())
        self.assertEqual(bare.stdout, ours.stdout, ours.stderr)
        self.assertIn(b"101000", ours.stdout)


@unittest.skipUnless(os.geteuid() == 0, "a userfaultfd that serves the kernel: root")
class TornTest(LazyTest):
    """S18: a chunk that is evicted while it is read is read again."""

    def test_evicted_and_fetched_again_in_the_middle_of_the_copy(self):
        self.write("big.bin", 40 * MiB)
        d = self.daemon(cache_size="32MiB")  # it never becomes whole, and so can be evicted while it is open
        offset, size = 4 * MiB + 4096, 512 * 1024
        evict = f"env -u LD_PRELOAD {LARDER} evict /data/lazy/big.bin >&2"
        fetch = f"head -c {offset + size} /data/lazy/big.bin >/dev/null"
        with open(os.path.join(self.source, "big.bin"), "rb") as f:
            f.seek(offset)
            want = f.read(size)
        for way in ("read", "pread", "readv"):
            for first, second in ((evict, fetch), (evict, "true"), ("true", evict)):
                with self.subTest(way, first=first, second=second):
                    before = d.status()["store"]["bytes"]
                    result = run_program([os.path.join(BUILD, "torn_read"), way, "/data/lazy/big.bin", str(offset), str(size), first, second], d.preload_env())
                    self.assertEqual(result.returncode, 0, result.stderr)
                    self.assertEqual([i for i in range(0, size, 4096) if result.stdout[i:i + 4096] != want[i:i + 4096]], [])
                    self.assertGreater(d.status()["store"]["bytes"], before, "nothing was evicted: the test shows nothing")


class ThreadsTest(LazyTest):
    def test_many_threads_and_more_objects_than_a_process_keeps_open(self):
        for i in range(150):
            self.write(f"f{i}", MiB + i * 1000, seed=i)
        d = self.daemon(cache_size="24MiB", lazy_threshold="256KiB")
        done = subprocess.run([os.path.join(BUILD, "lazy_model"), self.source, "/data/lazy", "5", "60", "threads"], env=d.preload_env(),
                              capture_output=True, timeout=200)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


    def test_many_threads_that_read_one_object_in_small_pieces(self):
        """Threads share what was read ahead, each at another place of the object."""
        self.write("big", 40 * MiB)
        d = self.daemon(cache_size="32MiB")  # it never becomes whole
        done = subprocess.run([os.path.join(BUILD, "lazy_model"), self.source, "/data/lazy", "5", "150", "threads"], env=d.preload_env(),
                              capture_output=True, timeout=200)
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class DescriptorTest(LazyTest):
    """Descriptors that the library keeps of a lazy object: the program cannot break them, and they do not keep the object in the cache."""

    def talk(self, d, code):
        p = subprocess.Popen([PYTHON, "-c", "import os, sys\n" + code], env=d.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.communicate)
        return p

    def test_a_program_that_puts_other_files_over_all_its_descriptors(self):
        self.write("big.bin", 20 * MiB)
        code = ("def others(): return [int(n) for n in os.listdir('/proc/self/fd') if int(n) > 2 and int(n) != fd]\n"
                "want = open('%s/big.bin', 'rb').read()\nfd = os.open('/data/lazy/big.bin', os.O_RDONLY)\n"
                "for path in '/dev/zero', '%s/big.bin', '/', None:\n"
                "    for at in 5, 9000000:\n"
                "        if os.pread(fd, 100000, at) != want[at:at + 100000]: sys.exit(f'{path} at {at}')\n"
                "    other = os.open(path, os.O_RDONLY) if path else -1\n"
                "    for n in others():\n"
                "        if n != other:\n"
                "            try: os.dup2(other, n) if path else os.close(n)\n"
                "            except OSError: pass\n"
                "    if os.pread(fd, 100000, 300) != want[300:100300]: sys.exit(f'{path} afterwards')\n"
                "print('right')" % (self.source, self.source))
        result = run_program([PYTHON, "-c", "import os, sys\n" + code], self.daemon().preload_env())
        self.assertEqual((result.returncode, result.stdout), (0, b"right\n"), result.stderr[-500:])

    def test_a_thread_that_puts_another_file_over_the_descriptor_in_the_middle_of_a_read(self):
        """Between any two of the library's system calls: the other file's bytes must not get through."""
        self.write("big.bin", 40 * MiB)  # never whole in this cache
        other = self.enterContext(tempfile.NamedTemporaryFile(dir="/dev/shm"))  # tmpfs: a file there can stand at any position
        other.truncate(40 * MiB)
        d = self.daemon()
        for way in ("pread", "mmap"):
            program = [os.path.join(BUILD, "stolen_fd"), way, "/data/lazy/big.bin", os.path.join(self.source, "big.bin"), other.name]
            result = run_program(program, d.preload_env())
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_what_became_whole_is_in_use_until_its_handle_is_closed(self):
        self.write("big.bin", 20 * MiB)
        d = self.daemon(cache_size="128MiB", lazy_threshold="4MiB")
        p = self.talk(d, "fd = os.open('/data/lazy/big.bin', os.O_RDONLY)\n"
                         "def read(): return sum(len(os.pread(fd, 1 << 20, at << 20)) for at in range(20))\n"
                         "print(read(), flush=True); sys.stdin.readline(); print(read(), flush=True); sys.stdin.readline()\n"
                         "os.close(fd); print('closed', flush=True); sys.stdin.readline()")
        self.assertEqual(p.stdout.readline(), f"{20 * MiB}\n")
        wait_for(lambda: d.status()["cache"]["files"] == 1, 20, "the whole file")
        p.stdin.write("again\n"), p.stdin.flush()
        self.assertEqual(p.stdout.readline(), f"{20 * MiB}\n")
        d.larder("evict", "/data/lazy/big.bin", check=False)
        self.assertEqual(d.status()["cache"]["files"], 1, "it is in use")
        p.stdin.write("close\n"), p.stdin.flush()
        self.assertEqual(p.stdout.readline(), "closed\n")
        d.larder("evict", "/data/lazy/big.bin")
        self.assertEqual(d.status()["cache"]["files"], 0)


class ChangesTest(LazyTest):
    def lines_of(self, d, code):
        """Output of a program that opened the object as `fd` and read its first 1000 bytes as `a` before the object was replaced."""
        before = ("import os, sys\nfd = os.open('/data/lazy/big.bin', os.O_RDONLY)\na = os.pread(fd, 1000, 0)\n"
                  "print('ready', flush=True); sys.stdin.readline()\n")
        p = subprocess.Popen([PYTHON, "-c", before + code], env=d.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline(), "ready\n")
        self.write("new", 40 * MiB, seed=2)
        os.rename(os.path.join(self.source, "new"), os.path.join(self.source, "big.bin"))
        return p.communicate("go\n", timeout=60)[0].splitlines()

    def test_a_replaced_object_is_stale_for_who_has_it_open_and_new_for_who_opens_it(self):
        """S18: If an object changes in the bucket, its open descriptors get ESTALE, and later opens get the new
        version."""
        self.write("big.bin", 40 * MiB, seed=1)
        lines = self.lines_of(self.daemon(), "for at in range(10 << 20, 40 << 20, 1 << 20):\n"
                              "    try: os.pread(fd, 1000, at)\n"
                              "    except OSError as e: print('errno', e.errno, flush=True); break\n"
                              "import hashlib, time\n"
                              "for i in range(300):\n"
                              "    try: print(hashlib.md5(open('/data/lazy/big.bin', 'rb').read()).hexdigest(), flush=True); break\n"
                              "    except OSError: time.sleep(0.05)\n")
        with open(os.path.join(self.source, "big.bin"), "rb") as f:
            new = hashlib.md5(f.read()).hexdigest()
        self.assertEqual(lines, ["errno 116", new])

    def test_a_read_that_fails_in_the_middle_is_short_and_leaves_the_position_there(self):
        self.write("big.bin", 40 * MiB, seed=1)
        lines = self.lines_of(self.daemon(), "b = os.read(fd, 40 << 20)\nprint(0 < len(b) < 40 << 20 and b[:1000] == a and os.lseek(fd, 0, 1) == len(b))\n"
                              "out = os.memfd_create('x')\n"
                              "for read in (lambda: os.read(fd, 1 << 20)), (lambda: os.readv(fd, [bytearray(1 << 20)])), (lambda: os.sendfile(out, fd, None, 1 << 20)):\n"
                              "    try: print(read())\n"
                              "    except OSError as e: print(e.errno, os.lseek(fd, 0, 1) == len(b))\n")
        self.assertEqual(lines, ["True"] + 3 * ["116 True"])

    def test_the_daemon_away_for_a_while(self):
        """S19: While the daemon is away, chunks that are present stay readable."""
        self.write("big.bin", 20 * MiB)
        d = self.daemon(cache_size="128MiB", lazy_threshold="4MiB", wait_ms=20000)
        code = ("import os, sys, hashlib\nfd = os.open('/data/lazy/big.bin', os.O_RDONLY)\nos.pread(fd, 1000, 0)\nprint('ready', flush=True); sys.stdin.readline()\n"
                "print(len(os.pread(fd, 1000, 0)), flush=True)\nh = hashlib.md5(os.pread(fd, 20 << 20, 0)).hexdigest()\nprint(h)")
        p = subprocess.Popen([PYTHON, "-c", code], env=d.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(p.kill)
        self.assertEqual(p.stdout.readline(), "ready\n")
        d.kill()
        p.stdin.write("go\n"), p.stdin.flush()
        self.assertEqual(p.stdout.readline(), "1000\n")
        d.start()
        out, _ = p.communicate(timeout=60)
        with open(os.path.join(self.source, "big.bin"), "rb") as f:
            self.assertEqual(out.strip(), hashlib.md5(f.read()).hexdigest())
