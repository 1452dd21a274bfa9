"""The keeper: larderd dies, is stopped, replaced or idle, and programs that start meanwhile see their dataset.

What the user would lose: one kill of larderd (out of memory, an upgrade, a crash) in the middle of an epoch is ENOENT or EIO for every
program that starts before somebody notices."""
import array
import errno
import hashlib
import json
import os
import random
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
import unittest

from harness import (LARDER, PYTHON, KeptDaemon, LarderTest, Proxy, alive, clean_environment, content, run_program, s3_environment, s3_server, scratch,
                     tree_digests, wait_for)

SOAK = bool(os.environ.get("LARDER_SOAK"))

READ_ALL = """
import hashlib, os, random, sys
paths = [os.path.join(d, f) for d, _, names in os.walk("/nowhere/x") for f in names]
random.Random(int(sys.argv[1])).shuffle(paths)
for path in paths[:int(sys.argv[2])]:
    with open(path, "rb") as f:
        print(os.path.relpath(path, "/nowhere/x"), hashlib.sha256(f.read()).hexdigest())
"""


KEEPS_OPEN = """
import hashlib, sys
f = open("/nowhere/x/d0/f0000", "rb")
print("up", flush=True)
sys.stdin.readline()
print(hashlib.sha256(f.read()).hexdigest())
print(hashlib.sha256(open("/nowhere/x/d0/f0005", "rb").read()).hexdigest())
try:
    open("/nowhere/x/d1/f0001")
except OSError as e:
    print(e.errno)
"""


def make_files(root, count, size):
    for i in range(count):
        path = os.path.join(root, f"d{i % 5}", f"f{i:04}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content(i, size + i))


def hello(path):
    """The descriptors of a greeting, asked for as a program does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(60)
        s.connect(path)
        s.send(struct.pack("<IHHQ16sIIQ", 0x4452414C, 1, 1, 0, b"", 0, 0, 0))
        data, ancillary, _, _ = s.recvmsg(4096, socket.CMSG_SPACE(62 * 4))
    fds = array.array("i")
    for _, _, payload in ancillary:
        fds.frombytes(payload)
    status = struct.unpack_from("<IHHi", data)[3]
    return status, list(fds)


class Kept(LarderTest):
    def setUp(self):
        self.plain = self.enterContext(scratch("/dev/shm"))
        make_files(self.plain, 20, 5000)
        self.expected = tree_digests(self.plain)

    def daemon(self, **config):
        daemon = self.enterContext(KeptDaemon(**config))
        daemon.larder("mount", "file://" + self.plain, "/nowhere/x")
        return daemon

    def program(self, daemon, *command):
        return subprocess.Popen(command, env=daemon.preload_env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def reads_all(self, daemon):
        out = run_program([PYTHON, "-c", READ_ALL, "1", "1000"], daemon.preload_env())
        self.assertEqual((out.returncode, out.stderr), (0, b""))
        self.assertEqual(dict(line.split() for line in out.stdout.decode().splitlines()), self.expected)

    def sees_cached(self, daemon, name):
        out = run_program(["sh", "-c", f"ls /nowhere/x && cat /nowhere/x/{name} | sha256sum"], daemon.preload_env())
        self.assertEqual((out.returncode, out.stderr), (0, b""))
        self.assertEqual(out.stdout.decode().split()[:6], ["d0", "d1", "d2", "d3", "d4", self.expected[name]])

    def test_one_that_dies_is_replaced_and_its_end_is_told(self):
        daemon = self.daemon()
        for n in (1, 2):
            pid = daemon.kill_larderd()
            status = wait_for(lambda p=pid: daemon.pid() not in (None, p) and daemon.status(), what="another larderd")
            self.assertEqual(status["keeper"], {"pid": daemon.process.pid, "restarts": n, "last_end": "was killed by signal 9 (Killed)"})
            self.assertEqual([m["path"] for m in status["mounts"]], ["/nowhere/x"])
        self.assertEqual(daemon.log_text().count("was killed by signal 9 (Killed); started again in"), 2)
        self.assertIn("the last one was killed by signal 9", daemon.larder("status").stdout)
        self.reads_all(daemon)

    def test_programs_that_start_while_there_is_none(self):
        daemon = self.daemon()
        daemon.larder("warm", "/nowhere/x/d0")
        daemon.hold_starts()
        daemon.kill_larderd()
        self.sees_cached(daemon, "d0/f0000")
        waits = self.program(daemon, "sha256sum", "/nowhere/x/d1/f0001")
        missing = run_program(["cat", "/nowhere/x/none"], daemon.preload_env())
        self.assertIn(os.strerror(errno.ENOENT).encode(), missing.stderr)
        self.assertIsNone(waits.poll())
        daemon.release_start()
        out, err = waits.communicate(timeout=100)
        self.assertEqual((waits.returncode, out.split()[0], err), (0, self.expected["d1/f0001"], ""))

    def test_programs_that_start_while_it_is_stopped(self):
        """S13: Programs that start while the daemon is away, and programs that close or replace the library's descriptor, reach
        cached files and chunks through the keeper."""
        daemon = self.daemon()
        daemon.larder("warm", "/nowhere/x/d0")
        os.kill(daemon.pid(), signal.SIGSTOP)
        self.sees_cached(daemon, "d0/f0000")
        waits = self.program(daemon, "sha256sum", "/nowhere/x/d1/f0001")
        self.sees_cached(daemon, "d0/f0005")
        self.assertIsNone(waits.poll())
        os.kill(daemon.pid(), signal.SIGCONT)
        out, err = waits.communicate(timeout=100)
        self.assertEqual((waits.returncode, out.split()[0], err), (0, self.expected["d1/f0001"], ""))
        self.assertEqual(daemon.status()["keeper"]["restarts"], 0)

    def test_a_stopped_one_that_is_killed(self):
        daemon = self.daemon()
        os.kill(daemon.pid(), signal.SIGSTOP)
        waits = self.program(daemon, "sha256sum", "/nowhere/x/d1/f0001")
        self.assertEqual(hello(daemon.socket)[0], 0)  # the keeper answers by now, so it has taken what waits
        daemon.kill_larderd()
        out, err = waits.communicate(timeout=100)
        self.assertEqual((waits.returncode, out.split()[0], err), (0, self.expected["d1/f0001"], ""))

    def test_the_keepers_greeting_of_a_restricted_dataset(self):
        if os.geteuid() != 0:
            self.skipTest("a dataset is restricted by root")
        daemon = self.enterContext(KeptDaemon())
        for folder in (daemon.work, daemon.cache, self.plain):
            os.chmod(folder, 0o755)
        daemon.larder("format", "closed", "file://" + self.plain, "--group", "daemon")
        daemon.larder("mount", "closed", "/nowhere/y")
        daemon.larder("mount", "file://" + self.plain, "/nowhere/xx")
        for stopped in (False, True):
            if stopped:
                os.kill(daemon.pid(), signal.SIGSTOP)
            status, fds = hello(daemon.socket)
            self.assertEqual((status, len(fds)), (0, 4))
            self.assertTrue(stat.S_ISREG(os.fstat(fds[2]).st_mode))  # touch of /nowhere/xx
            self.assertEqual(stat.S_ISCHR(os.fstat(fds[3]).st_mode), stopped, "root may read it; the keeper does not look who asks")
            for fd in fds:
                os.close(fd)
        as_other = ["setpriv", "--reuid", "61001", "--regid", "61001", "--clear-groups"]
        out = run_program([*as_other, "sh", "-c", "cat /nowhere/y/d0/f0000 >/dev/null; ls /nowhere/xx"], daemon.preload_env())
        self.assertEqual(out.stdout.decode().split(), ["d0", "d1", "d2", "d3", "d4"])
        self.assertIn(os.strerror(errno.EACCES).encode(), out.stderr)

    def test_an_upgrade_is_a_restart_under_a_listening_socket(self):
        daemon = self.daemon()
        pid = daemon.pid()
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.pid() not in (None, pid), what="another larderd")
        self.reads_all(daemon)
        self.assertEqual(daemon.status()["keeper"]["last_end"], "ended with status 0")

    def test_shutdown_ends_both(self):
        for end in (lambda d: d.larder("shutdown"), lambda d: d.process.terminate()):
            daemon = self.daemon()
            pid = daemon.pid()
            end(daemon)
            self.assertEqual(daemon.process.wait(60), 0)
            self.assertFalse(alive(pid))
            self.assertEqual([n for n in os.listdir(daemon.work) if n.startswith("s.") and n != "s.mounts"], [])
            self.assertFalse(os.path.exists(daemon.socket))

    def test_what_programs_have_open_outlives_the_keeper(self):
        """S13a: a keeper that is killed is as if the node had restarted."""
        daemon = self.daemon(wait_ms=500)
        daemon.larder("warm", "/nowhere/x/d0")
        program = subprocess.Popen([PYTHON, "-c", KEEPS_OPEN], env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.assertEqual(program.stdout.readline(), "up\n")
        pid = daemon.pid()
        daemon.kill()
        wait_for(lambda: not alive(pid), what="the end of larderd with its keeper")
        out, _ = program.communicate("\n", timeout=60)
        self.assertEqual(out.split(), [self.expected["d0/f0000"], self.expected["d0/f0005"], str(errno.EIO)])
        daemon.start()
        self.reads_all(daemon)

    def test_systemd_keeps_the_socket_of_a_keeper_that_dies(self):
        path = os.path.join(self.enterContext(scratch()), "notify")
        systemd = self.enterContext(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        systemd.settimeout(80)
        systemd.bind(path)
        daemon = self.enterContext(KeptDaemon(env={"NOTIFY_SOCKET": path}, wait_ms=60_000))
        daemon.mount("file://" + self.plain, "/nowhere/x")
        kept = {}
        while (message := systemd.recvmsg(1000, socket.CMSG_SPACE(4)))[0] != b"READY=1":
            for _, _, payload in message[1]:
                kept[message[0]] = struct.unpack("i", payload)[0]
        listening = kept.pop(b"FDSTORE=1\nFDNAME=larder-socket\nFDPOLL=0")
        self.addCleanup(os.close, listening)
        pid = daemon.pid()
        daemon.kill()
        wait_for(lambda: not alive(pid), what="the end of larderd")
        waits = self.program(daemon, "sha256sum", "/nowhere/x/d1/f0001")  # connects to what systemd holds
        daemon.prefix = ["/bin/sh", "-c", f'exec 3<&{listening}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=larder-socket exec "$@"', "sh"]
        os.set_inheritable(listening, True)
        daemon.start(close_fds=False)
        out, err = waits.communicate(timeout=100)
        self.assertEqual((waits.returncode, out.split()[0], err), (0, self.expected["d1/f0001"], ""))

    def test_it_is_small_and_sleeps(self):
        daemon = self.daemon()
        self.reads_all(daemon)
        with open(f"/proc/{daemon.process.pid}/status") as f:
            resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))
        self.assertLess(resident, 2048)

        def cpu():
            with open(f"/proc/{daemon.process.pid}/stat") as f:
                return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13])
        before = cpu()
        time.sleep(1)
        self.assertLessEqual(cpu() - before, 1)

    def test_clients_that_say_nothing_do_not_keep_others_out(self):
        daemon = self.daemon()
        os.kill(daemon.pid(), signal.SIGSTOP)
        silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(300)]
        try:
            for s in silent:
                s.connect(daemon.socket)
            status, fds = hello(daemon.socket)
            self.assertEqual(status, 0)
            for fd in fds:
                os.close(fd)
        finally:
            for s in silent:
                s.close()


class Killed(LarderTest):
    """kill -9 of larderd, again and again, in a cold epoch, while programs start all the time. With LARDER_SOAK=1: 1,000 times."""
    FILES, KILLS = (3000, 1000) if SOAK else (300, 12)

    def test_no_program_notices(self):
        import s3_put
        plain = self.enterContext(scratch("/dev/shm"))
        make_files(plain, self.FILES, 3000)
        expected = tree_digests(plain)
        server = self.enterContext(s3_server(self.enterContext(scratch())))
        s3_put.put_tree(server.endpoint, server.access_key, server.secret_key, plain, "bucket", "p/")
        proxy = self.enterContext(Proxy(server.endpoint, latency_ms=5))
        daemon = self.enterContext(KeptDaemon(env=s3_environment(server), log_level="info"))
        daemon.mount("s3://bucket/p", "/nowhere/x", endpoint=proxy.endpoint)
        stop, failures, programs, files = threading.Event(), [], [0], [0]

        def start_programs(seed):
            rng = random.Random(seed)
            while not stop.is_set():
                out = run_program([PYTHON, "-S", "-c", READ_ALL, str(rng.randrange(10**9)), "10"], daemon.preload_env(), timeout=300)
                got = dict(line.split() for line in out.stdout.decode().splitlines())
                wrong = [name for name in got if got[name] != expected[name]]
                programs[0] += 1
                files[0] += len(got)
                if out.returncode or out.stderr or len(got) != 10 or wrong:
                    failures.append((out.returncode, out.stderr.decode()[-500:], wrong))
                    return

        threads = [threading.Thread(target=start_programs, args=(seed,)) for seed in range(3)]
        for t in threads:
            t.start()
        rng = random.Random(7)
        try:
            for n in range(self.KILLS):
                pid = wait_for(daemon.pid, what="larderd")
                time.sleep(rng.random() * 0.4)  # any moment of its start or its work
                if n % 10 == 9:  # cold again
                    daemon.larder("evict", "/nowhere/x", check=False)
                try:
                    os.kill(daemon.pid() or pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                if failures:
                    break
        finally:
            stop.set()
            for t in threads:
                t.join()
        print(f"\n{programs[0]} programs, {files[0]} files, {daemon.status()['keeper']['restarts']} larderds after the first", flush=True)
        self.assertEqual(failures, [])
        self.assertGreaterEqual(daemon.status()["keeper"]["restarts"], self.KILLS // 2)


class PrivateRuns(LarderTest):
    """`larder run` starts the keeper; larderd comes and goes below it."""

    def setUp(self):
        self.work = self.enterContext(scratch())
        self.shm = self.enterContext(scratch("/dev/shm"))
        self.env = {**clean_environment(), "LARDER_SOCKET": os.path.join(self.work, "run", "s"), "XDG_STATE_HOME": os.path.join(self.work, "state"),
                    "HOME": self.work}
        self.plain = os.path.join(self.shm, "plain")
        make_files(self.plain, 20, 5000)
        self.addCleanup(self.larder, "shutdown")

    def larder(self, *words):
        return subprocess.run([LARDER, *words], env=self.env, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL, check=False)

    def run_larder(self, *command, options=(), **env):
        return subprocess.run([LARDER, "run", "--mount", f"file://{self.plain}=/nowhere/x", "--cache-dir", self.shm + "/c", "--cache-size", "64M", "-q",
                               *options, "--", *command], env={**self.env, **env}, capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, check=False)

    def status(self):
        return json.loads(self.larder("status", "--json").stdout)

    def idle(self):
        """A run whose larderd has ended; the keeper's pid."""
        done = self.run_larder("cksum", "/nowhere/x/d0/f0000", options=["--linger", "1"])
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        status = self.status()
        wait_for(lambda: not alive(status["pid"]), 20, "the end of an idle larderd")
        self.assertTrue(alive(status["keeper"]["pid"]))
        return status["keeper"]["pid"]

    def test_after_linger_the_next_run_finds_keeper_and_cache(self):
        keeper = self.idle()
        done = self.run_larder("sh", "-c", "cat /nowhere/x/d0/f0000 | sha256sum", options=["--linger", "300"], MARK_OF_THE_SECOND="yes")
        with open(self.plain + "/d0/f0000", "rb") as f:
            self.assertEqual((done.returncode, done.stdout.split()[0]), (0, hashlib.sha256(f.read()).hexdigest()), done.stderr)
        status = self.status()
        self.assertEqual((status["keeper"]["pid"], status["keeper"]["restarts"], status["store"]["gets"]), (keeper, 0, 0))
        with open(f"/proc/{status['pid']}/environ", "rb") as f:
            variables = f.read().split(b"\0")
        self.assertIn(b"MARK_OF_THE_SECOND=yes", variables)
        self.assertEqual([v for v in variables if v.startswith((b"LD_PRELOAD", b"LARDER_SOCKET"))], [])

    def test_shutdown_of_an_idle_keeper_starts_no_larderd(self):
        keeper = self.idle()
        self.assertEqual(self.larder("shutdown").returncode, 0)
        wait_for(lambda: not alive(keeper), what="the end of the keeper")
        self.assertFalse(os.path.exists(self.env["LARDER_SOCKET"]))
        with open(os.path.join(self.work, "state/larder", next(n for n in os.listdir(self.work + "/state/larder") if n.endswith(".log")))) as f:
            self.assertEqual(f.read().count(" serves "), 1)

    def test_a_larderd_that_dies_keeps_the_runs_mounts(self):
        pid_file = os.path.join(self.work, "pid")
        script = f'{LARDER} status --json > {pid_file}; kill -9 $(sed "s/.*\\"pid\\":\\([0-9]*\\),\\"private.*/\\1/" {pid_file}); cat /nowhere/x/d1/f0001 | sha256sum'
        done = self.run_larder("sh", "-c", script, options=["--fill", "off"])
        with open(self.plain + "/d1/f0001", "rb") as f:
            self.assertEqual((done.returncode, done.stdout.split()[0]), (0, hashlib.sha256(f.read()).hexdigest()), done.stderr)
        self.assertEqual(self.status()["keeper"]["restarts"], 1)
        self.assertIn("was killed by signal 9", self.larder("status").stdout)


if __name__ == "__main__":
    unittest.main()
