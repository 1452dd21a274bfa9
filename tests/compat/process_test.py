"""Descriptors, threads, forks, signals, allocators, sanitizers, static programs: each part bare and preloaded."""
import glob
import os
import re
import shutil
import subprocess
import unittest

from harness import LIBRARY, PYTHON, ROOT
from harness.compat import DECOY, PROGRAMS, Compat, build, build_c, tool


def library(name):
    found = sorted(glob.glob(f"/usr/lib/*-linux-gnu/{name}"))
    if not found:
        raise unittest.SkipTest(f"{name} is not installed here")
    return found[0]


class Descriptors(Compat):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program = build_c("descriptors", "descriptors.c", "-pthread")
        cls.sums = os.path.join(cls.base, "sums")
        with open(cls.sums, "wb") as f:
            f.write(subprocess.run([cls.program, "sums", cls.plain], capture_output=True, check=True).stdout)

    def part(self, name, *arguments, **options):
        self.make_cold()
        return self.same([self.program, name, self.data, *arguments], **options)

    def test_duplicates(self):
        self.part("duplicates", lines=9)

    def test_numbers_above_1024(self):
        self.part("high_numbers", lines=4)

    def test_a_limit_of_64_descriptors(self):
        """EMFILE comes as on a plain folder, give or take the one descriptor that the library holds."""
        self.make_cold()
        bare = self.run_bare([self.program, "low_limit", self.data]).stdout.decode().split("\n")
        ours = self.run_preloaded([self.program, "low_limit", self.data]).stdout.decode().split("\n")
        self.assertEqual(ours[1:], bare[1:])
        self.assertLessEqual(int(bare[0].split()[1], 16) - int(ours[0].split()[1], 16), 1)

    def test_a_limit_of_a_million_descriptors(self):
        self.part("huge_limit", lines=2)

    def test_closing_everything(self):
        self.part("close_everything", lines=9)

    def test_without_standard_descriptors(self):
        """A process that starts with 0, 1 and 2 closed: its first files get those numbers, cold and warm."""
        command = f"{self.program} closed_standard $D $W/report <&- >&- 2>&-; echo $?; cat $W/report"
        self.make_cold()
        for _ in range(2):
            out = self.same(command, lines=12).out
            self.assertEqual([line.split()[1] for line in out if line.startswith(b"fd")], [b"0", b"1", b"2", b"3"])

    def test_a_bare_process_gets_a_descriptor(self):
        """S3: The descriptor of a whole file is a real kernel descriptor of an immutable file."""
        self.part("send", lines=4)

    def test_64_threads_cold_and_warm(self):
        self.assertEqual(self.part("threads", self.sums).out, [b"wrong 0"])
        self.assertEqual(self.same([self.program, "threads", self.data, self.sums]).out, [b"wrong 0"])

    def test_fork_while_threads_are_inside(self):
        self.assertEqual(self.part("forks", self.sums).out, [b"bad children 0", b"wrong 0"])

    def test_signal_handlers_that_open_files(self):
        self.assertEqual(self.part("signals", self.sums).out, [b"handled 1", b"wrong 0"])

    def test_cancellation(self):
        self.part("cancellation", lines=2)

    def test_python_children(self):
        self.same([PYTHON, os.path.join(PROGRAMS, "children.py"), self.data, self.scratch], lines=17)

    # ---- other preloads and allocators ----

    def test_allocators(self):
        for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0"):
            other = library(name)
            for order in (f"{other} {LIBRARY}", f"{LIBRARY} {other}"):
                for command in ([self.program, "threads", self.data, self.sums], ["ls", "-R", self.data + "/deep"], [PYTHON, "-c", f"print(len(open('{self.data}/text/00.txt').read()))"]):
                    with self.subTest(order=order, command=command):
                        bare = self.run_bare(command, env={"LD_PRELOAD": other})
                        ours = self.run_preloaded(command, env={"LD_PRELOAD": order})
                        self.assertEqual((ours.returncode, ours.stdout, ours.stderr), (bare.returncode, bare.stdout, bare.stderr))
                        self.assertEqual(bare.returncode, 0)

    def test_valgrind(self):
        """Memcheck reports nothing for a program on a dataset, with the shipped suppressions."""
        check = [tool("valgrind"), "-q", "--error-exitcode=9", "--suppressions=" + os.path.join(ROOT, "examples", "valgrind.supp")]
        self.same([*check, "find", self.data, "-type", "f"], sort=True, lines=150)
        self.same([*check, "md5sum", self.data + "/text/00.txt", self.data + "/text/../odd/.hidden"], lines=2)

    def test_address_sanitizer(self):
        """ASan must come first; its interceptors then call the library's."""
        program = build("opens_asan", ["g++", "-std=c++20", "-O1", "-g", "-fsanitize=address", "-o", "{out}", "{src}"], ["opens.cc"])
        asan = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
        bare = self.run_bare([program, self.data], env={"ASAN_OPTIONS": "detect_leaks=0"})
        self.assertEqual(bare.returncode, 0, bare.stderr)
        with open(asan, "rb") as f:  # a linker script names the real one
            asan = asan if f.read(4) == b"\x7fELF" else library("libasan.so.*")
        ours = self.run_preloaded([program, self.data], env={"ASAN_OPTIONS": "detect_leaks=0", "LD_PRELOAD": f"{asan} {LIBRARY}"})
        self.assertEqual((ours.returncode, ours.stdout, ours.stderr), (0, bare.stdout, b""))
        self.assertGreater(len(bare.stdout.splitlines()), 160)

    def test_static_libstdcxx(self):
        for name, flags in (("opens", []), ("opens_static_libstdcxx", ["-static-libstdc++", "-static-libgcc"])):
            self.same([build(name, ["g++", "-std=c++20", "-O1", "-o", "{out}", "{src}", *flags], ["opens.cc"]), self.data], lines=160)

    # ---- who cannot be served ----

    def test_a_static_program(self):
        """It reads a descriptor that it inherits, does not see the dataset's paths, and `larder doctor` says so."""
        static = build_c("static_reader", "static_reader.c", "-static")
        self.same(f"{static} < $D/sizes/05242883.bin; cat $D/text/00.txt | {static}", lines=2)
        done = self.run_preloaded([static, self.data + "/text/00.txt"])
        self.assertEqual((done.returncode, done.stdout), (1, b"No such file or directory\n"))
        doctor = self.larder.larder("doctor", static, check=False)
        self.assertRegex(doctor.stdout + doctor.stderr, "(?i)static")

    def verdict(self, command):
        """What `larder doctor` says about a command's programs: (word, line) each."""
        out = self.larder.larder("doctor", command, check=False).stdout
        return [(line.split()[0], line) for line in out.splitlines() if line.split()[1:2] == ["command"]]

    def test_raw_system_calls(self):
        """A path in a raw system call is ENOENT, all others work, and `larder doctor` says so beforehand."""
        raw = build_c("raw_opens", "raw_opens.c")
        done = self.run_preloaded([raw, self.data + "/text/00.txt"])
        self.assertEqual(done.stdout, b"raw No such file or directory, libc opened\n")
        (word, line), = self.verdict(raw)
        self.assertEqual(word, "warn")
        self.assertRegex(line, "by itself, past the library: openat")
        for served in ("ls", "bash", "perl", PYTHON):
            self.assertEqual([w for w, _ in self.verdict(served)], ["ok"], served)

    def test_doctor_names_who_cannot_be_served(self):
        """Static, set-user-ID and musl programs, and scripts that such programs run."""
        static = build_c("static_reader", "static_reader.c", "-static")
        other = os.path.join(self.base, "setuid")
        shutil.copy("/bin/cat", other)
        os.chown(other, 1, 1)
        os.chmod(other, 0o4755)
        for program, why in ((static, "statically linked"), (other, "set-user-ID")):
            (word, line), = self.verdict(program)
            self.assertEqual(word, "fail")
            self.assertIn(why, line)
            for first in (f"#!{program}", f"#! {program} -x", f"#!/usr/bin/env -S {program}"):
                script = os.path.join(self.base, "script")
                with open(script, "w") as f:
                    f.write(first + "\n")
                os.chmod(script, 0o755)
                verdicts = self.verdict(script)
                self.assertEqual([w for w, _ in verdicts], ["ok", "fail"], first)
                self.assertIn(why, verdicts[1][1])
        os.chmod(self.base, 0o755)
        done = self.run_preloaded([other, self.data + "/decoy"])  # it sees the disk, as doctor said
        self.assertEqual((done.returncode, done.stdout), (0, DECOY.encode()), done.stderr)

    def test_deepbind(self):
        """Calls of a library loaded with RTLD_DEEPBIND bypass the preload: ENOENT, never other bytes."""
        plugin = build("deepbind.so", ["gcc", "-shared", "-fPIC", "-DPLUGIN", "-o", "{out}", "{src}"], ["deepbind.c"])
        program = build_c("deepbind", "deepbind.c")
        done = self.run_preloaded([program, plugin, self.data + "/text/00.txt"])
        self.assertTrue(re.fullmatch(r"normal 64\ndeepbind (64|-2)\n", done.stdout.decode()), done)

    def test_the_caller_decides_what_its_children_are(self):
        """env -i and LD_PRELOAD= make bare children, which see the disk."""
        for command in (["env", "-i", "/bin/ls", self.data], ["env", "LD_PRELOAD=", "ls", self.data], ["env", "-u", "LD_PRELOAD", "ls", self.data]):
            self.assertEqual(self.run_preloaded(command).stdout, b"decoy\n")


if __name__ == "__main__":
    unittest.main()
