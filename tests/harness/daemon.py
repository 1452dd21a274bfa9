"""A larderd for one test, and its test case."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

from .base import LARDER, LARDERD, LIBRARY, clean_environment, wait_for
from .descriptors import DescriptorStore


def toml(value):
    return json.dumps(value)  # texts, numbers and booleans look the same


class Daemon:
    """A larderd with its own socket, cache, state and log.

    The cache is a folder of /dev/shm. With LARDER_TEST_HOME=own (`make test-own`), or with cache_home="own", it is memory of larderd's
    own, which this object keeps over larderd's death.
    """

    def __init__(self, env=None, prefix=(), tables="", **config):
        self.tables = tables  # what follows the keys in larder.toml
        self.prefix = list(prefix)  # what starts it: nsenter
        self.work = tempfile.mkdtemp(prefix="larder-test-")
        self.cache = tempfile.mkdtemp(prefix="larder-test-", dir="/dev/shm")
        self.socket = os.path.join(self.work, "s")
        self.log = os.path.join(self.work, "log")
        self.config = {"socket": self.socket, "cache_dir": os.path.join(self.cache, "c"), "state_dir": os.path.join(self.work, "state"),
                       "cache_size": "256MiB", "fill": "off", "log_level": "debug", **config}
        self.env = {**clean_environment(), "LARDER_SOCKET": self.socket, **(env or {})}
        self.store = None
        if config.get("cache_home") == "own" or (os.environ.get("LARDER_TEST_HOME") == "own" and "cache_dir" not in config):
            del self.config["cache_dir"]
            self.config["cache_home"] = "own"
            self.store = DescriptorStore(os.path.join(self.work, "notify"))
        self.process = None

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    def write_config(self):
        path = os.path.join(self.work, "larder.toml")
        with open(path, "w") as f:
            f.writelines(f"{k} = {toml(v)}\n" for k, v in self.config.items())
            f.write(self.tables)
        return path

    def start(self):
        path = self.write_config()
        command, fds = [*self.prefix, LARDERD, "--config", path], ()
        env = self.env
        if self.store:
            command, fds = self.store.starting(command)
            env = {**env, **self.store.environment()}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, pass_fds=fds)
        wait_for(self._answers, 30, "larderd")

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"larderd ended with {self.process.returncode}:\n{self.log_tail()}")
        return os.path.exists(self.socket) and self.larder("status", "--json", check=False).returncode == 0

    def log_text(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def log_tail(self, lines=30):
        try:
            return "".join(self.log_text().splitlines(keepends=True)[-lines:])
        except OSError:
            return "(no log)"

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"larderd did not end on SIGTERM:\n{self.log_tail()}") from None
        if "Sanitizer: " in self.log_text():  # make asan; leaks are told at the end
            raise AssertionError(f"larderd:\n{self.log_tail(100)}")

    def remove(self):
        try:
            self.stop()
        finally:
            if self.store:
                self.store.close()
            for folder in (self.work, self.cache):
                shutil.rmtree(folder, ignore_errors=True)

    def cache_path(self):
        """The cache as a folder, whichever home it has; also while larderd is down. For this process and its children."""
        return self.store.folder() if self.store else self.config["cache_dir"]

    def larder(self, *args, check=True, timeout=120, env=None):
        result = subprocess.run([LARDER, *args], env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=timeout,
                                stdin=subprocess.DEVNULL)
        if check and result.returncode != 0:
            raise AssertionError(f"larder {' '.join(args)} ended with {result.returncode}: {result.stderr}\n{self.log_tail()}")
        return result

    def status(self):
        return json.loads(self.larder("status", "--json").stdout)

    def mount_named(self, name, source, path):
        """Mounts a dataset under a name of its own, for two mounts of one source."""
        self.larder("format", name, source)
        self.larder("mount", name, path)

    def mount(self, source, path, **options):
        words = [w for k, v in options.items() for w in ("--option", f"{k}={v}")]
        return self.larder("mount", source, path, *words)

    def preload_env(self, **more):
        cache = {} if self.store else {"LARDER_CACHE": self.config["cache_dir"]}
        return {**self.env, "LD_PRELOAD": LIBRARY, **cache, **more}

    def run(self, *command, **options):
        """Runs a program under the preload, with the options and result of subprocess.run."""
        return subprocess.run(command, env=self.preload_env(), **{"capture_output": True, "timeout": 120, **options})


class LarderTest(unittest.TestCase):
    maxDiff = 4000

    def needs_a_path(self, daemon):
        """For programs that find the cache while larderd is away (LARDER_CACHE)."""
        if daemon.store:
            self.skipTest("memory of larderd's own has no path")

    def assert_one_line(self, result, *parts):
        """Checks an error: non-zero status, one line on stderr that contains all parts."""
        self.assertNotEqual(result.returncode, 0, result.stdout)
        lines = [line for line in result.stderr.splitlines() if line and not line.startswith("larder: warning:")]
        self.assertEqual(len(lines), 1, result.stderr)
        for part in parts:
            self.assertIn(part, lines[0])
