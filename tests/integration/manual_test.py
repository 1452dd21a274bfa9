"""What larder says of itself: man pages and completion scripts have every command and option, and work."""
import os
import re
import shutil
import subprocess
import unittest

from harness import LARDER, LARDERD, scratch


def output(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, **options).stdout


def commands():
    return re.findall(r"^  ([a-z]+)  ", output(LARDER, "--help").split("Subcommands:")[1], re.M)


def flags(command):
    return re.findall(r"--[a-z][a-z-]+", " ".join(re.findall(r"^  (-.*?)(?:  |$)", output(LARDER, command, "--help"), re.M)))


class ManualTest(unittest.TestCase):
    def test_every_option_is_in_the_page(self):
        page = output(LARDER, "manual").replace("\\-", "-")
        self.assertGreater(len(commands()), 12)
        for command in commands():
            section = page[page.index(f"\n.SS {command} "):].split("\n.SS ")[1]
            for flag in flags(command):
                self.assertIn(flag, section, command)

    @unittest.skipUnless(shutil.which("groff"), "groff is not installed")
    def test_the_pages_are_good_roff(self):
        for page in (output(LARDER, "manual"), output(LARDERD, "--manual")):
            result = subprocess.run(["groff", "-man", "-ww", "-Tutf8"], input=page, capture_output=True, text=True, timeout=60)
            self.assertEqual((result.returncode, result.stderr), (0, ""))
            self.assertIn("SEE ALSO", re.sub("\x1b\\[[0-9;]*m|.\b", "", result.stdout))


class CompletionTest(unittest.TestCase):
    def bash(self, *words):
        """What bash would offer for the last word."""
        script = "eval \"$($1 completion bash)\"; shift; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _larder; printf '%s\\n' \"${COMPREPLY[@]}\""
        return output("bash", "--norc", "-c", script, "bash", LARDER, *words).split()

    def test_bash_offers_what_fits(self):
        self.assertEqual(sorted(self.bash("larder", "")), sorted(commands()))
        self.assertEqual(self.bash("larder", "sta"), ["status"])
        self.assertEqual(sorted(set(self.bash("larder", "warm", "--"))), sorted({*flags("warm"), "--help"}))
        self.assertEqual(self.bash("larder", "run", "--fill", "s"), ["siblings"])
        self.assertEqual(self.bash("larder", "run", "--mount", "x"), [], "a value that nothing is known of")

    def test_bash_completes_the_command_of_run(self):
        self.assertIn("sh", self.bash("larder", "run", "--fill", "off", "--", "sh"))
        with scratch() as d:
            open(os.path.join(d, "train.py"), "w").close()
            self.assertEqual(self.bash("larder", "run", "--", "python3", f"{d}/tr"), [f"{d}/train.py"])

    def test_every_shell_reads_its_script(self):
        for shell, *check in (("bash", "bash", "-n"), ("zsh", "zsh", "-n"), ("fish", "fish", "--no-execute")):
            with self.subTest(shell=shell):
                script = output(LARDER, "completion", shell)
                for command in commands():
                    self.assertIn(command, script)
                if shutil.which(shell):
                    result = subprocess.run([*check, "/dev/stdin"], input=script, capture_output=True, text=True, timeout=60)
                    self.assertEqual((result.returncode, result.stderr), (0, ""))


if __name__ == "__main__":
    unittest.main()
