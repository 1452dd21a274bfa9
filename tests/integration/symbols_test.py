"""liblarder.so loads on every glibc from 2.17 on, needs only libc, and exports only what it must."""
import argparse
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("LARDER_BUILD", os.path.join(HERE, "..", "..", "build"))
LIBRARY = os.path.join(BUILD, "liblarder.so")
NATIVE = LIBRARY
OBJDUMP = "objdump"
NEWEST = (2, 17)
# libdl: dlsym lived there until glibc 2.34, and is an empty library since. The loader itself may be named.
ALLOWED_LIBRARIES = re.compile(r"^(libc\.so\.6|libdl\.so\.2|libpthread\.so\.0|ld-linux-[a-z0-9_-]+\.so\.[0-9])$")


def objdump(*args):
    return subprocess.run([OBJDUMP, *args, LIBRARY], check=True, capture_output=True, text=True).stdout


class Symbols(unittest.TestCase):
    def test_needs_no_newer_glibc(self):
        versions = set(re.findall(r"GLIBC_(\d+)\.(\d+)", objdump("-T")))
        self.assertTrue(versions, "no versioned symbol at all: objdump was misread")
        for major, minor in versions:
            self.assertLessEqual((int(major), int(minor)), NEWEST, f"GLIBC_{major}.{minor} is needed: " + self.users(f"GLIBC_{major}.{minor}"))

    def users(self, version):
        return ", ".join(line.split()[-1] for line in objdump("-T").splitlines() if version in line)

    def test_needs_libc_alone(self):
        needed = re.findall(r"NEEDED\s+(\S+)", objdump("-p"))
        self.assertIn("libc.so.6", needed)
        for library in needed:
            self.assertRegex(library, ALLOWED_LIBRARIES)

    def exported(self):
        """(name, line) of every symbol that the library defines."""
        lines = (line for line in objdump("-T").splitlines() if re.match(r"^[0-9a-f]{16} [gwu]", line) and "*UND*" not in line)
        return [(line.split()[-1], line) for line in lines]

    def test_exports_the_list_and_nothing_else(self):
        # One symbol too many in a preloaded library replaces a program's own; one too few lets a call bypass it.
        with open(os.path.join(HERE, "..", "..", "preload", "base", "symbols.def")) as f:
            wanted = re.findall(r"^SYM\([^,]*, (\w+),", f.read(), re.M)
        self.assertGreater(len(wanted), 50)
        self.assertEqual(sorted(name for name, _ in self.exported()), sorted(wanted))

    def test_every_function_has_its_twins(self):
        """Programs built with 64-bit offsets, with _FORTIFY_SOURCE, or for an older glibc must not bypass the library."""
        if LIBRARY != NATIVE:
            self.skipTest("the twins are glibc's on this machine; another architecture has the same list")
        loaded = subprocess.run(["ldd", LIBRARY], check=True, capture_output=True, text=True).stdout
        libc = re.search(r"libc\.so\.6 => (\S+)", loaded).group(1)
        table = subprocess.run([OBJDUMP, "-T", libc], check=True, capture_output=True, text=True).stdout
        provided = {line.split()[-1] for line in table.splitlines() if line.split() and "GLIBC_PRIVATE" not in line}
        names = {name for name, _ in self.exported()}
        twins = {twin for name in names for twin in (name + "64", "__" + name, f"__{name}_2", f"__{name}64_2", f"__{name}_chk")}
        self.assertEqual((twins & provided) - names, set())

    def test_has_no_thread_local_memory(self):
        # Static TLS space is scarce, and __tls_get_addr may allocate.
        out = subprocess.run(["readelf", "-lW", LIBRARY], check=True, capture_output=True, text=True).stdout
        self.assertNotRegex(out, r"(?m)^\s+TLS\s")

    def test_exports_functions_alone(self):
        for name, line in self.exported():
            self.assertRegex(line, r" DF \.text", f"{name} is not a function")

    def test_has_a_name_and_no_text_relocation(self):
        dynamic = objdump("-p")
        self.assertNotIn("TEXTREL", dynamic)
        self.assertEqual(re.findall(r"SONAME\s+(\S+)", dynamic), ["liblarder.so"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", default=LIBRARY)
    parser.add_argument("--objdump", default=OBJDUMP)
    args, rest = parser.parse_known_args()
    LIBRARY, OBJDUMP = args.library, args.objdump
    unittest.main(argv=sys.argv[:1] + rest)
