"""Programs that no larderd answers: what they cannot know is never "No such file or directory".

What the user would lose: a job that starts while larderd is stopped, dead or busy sees an empty disk (or an old copy below the mount)
where its dataset should be, and trains on that or ends with an error that names the wrong cause."""
import errno
import os
import resource
import signal
import subprocess
import unittest

from harness import LIBRARY, PYTHON, Daemon, LarderTest, clean_environment, run_program, scratch, wait_for

PATHS = """
import errno, os, sys
def try_(call, *args):
    try:
        call(*args)
        print("ok")
    except OSError as e:
        print(errno.errorcode[e.errno])
root = sys.argv[1]
try_(os.stat, root)
try_(os.listdir, root)
try_(os.stat, os.path.dirname(root))
try_(open, root + "/f")
try_(open, root + "/new", "w")
try_(os.mkdir, root + "/new")
try_(os.stat, sys.argv[2] + "/link/f")
try_(os.stat, sys.argv[2] + "/none")
"""


class Unserved(LarderTest):
    def setUp(self):
        self.plain = self.enterContext(scratch("/dev/shm"))
        for name in ("f", "g"):
            with open(os.path.join(self.plain, name), "w") as f:
                f.write(name * 1000)

    def daemon(self, at="/nowhere/x", fallback="wait", **config):
        daemon = self.enterContext(Daemon(**config))
        daemon.larder("mount", "file://" + self.plain, at, "--fallback", fallback)
        return daemon

    def start(self, daemon, *command, **options):
        return subprocess.Popen(command, env=daemon.preload_env(LARDER_CACHE=""), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)

    def stopped(self, daemon):
        daemon.process.send_signal(signal.SIGSTOP)
        self.addCleanup(daemon.process.send_signal, signal.SIGCONT)

    def run_unserved(self, daemon, *command, **options):
        return subprocess.run(command, env=daemon.preload_env(LARDER_CACHE=""), capture_output=True, text=True, timeout=120, check=False, **options)

    def holds_a_socket(self, process):
        folder = f"/proc/{process.pid}/fd"
        return any(os.readlink(os.path.join(folder, fd)).startswith("socket:") for fd in os.listdir(folder) if os.path.lexists(os.path.join(folder, fd)))

    def test_a_program_that_starts_while_larderd_is_stopped_waits_for_it(self):
        daemon = self.daemon()
        self.stopped(daemon)
        program = self.start(daemon, "cat", "/nowhere/x/f")
        wait_for(lambda: self.holds_a_socket(program), what="the greeting")
        daemon.process.send_signal(signal.SIGCONT)
        out, err = program.communicate(timeout=100)
        self.assertEqual((program.returncode, out, err), (0, "f" * 1000, ""))

    def test_a_program_that_starts_while_larderd_is_dead_waits_for_the_next(self):
        daemon = self.daemon()
        daemon.kill()
        program = self.start(daemon, "cat", "/nowhere/x/f")
        wait_for(lambda: "liblarder" in open(f"/proc/{program.pid}/maps").read(), what="its start")
        daemon.start()
        out, err = program.communicate(timeout=100)
        self.assertEqual((program.returncode, out, err), (0, "f" * 1000, ""))

    def test_after_wait_ms_it_is_an_error_that_tells_why(self):
        """S14a: What cannot be known is EIO after `wait_ms`, never ENOENT."""
        for end in ("stopped", "dead"):
            with self.subTest(end), scratch() as folder:
                daemon = self.daemon(wait_ms=300)
                os.symlink("/nowhere/x", os.path.join(folder, "link"))
                if end == "stopped":
                    self.stopped(daemon)
                else:
                    daemon.kill()
                out = self.run_unserved(daemon, PYTHON, "-c", PATHS, "/nowhere/x", folder)
                self.assertEqual(out.stdout.split(), ["EIO"] * 7 + ["ENOENT"], out.stderr)
                self.assert_notice(out.stderr, daemon.socket, "/nowhere")

    def assert_notice(self, stderr, *parts):
        lines = stderr.splitlines()
        self.assertEqual(len(lines), 1, stderr)
        for part in ("larder: no larderd answers", *parts):
            self.assertIn(part, lines[0])

    def test_what_the_mount_covers_is_not_read_instead(self):
        """S9: If it does, the mount covers what is there."""
        with scratch() as at:
            with open(os.path.join(at, "f"), "w") as f:
                f.write("decoy")
            for fallback, expected in (("wait", (1, "")), ("error", (1, "")), ("origin", (0, "decoy"))):
                with self.subTest(fallback):
                    daemon = self.daemon(at, fallback, wait_ms=200)
                    daemon.kill()
                    out = self.run_unserved(daemon, "cat", os.path.join(at, "f"))
                    self.assertEqual((out.returncode, out.stdout), expected, out.stderr)
                    if expected[0]:
                        self.assertIn(os.strerror(errno.EIO), out.stderr)

    def test_too_few_descriptors_are_told(self):
        daemon = self.daemon()
        for most in (4, 5):
            out = self.run_unserved(daemon, "cat", "/nowhere/x/f", preexec_fn=lambda n=most: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n)))
            self.assertEqual(out.returncode, 1)
            self.assertIn(os.strerror(errno.EMFILE), out.stderr)

    def test_a_socket_that_nobody_serves_is_told_once(self):
        with scratch() as folder:
            env = {**clean_environment(), "LD_PRELOAD": LIBRARY, "LARDER_SOCKET": folder + "/s"}
            words = [PYTHON, "-c", "import os; print(os.path.exists('/nowhere/x'), os.path.exists('/nowhere/y'))"]
            out = run_program(words, env)
            self.assertEqual((out.returncode, out.stdout), (0, b"False False\n"))
            self.assert_notice(out.stderr.decode(), folder + "/s", "LARDER_SOCKET", "LARDER_QUIET")
            self.assertEqual(run_program(words, {**env, "LARDER_QUIET": "1"}).stderr, b"")
            del env["LARDER_SOCKET"]
            self.assertEqual(run_program(words, env).stderr, b"")

    def test_a_file_that_took_the_number_of_stderr_stays_as_it_is(self):
        daemon = self.daemon(wait_ms=200)
        daemon.kill()
        with scratch() as folder:
            out = self.run_unserved(daemon, "sh", "-c", 'exec 2>"$0"/data; cat /nowhere/x/f 2>&-; [ -e /nowhere/x/f ]; echo $?', folder)
            self.assertEqual((out.stdout, out.stderr), ("1\n", ""))
            self.assertEqual(os.path.getsize(folder + "/data"), 0)


if __name__ == "__main__":
    unittest.main()
