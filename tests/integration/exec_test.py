"""larder-exec without a container: its options, what it hands to the command, and daemons that lie."""
import array
import os
import shutil
import socket
import struct
import subprocess
import threading
import unittest

from harness import BUILD, LIBRARY, PYTHON, Daemon, LarderTest, clean_environment, make_tree, scratch

EXEC = os.path.join(BUILD, "larder-exec")
REPLY = struct.Struct("<IHHiIQQII")  # include/larder/wire.h
MAGIC, VERSION, HELLO = 0x4452414c, 1, 1


class FakeDaemon:
    """Answers every greeting with the same bytes and descriptors."""

    def __init__(self, path, reply, files=()):
        self.reply, self.files = reply, files
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(path)
        self.socket.listen(8)
        self.thread = threading.Thread(target=self.serve)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()

    def serve(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                fds = array.array("i", self.files)
                connection.sendmsg([self.reply], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])


class LarderExec(LarderTest):
    def setUp(self):
        self.work = self.enterContext(scratch())
        self.path = os.path.join(self.work, "s")
        self.env = {**clean_environment(), "LARDER_SOCKET": self.path}

    def run_exec(self, *words, **env):
        return subprocess.run([EXEC, *words], env={**self.env, **env}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    def fails(self, result, *parts, status=125):
        self.assertEqual((result.returncode, result.stdout), (status, ""), result.stderr)
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 1, result.stderr)
        for part in parts:
            self.assertIn(part, lines[0])

    def with_daemon(self):
        data = self.enterContext(scratch("/dev/shm"))
        make_tree(data)
        daemon = self.enterContext(Daemon())
        daemon.mount("file://" + data, "/data/x")
        self.env["LARDER_SOCKET"] = daemon.socket
        return data

    def test_words_that_are_not_understood(self):
        self.fails(self.run_exec("--wiat", "3", "--", "true"), "--wiat")
        self.fails(self.run_exec("--wait", "soon", "--", "true"), "'soon'", "60s")
        self.fails(self.run_exec("--wait"), "--wait")
        self.fails(self.run_exec("--need", "data/x", "--", "true"), "'data/x'", "absolute")
        self.fails(self.run_exec("--"), "no command")
        self.assertIn("--need PATH", self.run_exec("--help").stdout)

    def test_the_command_reads_the_mount_and_its_status_is_ours(self):
        data = self.with_daemon()
        result = self.run_exec("--need", "/data/x", "--need=/data//x/", "sh", "-c", "cat /data/x/top.txt; exit 7")
        with open(os.path.join(data, "top.txt")) as f:
            self.assertEqual((result.returncode, result.stdout, result.stderr), (7, f.read(), ""))

    def test_what_the_command_gets(self):
        """Arguments unchanged, the library before what was preloaded already and once, the socket that answered."""
        self.with_daemon()
        print_all = "import os, sys; print(sys.argv[1:], os.environ['LD_PRELOAD'], os.environ['LARDER_SOCKET'], sorted(n for n in os.listdir('/proc/self/fd') if len(n) == 1))"
        jemalloc = "libjemalloc.so.2"
        result = self.run_exec("--", PYTHON, "-c", print_all, "--need", "a b", "", LD_PRELOAD=f"{jemalloc} {LIBRARY}")
        self.assertEqual(result.stdout, f"['--need', 'a b', ''] {LIBRARY}:{jemalloc} {self.env['LARDER_SOCKET']} ['0', '1', '2', '3']\n", result.stderr)

    def test_what_cannot_be_executed(self):
        self.with_daemon()
        self.fails(self.run_exec("/nonexistent/command"), "/nonexistent/command", status=127)
        self.fails(self.run_exec("/etc/passwd"), "/etc/passwd", status=126)

    def test_no_daemon(self):
        self.fails(self.run_exec("--wait", "100ms", "true"), "no larderd answers", self.path, "waited for 100 ms")

    def test_a_need_stands_at_a_border_of_names(self):
        """/data/xy is not below /data/x."""
        self.with_daemon()
        self.fails(self.run_exec("--wait", "0", "--need", "/data/xy", "true"), "'/data/xy' is not served")
        self.fails(self.run_exec("--wait", "0", "--need", "/data", "true"), "'/data' is not served")

    def test_a_library_that_is_not_there(self):
        self.fails(self.run_exec("true", LARDER_LIB="/nonexistent/liblarder.so"), "/nonexistent/liblarder.so")
        with_space = os.path.join(self.work, "a folder")
        os.mkdir(with_space)
        shutil.copy(LIBRARY, with_space)
        self.fails(self.run_exec("true", LARDER_LIB=with_space + "/liblarder.so"), "LD_PRELOAD")

    def test_static_and_musl_commands_run_and_are_warned_of(self):
        self.with_daemon()
        static, musl = (os.path.join(self.work, name) for name in ("static", "musl"))
        source = os.path.join(self.work, "p.c")
        with open(source, "w") as f:
            f.write('#include <stdio.h>\n#include <stdlib.h>\nint main() { puts(getenv("LD_PRELOAD") ? "set" : "unset"); }\n')
        subprocess.run(["gcc", "-static", "-o", static, source], check=True)
        subprocess.run(["gcc", "-o", musl, source, "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1"], check=True)
        result = self.run_exec(static)
        self.assertEqual((result.returncode, result.stdout), (0, "set\n"))
        self.assertIn("is a static program", result.stderr)
        reader, writer = os.pipe()
        os.close(reader)  # the warning has nowhere to go, and the command runs
        for how in ({"stderr": writer}, {"preexec_fn": lambda: os.close(2)}):
            result = subprocess.run([EXEC, "--", static], env=self.env, stdout=subprocess.PIPE, timeout=60, check=False, **how)
            self.assertEqual((result.returncode, result.stdout), (0, b"set\n"), how)
        self.assertIn("uses musl", self.run_exec(musl).stderr)

    def test_daemons_that_lie(self):
        good = REPLY.pack(MAGIC, VERSION, HELLO, 0, 0, 2, 1, 1, 0)
        folder = os.open(self.work, os.O_PATH)
        self.addCleanup(os.close, folder)
        cases = {
            "is not larderd": (b"x" * 40, ()),
            "speaks version 9": (REPLY.pack(MAGIC, 9, HELLO, 71, 0, 2, 1, 0, 0), ()),
            "refuses: Permission denied": (REPLY.pack(MAGIC, VERSION, HELLO, 13, 0, 2, 1, 0, 0), ()),
            "gave no descriptor": (good, ()),
            "list of mounts cannot be read": (good, [folder]),
        }
        for text, (reply, files) in cases.items():
            with self.subTest(text), FakeDaemon(self.path, reply, files):
                self.fails(self.run_exec("--wait", "0", "--need", "/data/x", "true"), text)
            os.unlink(self.path)

    def test_a_control_page_that_lies(self):
        """Counts and lengths beyond the page name no mount and crash nothing."""
        control = bytearray(144 + 60 * 568)
        struct.pack_into("<QII", control, 0, 0x314c525443444c4c, 1, len(control))
        folder = os.open(self.work, os.O_PATH)
        self.addCleanup(os.close, folder)
        good = REPLY.pack(MAGIC, VERSION, HELLO, 0, 0, 2, 1, 1, 0)
        for count, length, generation in ((0xffffffff, 5, 2), (60, 0xffffffff, 2), (1, 5, 3)):
            struct.pack_into("<Q", control, 16, generation)
            struct.pack_into("<I", control, 76, count)
            for i in range(60):
                struct.pack_into("<QQQQII", control, 144 + 568 * i, 1, 1, 1, 1, 0, length)
            with open(os.path.join(self.work, "control"), "wb") as f:
                f.write(control)
            with self.subTest(count=count, length=length), FakeDaemon(self.path, good, [folder]):
                result = self.run_exec("--wait", "0", "--need", "/data/x", "true")
                self.assertEqual((result.returncode, len(result.stderr.splitlines())), (125, 1), result.stderr)
            os.unlink(self.path)


if __name__ == "__main__":
    unittest.main()
