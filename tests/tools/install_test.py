"""`make install` installs small programs that work, and `make install-debug` the symbols where a debugger finds them."""
import os
import shutil
import subprocess
import unittest

from harness import BUILD, ROOT, Daemon, scratch

PROGRAMS = ("bin/larder", "bin/larderd", "lib/liblarder.so", "lib/larder-exec")


@unittest.skipIf("san" in os.path.basename(BUILD), "sanitized programs are not installed")
class InstallTest(unittest.TestCase):
    def make(self, target, folder):
        """The installed tree. What is built is taken as it is."""
        fresh = [word for name in PROGRAMS for word in ("-o", os.path.join(BUILD, os.path.basename(name)))]
        done = subprocess.run(["make", "--no-print-directory", *fresh, target, f"BUILD={BUILD}", f"DESTDIR={folder}", "PREFIX=/opt/larder"],
                              cwd=ROOT, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")})
        self.assertEqual(done.returncode, 0, done.stderr)
        return os.path.join(folder, "opt", "larder")

    def sections(self, path):
        return subprocess.run(["objdump", "-h", path], capture_output=True, text=True, check=True).stdout

    def test_programs_have_no_symbols_and_work(self):
        with scratch() as folder:
            root = self.make("install", folder)
            for name in PROGRAMS:
                path = os.path.join(root, name)
                self.assertNotIn(".debug_info", self.sections(path), name)
                self.assertIn(".gnu_debuglink", self.sections(path), name)
            self.assertFalse(os.path.exists(root + "/bin/.debug"))
            self.assertLess(sum(os.path.getsize(os.path.join(root, n)) for n in PROGRAMS), 30 << 20)
            with Daemon() as daemon, scratch() as source:
                with open(source + "/file", "w") as f:
                    f.write("through the installed library\n")
                daemon.mount("file://" + source, "/data/x")
                env = {**daemon.preload_env(), "LD_PRELOAD": root + "/lib/liblarder.so"}
                done = subprocess.run(["cat", "/data/x/file"], env=env, capture_output=True, text=True)
                self.assertEqual((done.returncode, done.stdout), (0, "through the installed library\n"), done.stderr)
                done = subprocess.run([root + "/bin/larder", "status"], env=daemon.env, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_debugger_finds_the_symbols(self):
        with scratch() as folder:
            root = self.make("install-debug", folder)
            for name in PROGRAMS:
                debug = os.path.join(root, os.path.dirname(name), ".debug", os.path.basename(name) + ".debug")
                self.assertIn(".debug_info", self.sections(debug))
                self.assertIn(os.path.basename(debug), subprocess.run(["readelf", "-p", ".gnu_debuglink", os.path.join(root, name)],
                                                                      capture_output=True, text=True, errors="replace", check=True).stdout)
            if not shutil.which("gdb"):
                self.skipTest("gdb is not installed here")
            found = subprocess.run(["gdb", "-nx", "-batch", "-ex", "info line main", root + "/bin/larderd"], capture_output=True, text=True).stdout
            self.assertIn("larderd.cc", found)


if __name__ == "__main__":
    unittest.main()
