"""Programs that filter their own system calls (libseccomp: file, some image decoders, sandboxed workers).

What the user would lose: the program is killed at its first file that is not cached, or at any call of the library's that it did not expect.
"""
import os
import subprocess
import unittest

from harness import BUILD, Daemon, LarderTest, scratch

PROGRAM = os.path.join(BUILD, "filtered")
ROOT = "/larder-test/filtered"
MiB = 1 << 20


class Filtered(LarderTest):
    def setUp(self):
        tree = self.enterContext(scratch())
        for name, text in (("warm", b"12345678"), ("cold", b"abcdefgh"), ("large", b"LLLLLLLL" * (MiB // 2))):
            with open(os.path.join(tree, name), "wb") as f:
                f.write(text)
        self.larder = Daemon(lazy_threshold="1MiB")
        self.addCleanup(self.larder.remove)
        self.larder.start()
        self.larder.mount("file://" + tree, ROOT)
        self.larder.larder("warm", ROOT + "/warm")

    def enterContext(self, context):
        value = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        return value

    def read(self, how, forbidden, *names, **variables):
        paths = [n.replace("@", ROOT + "/") for n in names]
        settings = [f"{k}={v}" for k, v in variables.items()]
        result = self.larder.run("env", *settings, PROGRAM, how, forbidden, *paths, text=True)
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        return result.stdout.splitlines()

    def test_what_is_not_cached_is_an_errno(self):
        """S29: A call that the filter would end the program for is not made: it is EPERM."""
        for variables in ({}, {"FILTERED_BY_SYSCALL": "1"}):
            self.assertEqual(self.read("kill", "socket,connect", "@warm", "@cold", "@none", "/nowhere/x", **variables),
                             ["warm: open 8 12345678", "cold: EPERM -1 ", "none: ENOENT -1 ", "x: ENOENT -1 "])

    def test_every_surprising_call(self):
        self.assertEqual(self.read("kill", "all", "@warm", "@cold", "@none", "/nowhere/x", "/dev/null"),
                         ["warm: open 8 12345678", "cold: EPERM -1 ", "none: ENOENT -1 ", "x: ENOENT -1 ", "null: open 0 "])

    def test_a_large_object(self):
        """What is open stays right or gives an errno. First the one for which it must not be whole yet."""
        self.assertEqual(self.read("kill", "fstat,lseek,pread64", "@large")[0][:13], "large: open -1 "[:13])
        self.assertEqual(self.read("none", "", "@large"), ["large: open 8 LLLLLLLL"])
        self.assertEqual(self.read("kill", "socket", "@large"), ["large: open 8 LLLLLLLL"])

    def test_a_filter_that_kills_nobody_is_no_matter(self):
        self.assertEqual(self.read("errno", "readlinkat", "@warm", "@cold"), ["warm: open 8 12345678", "cold: open 8 abcdefgh"])
        self.assertEqual(self.read("kill", "signalfd4", "@cold"), ["cold: open 8 abcdefgh"])

    def test_a_program_that_is_started_under_the_filter(self):
        self.assertEqual(self.read("kill", "socket", "exec:" + ROOT + "/cold", "exec:/dev/null", LARDER_QUIET="1"),
                         ["cold: EPERM -1 ", "null: open 0 "])

    def test_doctor_names_the_library_that_filters(self):
        with scratch() as folder:
            library, program = os.path.join(folder, "libseccomp.so.2"), os.path.join(folder, "prog")
            subprocess.run(["gcc", "-shared", "-x", "c", "-", "-Wl,-soname,libseccomp.so.2", "-o", library], input=b"int x;", check=True)
            subprocess.run(["gcc", "-x", "c", "-", "-x", "none", "-Wl,--no-as-needed", library, "-o", program], input=b"int main() { return 0; }", check=True)
            said = self.larder.larder("doctor", program, check=False).stdout
        self.assertRegex(said, "warn  command .*prog uses libseccomp")
        self.assertRegex(said, "landlock +(version|not in use)")


if __name__ == "__main__":
    unittest.main()
