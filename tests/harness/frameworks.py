"""Shared by the tests of frameworks: two runs of one command as in harness/compat.py, in the virtual environment of venv.sh."""
import os
import subprocess
import unittest

from .base import BUILD, TESTS
from .compat import Compat

PROGRAMS = os.path.join(TESTS, "frameworks", "programs")
VENV_PYTHON = os.path.join(BUILD, "frameworks", "venv", "bin", "python")
# Quiet, on the CPU, two threads: what is compared is what was read, not how loud it was.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2", "GLOG_minloglevel": "3",
         "PYTHONWARNINGS": "ignore", "FLAGS_call_stack_level": "1"}


def need(python, module):
    """The version of a module, or a skip that says why it is not there."""
    code = f"import importlib.metadata as m, {module}; print(getattr({module}, '__version__', 'there'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, env={**os.environ, **QUIET}, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as e:
        raise unittest.SkipTest(f"{module}: {e} (make test-frameworks installs it)") from None
    if done.returncode != 0:
        raise unittest.SkipTest(f"{module} cannot be imported by {python}: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout.strip()


def said(done):
    """What a program printed, without the addresses and times that Paddle prints."""
    return [line for line in done.stdout.splitlines() if not line.startswith(b"device worker program id") and b"ppcls WARNING" not in line]


class Frameworks(Compat):
    config = {"cache_size": "1GiB", "fill": "eager"}

    def same_program(self, python, name, *arguments, timeout=300, **options):
        """Runs a program bare and preloaded, cold, then preloaded again, warm. Its standard output must be the same; standard error is
        the framework's own chatter."""
        command = [python, os.path.join(PROGRAMS, name), self.data, self.scratch, *arguments]
        bare = self.run_bare(command, timeout=timeout, env=QUIET, **options)
        self.assertEqual(bare.returncode, 0, bare.stderr.decode(errors="replace")[-3000:])
        self.assertGreater(len(bare.stdout.splitlines()), 0)
        for state in ("cold", "warm"):
            if state == "cold":
                self.make_cold()
            ours = self.run_preloaded(command, timeout=timeout, env=QUIET, **options)
            self.assertEqual(ours.returncode, 0, f"{state}: {ours.stderr.decode(errors='replace')[-3000:]}")
            self.assertEqual(said(ours), said(bare), state)
        return bare.stdout.decode()
