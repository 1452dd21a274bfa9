"""The library exports exactly what its list says, with every twin, and needs nothing but an old libc."""
import os
import re
import subprocess
import unittest

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
LIBRARY = os.path.join(os.environ.get("LARDER_BUILD", os.path.join(ROOT, "build")), "liblarder.so")


def listed():
    with open(os.path.join(ROOT, "preload", "symbols.def")) as f:
        text = f.read()
    return set(re.findall(r"^SYM\([^,]*, (\w+),", text, re.M))


def dynamic(kind):
    out = subprocess.run(["objdump", "-T", LIBRARY], capture_output=True, text=True, check=True).stdout
    for line in out.splitlines():
        fields = line.split()
        if len(fields) >= 5 and ("*UND*" in line) == (kind == "needed"):
            yield fields[-1], line


class Symbols(unittest.TestCase):
    def test_exports_equal_the_list(self):
        exported = {name for name, line in dynamic("exported") if " .text" in line}
        self.assertEqual(exported, listed())
        self.assertGreater(len(exported), 120)

    def test_every_function_has_its_twins(self):
        """A program built with 64-bit offsets, with _FORTIFY_SOURCE, or for glibc before 2.33 must not pass by."""
        names = listed()
        missing = []
        libc = subprocess.run(["objdump", "-T", self.libc()], capture_output=True, text=True, check=True).stdout
        public = [line for line in libc.splitlines() if "GLIBC_PRIVATE" not in line]
        provided = {line.split()[-1] for line in public if line.split()}
        for name in names:
            for twin in (name + "64", "__" + name + "_2", "__" + name + "64_2", "__" + name + "_chk", "__" + name):
                if twin in provided and twin not in names:
                    missing.append(twin)
        self.assertEqual(missing, [])

    @staticmethod
    def libc():
        out = subprocess.run(["ldd", LIBRARY], capture_output=True, text=True, check=True).stdout
        return re.search(r"libc\.so\.6 => (\S+)", out).group(1)

    def test_runs_on_every_glibc_from_2_17(self):
        """A container's libc is rarely the build machine's."""
        for name, line in dynamic("needed"):
            for version in re.findall(r"GLIBC_([0-9.]+)", line):
                self.assertLessEqual(tuple(map(int, version.split("."))), (2, 17), f"{name} needs GLIBC_{version}")

    def test_needs_libc_alone(self):
        out = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", out))
        self.assertLessEqual(needed, {"libc.so.6", "libdl.so.2", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"})

    def test_no_thread_local_memory_and_no_unique_symbols(self):
        """Static TLS space is scarce for libraries loaded early; STB_GNU_UNIQUE symbols would pre-empt the program's."""
        out = subprocess.run(["readelf", "-lW", "--dyn-syms", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertNotRegex(out, r"^\s+TLS\s", "a TLS segment")
        self.assertNotIn("UNIQUE", out)


if __name__ == "__main__":
    unittest.main()
