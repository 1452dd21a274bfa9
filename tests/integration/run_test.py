"""`larder run`: mounts, becomes the command, and leaves nothing behind that it should not."""
import errno
import glob
import json
import os
import re
import resource
import signal
import subprocess
import time
import unittest

from harness import LARDER, LIBRARY, PYTHON, LarderTest, alive, clean_environment, make_tree, run_program, scratch, wait_for


class RunCase(LarderTest):
    """Every test has its own user's folders: home, runtime and cache."""

    def setUp(self):
        self.work = self.enterContext(scratch())
        self.shm = self.enterContext(scratch("/dev/shm"))
        self.socket = os.path.join(self.work, "run", "s")
        self.cache = os.path.join(self.shm, "cache")
        self.env = {**clean_environment(), "LARDER_SOCKET": self.socket, "XDG_STATE_HOME": os.path.join(self.work, "state"), "HOME": self.work}
        self.plain = os.path.join(self.shm, "plain")
        make_tree(self.plain)
        self.addCleanup(self.end_daemon)

    def end_daemon(self):
        pid = self.daemon_pid()
        if pid:
            subprocess.run([LARDER, "shutdown"], env=self.env, capture_output=True, check=False)
            try:
                wait_for(lambda: not alive(pid), 15, "the end of larderd")
            except AssertionError:
                os.kill(pid, signal.SIGKILL)
                raise

    def daemon_pid(self):
        result = subprocess.run([LARDER, "status", "--json"], env=self.env, capture_output=True, text=True, check=False)
        return json.loads(result.stdout)["pid"] if result.returncode == 0 else None

    def run_larder(self, *command, mounts=None, options=(), **env):
        mounts = ["file://" + self.plain + "=/data/x"] if mounts is None else mounts
        words = [w for m in mounts for w in ("--mount", m)]
        size = [] if "--cache-size" in options else ["--cache-size", "64M"]
        return subprocess.run([LARDER, "run", *words, "--cache-dir", self.cache, *size, *options, "--", *command], capture_output=True,
                              text=True, env={**self.env, **env}, timeout=120, stdin=subprocess.DEVNULL, check=False)

    def daemons_of_this_test(self):
        """Pids of processes that have our socket folder open or in their command line or environment."""
        found = []
        for path in glob.glob("/proc/[0-9]*"):
            try:
                with open(path + "/environ", "rb") as f, open(path + "/comm") as c:
                    if self.work.encode() in f.read() and c.read().strip() == "larderd":
                        found.append(int(path[6:]))
            except OSError:
                continue
        return found


class Messages(RunCase):
    """What our programs say is lost where it cannot be written; what they do is done."""

    def run_to(self, stdout=subprocess.PIPE, stderr=subprocess.PIPE, command=("run",), **more):
        words = [LARDER, "run", "--mount", f"file://{self.plain}=/data/x", "--cache-dir", self.cache, "--cache-size", "64M", "--", "/bin/cat", "/data/x/top.txt"]
        return subprocess.run(words if command == ("run",) else [LARDER, *command], env=self.env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                              timeout=60, check=False, **more)

    def content(self):
        with open(os.path.join(self.plain, "top.txt"), "rb") as f:
            return f.read()

    def test_a_stderr_that_cannot_be_written_keeps_no_command_from_running(self):
        reader, writer = os.pipe()
        os.close(reader)  # who read it has gone
        limit = os.open(os.path.join(self.work, "limited"), os.O_WRONLY | os.O_CREAT)
        with open("/dev/full", "wb") as full:
            streams = {"a full disk": {"stderr": full}, "a pipe without a reader": {"stderr": writer}, "closed": {"preexec_fn": lambda: os.close(2)},
                       "ulimit -f": {"stderr": limit, "preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))}}
            for name, how in streams.items():
                with self.subTest(stderr=name):
                    result = self.run_to(**how)
                    self.assertEqual((result.returncode, result.stdout), (0, self.content()))

    def test_the_command_gets_the_streams_and_signals_that_the_caller_gave(self):
        show = "grep -h SigIgn /proc/self/status; test -e /proc/self/fd/2 && echo open || echo closed"
        words = [LARDER, "run", "-q", "--mount", f"file://{self.plain}=/data/x", "--cache-dir", self.cache, "--cache-size", "64M", "--"]
        told = [subprocess.run([*w, "/bin/sh", "-c", show], env=self.env, stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2), timeout=60, check=False).stdout
                for w in ([], words)]
        self.assertEqual(told[1], told[0])

    def test_a_command_whose_work_is_its_output_says_that_it_was_not_written(self):
        self.run_to()
        with open("/dev/full", "wb") as full:
            for command in (("status",), ("status", "--json"), ("doctor",), ("sync", "--dry-run", self.plain, self.work + "/copy"), ("--help",)):
                result = self.run_to(command=command, stdout=full)
                self.assertEqual((result.returncode, result.stderr.count(b"could not be written: No space left on device")), (1, 1), (command, result.stderr))
            self.assertEqual(self.run_to(command=("status",), stdout=full, stderr=full).returncode, 1)

    def test_a_command_that_does_something_does_it(self):
        self.run_to()
        with open("/dev/full", "wb") as full:
            for command in (("warm", "/data/x"), ("sync", "-v", self.plain, self.work + "/copy"), ("evict", "/data/x")):
                result = self.run_to(command=command, stdout=full, stderr=full)
                self.assertEqual(result.returncode, 0, command)
        self.assertEqual(sorted(os.listdir(self.work + "/copy")), sorted(os.listdir(self.plain)))

    def test_larderd_serves_with_a_log_that_cannot_be_written(self):
        os.makedirs(os.path.join(self.work, "state", "larder"), exist_ok=True)
        for log in glob.glob(self.work + "/state/larder/*.log"):
            os.unlink(log)
        self.run_to(preexec_fn=lambda: os.close(2))
        [log] = glob.glob(self.work + "/state/larder/*.log")
        self.end_daemon()
        os.unlink(log)
        os.symlink("/dev/full", log)  # not followed: as a log that cannot be made
        result = self.run_to()
        self.assertEqual((result.returncode, result.stdout), (0, self.content()))
        self.assertIn(b"what larderd says is lost", result.stderr)


class Run(RunCase):
    def test_the_command_sees_the_mount_and_its_status_is_ours(self):
        result = self.run_larder("/bin/sh", "-c", "cat /data/x/top.txt; exit 7")
        with open(os.path.join(self.plain, "top.txt")) as f:
            self.assertEqual((result.returncode, result.stdout), (7, f.read()), result.stderr)
        self.assertIn("file://" + self.plain + " at /data/x", result.stderr)

    def test_a_signal_ends_the_command_as_without_us(self):
        self.assertEqual(self.run_larder("/bin/sh", "-c", "kill -TERM $$").returncode, -signal.SIGTERM)

    def test_arguments_stdin_and_descriptors_pass_unchanged(self):
        script = "import sys, os; print(sys.argv[1:], sys.stdin.read(), sorted(map(int, os.listdir('/proc/self/fd')))[:3])"
        words = [LARDER, "run", "--mount", f"file://{self.plain}=/data/x", "--cache-dir", self.cache, "-q", "--", PYTHON, "-c", script, "--", "-x",
                 "--mount", "a b", ""]
        result = subprocess.run(words, env=self.env, input="given", capture_output=True, text=True, check=False)
        self.assertEqual((result.stdout, result.stderr), ("['--', '-x', '--mount', 'a b', ''] given [0, 1, 2]\n", ""))

    def test_the_environment_of_the_command(self):
        result = self.run_larder("/usr/bin/env", LD_PRELOAD="/nonexistent-but-kept.so")
        env = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
        self.assertEqual(env["LD_PRELOAD"], os.path.realpath(LIBRARY) + ":/nonexistent-but-kept.so")
        self.assertEqual((env["LARDER_SOCKET"], env["LARDER_CACHE"]), (self.socket, self.cache))

    def test_the_second_run_finds_the_cache_warm(self):
        command = (PYTHON, "-c", "import os\nprint(sum(len(open(os.path.join(d, f), 'rb').read()) for d, _, n in os.walk('/data/x') for f in n))")
        first = self.run_larder(*command, options=["--fill", "off"])
        size = sum(os.path.getsize(os.path.join(d, f)) for d, _, n in os.walk(self.plain) for f in n)
        self.assertEqual((first.returncode, first.stdout.strip()), (0, str(size)), first.stderr)
        before = self.status()
        second = self.run_larder(*command)
        self.assertEqual(second.stdout, first.stdout)
        self.assertEqual(self.status()["store"]["gets"], before["store"]["gets"])
        self.assertGreater(self.status()["reads"]["warm_opens"], before["reads"]["warm_opens"])
        # Also after that daemon has ended.
        self.end_daemon()
        self.run_larder(*command, options=["--fill", "off"])
        self.assertEqual(self.status()["store"]["gets"], 0)

    def status(self):
        return json.loads(run_program([LARDER, "status", "--json"], self.env).stdout)

    def test_the_private_daemon_goes_away_by_itself_and_its_keeper_stays(self):
        self.assertEqual(self.run_larder("/bin/true", options=["--linger", "1"]).returncode, 0)
        status = self.status()
        wait_for(lambda: not alive(status["pid"]), 20, "the end of an idle private larderd")
        self.assertTrue(alive(status["keeper"]["pid"]))
        self.end_daemon()
        wait_for(lambda: not alive(status["keeper"]["pid"]), what="the end of its keeper")
        self.assertFalse(os.path.exists(self.socket))

    def test_it_stays_while_a_program_runs(self):
        command = "sleep 4; cat /data/x/sizes/110000.bin | wc -c"
        result = self.run_larder("/bin/sh", "-c", command, options=["--linger", "1", "--fill", "off"])
        self.assertEqual((result.returncode, result.stdout.strip()), (0, "110000"), result.stderr)

    def test_it_stays_while_the_command_lives_though_the_library_is_not_in_it(self):
        launcher = os.path.join(self.work, "launcher")
        source = "int sleep(unsigned), execv(const char*, char**);\nint main(int c, char** v) { sleep(4); execv(v[1], v + 1); return 9; }\n"
        built = run_program(["gcc", "-w", "-static", "-x", "c", "-", "-o", launcher], self.env, data=source.encode())
        self.assertEqual(built.returncode, 0, built.stderr)
        result = self.run_larder(launcher, "/bin/cat", "/data/x/top.txt", options=["--linger", "1", "--fill", "off"])
        with open(os.path.join(self.plain, "top.txt")) as f:
            self.assertEqual((result.returncode, result.stdout), (0, f.read()), result.stderr)

    def test_an_object_larger_than_a_file_may_be(self):
        limit = 1 << 20
        words = [LARDER, "run", "--mount", f"file://{self.plain}=/data/x", "--cache-dir", self.cache, "--cache-size", "64M", "-q", "--", "/bin/sh", "-c",
                 "cat /data/x/sizes/5242883.bin; cat /data/x/sizes/1.bin | wc -c"]
        result = subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=120, check=False,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
        self.assertEqual(result.stdout, "1\n")
        self.assertIn(os.strerror(errno.EFBIG), result.stderr)
        self.assertTrue(self.daemon_pid(), "larderd died")

    def test_the_daemon_is_nobodys_child_and_holds_none_of_our_files(self):
        result = self.run_larder(PYTHON, "-c", "import os\ntry: os.waitpid(-1, os.WNOHANG); print('a child')\nexcept ChildProcessError: print('none')")
        self.assertEqual(result.stdout, "none\n", result.stderr)  # and capture_output returned: the daemon does not hold the pipe
        pid = self.daemon_pid()
        with open(f"/proc/{pid}/stat") as f:
            session = int(f.read().rsplit(")", 1)[1].split()[3])
        self.assertNotEqual(session, os.getsid(0))
        with open(f"/proc/{pid}/environ", "rb") as f:
            self.assertNotIn(b"LD_PRELOAD", f.read())

    def test_runs_at_once_start_one_daemon(self):
        words = [LARDER, "run", "--mount", f"file://{self.plain}=/data/x", "--cache-dir", self.cache, "-q", "--", "md5sum", "/data/x/top.txt"]
        runs = [subprocess.Popen(words, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(6)]
        outs = [r.communicate(timeout=60) for r in runs]
        self.assertEqual([r.returncode for r in runs], [0] * 6, outs)
        self.assertEqual(len({out for out, _ in outs}), 1)
        self.assertEqual(len(self.daemons_of_this_test()), 1)

    def test_commands_that_cannot_be_run(self):
        self.assertEqual(self.run_larder("/no/such/program").returncode, 127)
        self.assertEqual(self.run_larder(self.plain + "/top.txt").returncode, 126)
        self.assertEqual(self.daemons_of_this_test(), [], "a daemon was started for nothing")
        self.assertEqual(self.run_larder("/data/x/none").returncode, 127)

    def test_a_program_that_passes_by_is_told_so_once(self):
        static = os.path.join(self.work, "static")
        with open(static + ".c", "w") as f:
            f.write('#include <stdio.h>\nint main(void) { puts("ran"); return 0; }\n')
        if subprocess.run(["gcc", "-static", "-o", static, static + ".c"], check=False, capture_output=True).returncode != 0:
            self.skipTest("gcc cannot link statically here")
        result = self.run_larder(static)
        self.assertEqual((result.returncode, result.stdout), (0, "ran\n"))
        self.assertEqual(len(re.findall("statically linked", result.stderr)), 1, result.stderr)
        doctor = run_program([LARDER, "doctor", static], self.env)
        self.assertEqual(doctor.returncode, 1)
        self.assertIn(b"statically linked", doctor.stdout)
        script = os.path.join(self.work, "script")
        with open(script, "w") as f:
            f.write(f"#!{static}\n")
        os.chmod(script, 0o755)
        self.assertEqual(len(re.findall("statically linked", self.run_larder(script).stderr)), 1)

    def test_a_program_with_calls_of_its_own_is_told_so_once(self):
        raw, source = os.path.join(self.work, "raw"), os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compat", "programs", "raw_opens.c")
        subprocess.run(["gcc", "-O1", "-o", raw, source], check=True, capture_output=True)
        result = self.run_larder(raw, "/data/x/top.txt")
        self.assertEqual((result.returncode, result.stdout), (0, "raw No such file or directory, libc opened\n"))
        self.assertEqual(len(re.findall("past the library: openat", result.stderr)), 1, result.stderr)
        self.assertNotIn("past the library", self.run_larder("cat", "/data/x/top.txt").stderr)

    def test_preload_by_hand(self):
        self.run_larder("/bin/true")
        result = run_program(["cat", "/data/x/top.txt"], {**self.env, "LD_PRELOAD": LIBRARY})
        with open(os.path.join(self.plain, "top.txt"), "rb") as f:
            self.assertEqual((result.returncode, result.stdout), (0, f.read()), result.stderr)

    def test_a_run_inside_a_run(self):
        other = os.path.join(self.shm, "other")
        make_tree(other)
        inner = f'exec "{LARDER}" run -q --mount "file://{other}=/data/y" -- diff -r /data/x /data/y'
        result = self.run_larder("/bin/sh", "-c", inner, options=["-q"])
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_doctor_is_content(self):
        self.run_larder("/bin/true")
        result = run_program([LARDER, "doctor", "python3"], self.env)
        self.assertEqual(result.returncode, 0, result.stdout.decode())
        for part in (b"ok    socket", b"ok    daemon", b"ok    library", b"ok    mount", b"ok    command"):
            self.assertIn(part, result.stdout)

    def test_two_mounts_of_one_run(self):
        result = self.run_larder("diff", "-r", "/data/x", "/data/y/z", mounts=[f"file://{self.plain}=/data/x", f"file://{self.plain}=/data/y/z"])
        self.assertEqual((result.returncode, result.stdout), (0, ""), result.stderr)


class BadInput(RunCase):
    """Each failure is one line that names the value and the remedy, has an exit status, and leaves nothing half-made."""

    def assert_nothing_left(self, pids=()):
        self.assertEqual([p for p in self.daemons_of_this_test() if p not in pids], [])
        if not pids:
            self.assertFalse(os.path.exists(self.socket), "a socket was left")
            self.assertFalse(os.path.exists(self.cache), "a cache directory was left")
            self.assertFalse(os.path.exists(os.path.dirname(self.socket)), "a folder was left")

    def refused(self, mounts, *parts, options=(), **env):
        result = self.run_larder("/bin/true", mounts=mounts, options=options, **env)
        self.assertEqual(result.returncode, 125, result.stderr)
        self.assert_one_line(result, *parts)
        self.assert_nothing_left()
        return result

    def test_malformed_words(self):
        self.refused(["file:///dir"], "file:///dir", "SRC=PATH")
        self.refused(["file:///dir=data/x"], "file:///dir=data/x", "SRC=PATH")
        self.refused(["s3://=/data/x"], "s3://")
        self.refused(["nfs://host/dir=/data/x"], "nfs", "s3, bos, http, https and file")
        self.refused([f"file://{self.plain}=/data/x"], "colour", options=["--option", "colour=red"])
        self.refused([f"file://{self.plain}=/data/x"], "12Q", options=["--cache-size", "12Q"])

    def test_a_folder_that_is_not_there(self):
        self.refused(["file:///no/such/folder=/data/x"], "/no/such/folder")

    def test_an_unreachable_endpoint(self):
        self.refused(["s3://bucket/p=/data/x"], "127.0.0.1:9", options=["--option", "endpoint=http://127.0.0.1:9", "--option", "retries=1"],
                     AWS_ACCESS_KEY_ID="A", AWS_SECRET_ACCESS_KEY="B", AWS_REGION="us-east-1")

    def test_a_malformed_endpoint(self):
        self.refused(["s3://bucket/p=/data/x"], "no url", options=["--option", "endpoint=no url"], AWS_ACCESS_KEY_ID="A", AWS_SECRET_ACCESS_KEY="B")

    def test_no_credentials(self):
        result = self.refused(["s3://bucket/p=/data/x"], options=["--option", "endpoint=http://127.0.0.1:9"], AWS_EC2_METADATA_DISABLED="true")
        self.assertRegex(result.stderr.lower(), "credential|access_key")

    def test_a_cache_larger_than_its_file_system(self):
        self.refused([f"file://{self.plain}=/data/x"], "cache_size", options=["--cache-size", "900T"])

    def test_a_taken_path_names_both_sources(self):
        self.assertEqual(self.run_larder("/bin/true").returncode, 0)
        pid = self.daemon_pid()
        other = os.path.join(self.shm, "other")
        make_tree(other)
        result = self.run_larder("/bin/true", mounts=[f"file://{other}=/data/y", f"file://{other}=/data/x"])
        self.assertEqual(result.returncode, 125)
        errors = [line for line in result.stderr.splitlines() if "already mounted" in line]
        self.assertEqual(len(errors), 1, result.stderr)
        for part in ("file://" + self.plain, "file://" + other, "umount"):
            self.assertIn(part, errors[0])
        status = json.loads(run_program([LARDER, "status", "--json"], self.env).stdout)
        self.assertEqual([m["path"] for m in status["mounts"]], ["/data/x"], "the first mount of the failed run was left")
        self.assertEqual(self.daemons_of_this_test(), [pid])
        self.assertEqual(run_program([LARDER, "umount", "/data/none"], self.env).returncode, 1)

    def test_requests_about_what_is_not_there(self):
        self.run_larder("/bin/true")
        for words, part in ((["umount", "/data/none"], "/data/none"), (["refresh", "nothing"], "nothing"), (["warm", "/data/none"], "/data/none"),
                            (["warm", "/data/x/none"], "none"), (["evict", "/elsewhere"], "/elsewhere"), (["mount", "nothing", "/data/z"], "nothing"),
                            (["format", "bad name", "s3://b"], "bad name"), (["format", "x", "what"], "what"),
                            (["mount", "file://" + self.plain, "relative"], "relative"), (["mount", "file://" + self.plain, "/"], "/")):
            with self.subTest(words=words):
                result = subprocess.run([LARDER, *words], env=self.env, capture_output=True, text=True, check=False)
                self.assert_one_line(result, part)

    def test_a_malformed_configuration_file(self):
        from harness import LARDERD
        for text, part in (("cache_size = ", "larder.toml:1"), ("cache_size = \"lots\"", "lots"), ("colour = 1", "colour"), ("[[mount]]\npath = \"x\"\nsource = \"file:///\"", "\"x\""),
                           ("fill = \"sometimes\"", "sometimes")):
            with self.subTest(text=text):
                path = os.path.join(self.work, "larder.toml")
                with open(path, "w") as f:
                    f.write(f"{text}\n")
                result = subprocess.run([LARDERD, "--config", path, "--socket", self.socket, "--cache-dir", self.cache], env=self.env, capture_output=True,
                                        text=True, timeout=20, check=False)
                self.assertNotEqual(result.returncode, 0)
                self.assertEqual(len(result.stderr.strip().splitlines()), 1, result.stderr)
                self.assertIn(part, result.stderr)
                self.assert_nothing_left()

    def test_a_library_that_is_missing(self):
        result = self.run_larder("/bin/true", LARDER_LIB="/no/liblarder.so")
        self.assertEqual(result.returncode, 125)
        self.assert_one_line(result, "/no/liblarder.so")
        self.assert_nothing_left()

    def test_secrets_stay_off_command_lines_and_logs(self):
        result = self.run_larder("/bin/true", options=["--option", "secret_key=hunter2hunter2"])
        self.assertEqual(result.returncode, 125)
        self.assertNotIn("hunter2", result.stderr)
        self.run_larder("/bin/true", AWS_SECRET_ACCESS_KEY="hunter3hunter3", AWS_ACCESS_KEY_ID="A")
        pid = self.daemon_pid()
        with open(f"/proc/{pid}/cmdline") as f:
            self.assertNotIn("hunter", f.read())
        for log in glob.glob(os.path.join(self.work, "state", "larder", "*.log")):
            with open(log) as f:
                self.assertNotIn("hunter", f.read())


class BadStore(RunCase):
    """A real S3 server that says no."""

    @classmethod
    def setUpClass(cls):
        from harness import s3_environment, s3_server
        cls.server = cls.enterClassContext(s3_server(cls.enterClassContext(scratch())))
        cls.keys = s3_environment(cls.server)

    def refused(self, mount, *parts, **env):
        result = self.run_larder("/bin/true", mounts=[mount], options=["--option", f"endpoint={self.server.endpoint}"], **{**self.keys, **env})
        self.assertEqual(result.returncode, 125, result.stderr)
        self.assert_one_line(result, *parts)
        self.assertEqual(self.daemons_of_this_test(), [])
        self.assertFalse(os.path.exists(self.socket) or os.path.exists(self.cache))
        return result

    def test_an_unknown_bucket(self):
        self.refused("s3://no-such-bucket/p=/data/x", "no-such-bucket")

    def test_a_wrong_key(self):
        result = self.refused("s3://larder-ready/p=/data/x", "larder-ready", AWS_SECRET_ACCESS_KEY="wrongwrongwrong")
        self.assertNotIn("wrongwrongwrong", result.stderr)
        self.refused("s3://larder-ready/p=/data/x", "larder-ready", AWS_ACCESS_KEY_ID="NOBODY")

    def test_changed_credentials_of_a_running_daemon(self):
        endpoint = ["--option", f"endpoint={self.server.endpoint}"]
        good = self.run_larder("/bin/true", mounts=[f"file://{self.plain}=/data/f"], **{**self.keys, "AWS_SECRET_ACCESS_KEY": "old-and-wrong"})
        self.assertEqual(good.returncode, 0, good.stderr)
        result = self.run_larder("/bin/true", mounts=["s3://larder-ready=/data/s"], options=endpoint, **self.keys)
        self.assertEqual(result.returncode, 125)
        self.assertIn("larder shutdown", result.stderr)
        time.sleep(0.1)
        self.assertTrue(self.daemon_pid(), "somebody else's daemon was ended")


if __name__ == "__main__":
    unittest.main()
