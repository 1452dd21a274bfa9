"""larder-exec as the entrypoint of real containers: unprivileged, read-only, small, with podman's default seccomp profile."""
import os
import subprocess
import unittest

from harness import Daemon, LarderTest, MiB, containers, content, digest, make_tree, scratch, wait_for

PROGRAMS = {"sh": "dash", "cat": "cat", "ls": "ls", "id": "id", "env": "env", "md5sum": "md5sum", "dd": "dd", "sha256sum": "sha256sum"}


@unittest.skipIf(containers.why_not(), containers.why_not())
class Entrypoint(LarderTest):
    @classmethod
    def setUpClass(cls):
        cls.data = cls.enterClassContext(scratch("/dev/shm"))
        make_tree(cls.data)
        with open(os.path.join(cls.data, "large.bin"), "wb") as f:
            f.write(content("large", 9 * MiB + 5))

    def setUp(self):
        self.podman = containers.scratch_podman(self, PROGRAMS)
        self.daemon = Daemon(socket=os.path.join(self.podman.share, "larder.sock"), lazy_threshold="4MiB")
        self.daemon.socket = self.daemon.config["socket"]
        self.daemon.env["LARDER_SOCKET"] = self.daemon.socket
        self.addCleanup(self.daemon.remove)

    def start(self):
        self.daemon.start()
        self.daemon.mount("file://" + self.data, "/data/x")

    def enter(self, *words, options=()):
        return self.podman.run("/larder/larder-exec", *words, options=["--user=1000:1000", *options])

    def test_an_unprivileged_read_only_container_reads_right_bytes(self):
        self.start()
        expected = digest(os.path.join(self.data, "classes/n00/img_0000.JPEG"))
        for _ in ("cold", "warm"):
            done = self.enter("--need", "/data/x", "--", "sh", "-c", "id -u; sha256sum </data/x/classes/n00/img_0000.JPEG",
                              options=["--memory=64m", "--cap-drop=all", "--security-opt=no-new-privileges"])
            self.assertEqual((done.returncode, done.stdout.decode(), done.stderr), (0, f"1000\n{expected}  -\n", b""))

    def test_a_lazy_object_is_read_without_userfaultfd(self):
        self.start()
        done = self.enter("--", "sha256sum", "/data/x/large.bin")
        self.assertEqual((done.returncode, done.stdout.split()[:1]), (0, [digest(os.path.join(self.data, "large.bin")).encode()]), done.stderr)

    def test_a_socket_that_comes_later_is_waited_for(self):
        command = self.podman.command("/larder/larder-exec", "--wait=60s", "--need=/data/x/top.txt", "--", "cat", "/data/x/top.txt",
                                      options=["--user=1000:1000"])
        with subprocess.Popen(command, env=self.podman.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
            wait_for(lambda: self.execs_in_containers(), 60, "larder-exec in its container")
            self.start()
            out, err = waiting.communicate(timeout=90)
        with open(os.path.join(self.data, "top.txt"), "rb") as f:
            self.assertEqual((waiting.returncode, out, err), (0, f.read(), b""))

    def execs_in_containers(self):
        """Pids of larder-exec below our share: it waits, so it is seen."""
        share = self.podman.share
        found = []
        for pid in (p for p in os.listdir("/proc") if p.isdigit()):
            try:
                with open(f"/proc/{pid}/comm") as f, open(f"/proc/{pid}/mountinfo") as mounts:
                    if f.read().strip() == "larder-exec" and share in mounts.read():
                        found.append(int(pid))
            except OSError:
                continue
        return found

    def test_no_larderd_is_loud(self):
        done = self.enter("--wait=200ms", "--", "cat", "/data/x/top.txt")
        lines = done.stderr.decode().splitlines()
        self.assertEqual((done.returncode, done.stdout, len(lines)), (125, b"", 1), done.stderr)
        self.assertRegex(lines[0], r"^larder-exec: no larderd answers at '/.*larder.sock': .* \(waited for 200 ms\)$")

    def test_a_mount_that_is_not_served_is_loud(self):
        self.start()
        done = self.enter("--wait", "0", "--need", "/data/other", "--", "cat", "/data/x/top.txt")
        self.assertEqual((done.returncode, done.stdout), (125, b""))
        self.assertIn(b"'/data/other' is not served", done.stderr)

    def test_the_daemon_is_replaced_under_a_reading_container(self):
        """The socket's folder stays: a new larderd in it is found by programs that were started before."""
        self.start()
        script = "while read name; do md5sum </data/x/$name || exit 1; done"
        names = ["top.txt", "sizes/110000.bin"]
        expected = [subprocess.run(["md5sum"], stdin=f, capture_output=True, check=True).stdout
                    for f in (self.enterContext(open(os.path.join(self.data, name), "rb")) for name in names)]
        command = self.podman.command("/larder/larder-exec", "--", "sh", "-c", script, options=["-i"])
        with subprocess.Popen(command, env=self.podman.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            def read(name):
                reader.stdin.write(name.encode() + b"\n")
                reader.stdin.flush()
                return reader.stdout.readline()

            self.assertEqual(read(names[0]), expected[0])
            self.daemon.kill()
            self.assertEqual(read(names[0]), expected[0], "cached")
            self.daemon.start()
            self.assertEqual([read(name) for name in names], expected)
            reader.stdin.close()
            self.assertEqual(reader.wait(60), 0)

    def test_docker_style_entrypoint(self):
        """As `docker run --entrypoint` and an image's ENTRYPOINT do: the command follows as CMD."""
        self.start()
        done = self.podman.run("cat", "/data/x/top.txt", options=["--entrypoint", '["/larder/larder-exec","--need","/data/x","--"]'])
        with open(os.path.join(self.data, "top.txt"), "rb") as f:
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f.read(), b""))


if __name__ == "__main__":
    unittest.main()
