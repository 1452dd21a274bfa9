"""Programs of other languages: the same unmodified program bare on a plain folder and preloaded on a dataset."""
import hashlib
import os
import subprocess
import unittest

from harness import LIBRARY, PYTHON
from harness.compat import BUILT, DECOY, PROGRAMS, Compat, build, tool


def program(name):
    return os.path.join(PROGRAMS, name)


class Languages(Compat):
    def test_perl(self):
        self.same([tool("perl"), program("walk.pl"), self.data, self.scratch], lines=180)

    def test_node(self):
        self.same([tool("node"), program("files.js"), self.data, self.scratch], lines=700)

    def test_node_with_io_uring(self):
        """libuv before 1.49 could make its file calls through io_uring: such paths bypass libc and are ENOENT, never other bytes."""
        code = "const fs=require('fs');fs.promises.readFile(process.argv[1]).then(b=>console.log('bytes',b.length),e=>console.log(e.code))"
        path = self.data + "/text/00.txt"
        done = self.run_preloaded([tool("node"), "-e", code, path], env={"UV_USE_IO_URING": "1"})
        self.assertIn(done.stdout.decode().strip(), (f"bytes {os.path.getsize(self.plain + '/text/00.txt')}", "ENOENT"))

    def test_java(self):
        tool("java")
        classes = os.path.join(BUILT, "java")
        build("java/Files.class", ["javac", "-d", classes, "{src}"], ["Files.java"])
        self.same(["java", "-Xmx256m", "-cp", classes, "Files", self.data, self.scratch], lines=500)

    def test_rust(self):
        binary = build("files_rs", ["rustc", "-O", "-o", "{out}", "{src}"], ["files.rs"])
        self.same([binary, self.data, self.scratch], lines=300)

    def test_python(self):
        self.same([PYTHON, program("files.py"), self.data, self.scratch], lines=250)

    # ---- Go makes its own system calls, with cgo and without ----

    def go(self, name, source, cgo):
        tool("go")
        os.environ["CGO_ENABLED"] = cgo
        os.environ.setdefault("GOCACHE", os.path.join(BUILT, "gocache"))
        os.environ["GO111MODULE"] = "off"
        return build(name, ["go", "build", "-o", "{out}", "{src}"], [source])

    def test_go_sees_the_disk_and_never_wrong_bytes(self):
        """Package os bypasses libc: a Go program sees the disk below the mount and no path of the dataset."""
        binary = self.go("files_go", "files.go", "0")
        done = self.run_preloaded([binary, self.data])
        self.assertEqual((done.stdout.decode(), done.returncode), (f"{self.data}/decoy {hashlib.md5(DECOY.encode()).hexdigest()}\n", 0))
        self.assertRegex(self.larder.larder("doctor", binary, check=False).stdout, r"fail  command .*(Go program|statically linked)")
        done = self.run_preloaded([binary, self.data + "/text"])
        self.assertEqual((done.stdout.decode(), done.returncode), (f"lstat {self.data}/text: no such file or directory\n", 1))

    def test_go_with_cgo(self):
        binary = self.go("files_cgo", "files_cgo.go", "1")
        done = self.run_preloaded([binary, self.data])
        size = os.path.getsize(self.plain + "/text/00.txt")
        self.assertEqual(done.stdout.decode(), f"libc true {size}\nos open {self.data}/text/00.txt: no such file or directory\n")

    def test_go_with_a_descriptor_of_ours(self):
        binary = self.go("stdin_go", "read_stdin.go", "0")
        self.same(f"{binary} < $D/sizes/05242883.bin; cat $D/text/00.txt | {binary}", lines=2)

    def test_the_library_is_what_served_them(self):
        """Without the preload the same command sees the decoy."""
        done = subprocess.run(["ls", self.data], capture_output=True, text=True)
        self.assertEqual(done.stdout, "decoy\n")
        self.assertTrue(os.path.exists(LIBRARY))


if __name__ == "__main__":
    unittest.main()
