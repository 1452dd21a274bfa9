"""liblarder.so loads on every glibc from 2.17 on, needs libc alone, and shows nothing that it does not mean to."""
import argparse
import os
import re
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("LARDER_BUILD", os.path.join(HERE, "..", "..", "build"))
LIBRARY = os.path.join(BUILD, "liblarder.so")
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

    def test_exports_functions_alone(self):
        # A data symbol or a weak C++ one in a preloaded library would replace the program's own.
        for line in objdump("-T").splitlines():
            fields = line.split()
            if len(fields) < 5 or "*UND*" in line or not re.match(r"^[0-9a-f]{16}$", fields[0]):
                continue
            self.assertNotIn("DO .", line, f"exports data: {line}")
            self.assertFalse(fields[-1].startswith("_Z"), f"exports a C++ symbol: {line}")

    def test_has_no_constructor_order_trick_and_no_text_relocation(self):
        dynamic = objdump("-p")
        self.assertNotIn("TEXTREL", dynamic)
        self.assertIn("liblarder.so", re.findall(r"SONAME\s+(\S+)", dynamic))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", default=LIBRARY)
    parser.add_argument("--objdump", default=OBJDUMP)
    args, rest = parser.parse_known_args()
    LIBRARY, OBJDUMP = args.library, args.objdump
    unittest.main(argv=sys.argv[:1] + rest)
