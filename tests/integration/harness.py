"""What the integration tests stand on: a larderd of their own, the command line, a dataset, programs bare and preloaded.

Everything a test makes lies in folders that it removes, and every process that it starts it ends, by pid.
"""
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.abspath(os.path.join(HERE, "..", ".."))
BUILD = os.environ.get("LARDER_BUILD", os.path.join(ROOT, "build"))
LARDER, LARDERD, LIBRARY = (os.path.join(BUILD, n) for n in ("larder", "larderd", "liblarder.so"))
VENV = os.path.join(ROOT, "build", "venv")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
sys.path[:0] = [os.path.join(ROOT, "tests", "tools"), HERE]

MiB = 1 << 20


def clean_environment():
    """Ours without what would reach another daemon or other credentials."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LARDER_", "AWS_", "BDCLOUD_")) and k != "LD_PRELOAD"}
    return {**env, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def wait_for(condition, seconds=20, what="the condition"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {seconds} s")


def alive(pid):
    """False for a zombie, too: nobody but its parent can see that one."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def tree_digests(folder):
    return {os.path.relpath(os.path.join(d, f), folder): digest(os.path.join(d, f)) for d, _, names in os.walk(folder) for f in names}


def toml(value):
    return json.dumps(value)  # texts, numbers and booleans look the same


class Daemon:
    """A larderd with its own socket, cache, state and log."""

    def __init__(self, env=None, prefix=(), **config):
        self.prefix = list(prefix)  # what starts it: nsenter
        self.work = tempfile.mkdtemp(prefix="larder-test-")
        self.cache = tempfile.mkdtemp(prefix="larder-test-", dir="/dev/shm")
        self.socket = os.path.join(self.work, "s")
        self.log = os.path.join(self.work, "log")
        self.config = {"socket": self.socket, "cache_dir": os.path.join(self.cache, "c"), "state_dir": os.path.join(self.work, "state"),
                       "cache_size": "256MiB", "fill": "off", "log_level": "debug", **config}
        self.env = {**clean_environment(), "LARDER_SOCKET": self.socket, **(env or {})}
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
        return path

    def start(self):
        path = self.write_config()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*self.prefix, LARDERD, "--config", path], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env)
        wait_for(self._answers, 30, "larderd")

    def _answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"larderd ended with {self.process.returncode}:\n{self.log_tail()}")
        return os.path.exists(self.socket) and self.larder("status", "--json", check=False).returncode == 0

    def log_tail(self, lines=30):
        try:
            with open(self.log, errors="replace") as f:
                return "".join(f.readlines()[-lines:])
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
        with open(self.log, errors="replace") as f:
            if "Sanitizer: " in f.read():  # make asan; leaks are told at the end
                raise AssertionError(f"larderd:\n{self.log_tail(100)}")

    def remove(self):
        try:
            self.stop()
        finally:
            for folder in (self.work, self.cache):
                shutil.rmtree(folder, ignore_errors=True)

    def larder(self, *args, check=True, timeout=120, env=None):
        result = subprocess.run([LARDER, *args], env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=timeout,
                                stdin=subprocess.DEVNULL)
        if check and result.returncode != 0:
            raise AssertionError(f"larder {' '.join(args)} ended with {result.returncode}: {result.stderr}\n{self.log_tail()}")
        return result

    def status(self):
        return json.loads(self.larder("status", "--json").stdout)

    def mount(self, source, path, **options):
        words = [w for k, v in options.items() for w in ("--option", f"{k}={v}")]
        self.larder("mount", source, path, *words)

    def preload_env(self, **more):
        return {**self.env, "LD_PRELOAD": LIBRARY, "LARDER_CACHE": self.config["cache_dir"], **more}


def run_program(command, env, cwd=None, timeout=120, data=None):
    """The result with bytes; a list, or a text for sh -c."""
    words = ["/bin/sh", "-c", command] if isinstance(command, str) else command
    return subprocess.run(words, env=env, cwd=cwd, input=data if data is not None else b"", capture_output=True, timeout=timeout)


@contextlib.contextmanager
def scratch(where=None):
    folder = tempfile.mkdtemp(prefix="larder-test-", dir=where)
    try:
        yield folder
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


# Names that stores, URLs and shells get wrong; sizes around every boundary of the path.
ODD_NAMES = ["with space.txt", "per%cent%20.txt", "plus+sign.txt", "a&b=c;d.txt", "quote'\".txt", "tilde~.txt", "über-日本.txt",
             "#hash?.txt", "x" * 200 + ".txt", ".hidden", "UPPER.txt", "upper.txt", "back\\slash.txt", "[brackets]*.txt"]
SIZES = [0, 1, 511, 4095, 4096, 4097, 65536, 110_000, 262_144, 1 * MiB + 1, 5 * MiB + 3]


def content(seed, size):
    """Bytes that no other seed or offset has."""
    return hashlib.shake_256(f"larder {seed}".encode()).digest(size)


def make_tree(root, extra=0):
    """A dataset as awkward as they come; returns the number of files. Read-only modes, as Larder shows them."""
    count = 0

    def write(name, data):
        nonlocal count
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(data)
        count += 1

    for name in ODD_NAMES:
        write("odd/" + name, f"needle in {len(name)}\n".encode())
    for size in SIZES:
        write(f"sizes/{size}.bin", content(size, size))
    for i in range(60):
        write(f"classes/n{i % 6:02}/img_{i:04}.JPEG", content(("img", i), 2000 + 37 * i))
    for i in range(extra):
        write(f"many/{i % 10}/f{i:05}", content(("many", i), 5000 + i % 1000))
    write("deep/" + "/".join(f"level{i}" for i in range(12)) + "/leaf", b"needle at the bottom\n")
    write("top.txt", b"first line\nneedle second line\nlast line without newline")
    return count


def settle_tree(root, mtimes=None):
    """Gives a plain tree the modes and times that the mount shows: 0444 and 0555; a folder is as new as its newest child."""
    for folder, folders, files in os.walk(root, topdown=False):
        newest = 0
        for name in files:
            path = os.path.join(folder, name)
            if mtimes:
                os.utime(path, ns=(mtimes[os.path.relpath(path, root)],) * 2)
            os.chmod(path, 0o444)
            newest = max(newest, os.stat(path).st_mtime_ns)
        for name in folders:
            newest = max(newest, os.stat(os.path.join(folder, name)).st_mtime_ns)
        os.utime(folder, ns=(newest, newest))
        os.chmod(folder, 0o555)


def s3_server(folder):
    """An S3Server of tests/tools, not started."""
    import s3_server as module
    return module.S3Server(folder, venv=VENV)


def s3_environment(server):
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_REGION": server.region}


class Proxy:
    """tests/tools/fault_proxy.py in front of a store."""

    def __init__(self, target, latency_ms=0):
        self.process = subprocess.Popen([PYTHON, os.path.join(ROOT, "tests", "tools", "fault_proxy.py"), "--target", target,
                                         "--latency-ms", str(latency_ms)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = json.loads(self.process.stdout.readline())["endpoint"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _call(self, method, what, body=None):
        import urllib.request
        request = urllib.request.Request(f"{self.endpoint}/__fault__/{what}", data=body, method=method)
        with urllib.request.urlopen(request) as reply:
            return reply.read()

    def log(self):
        return json.loads(self._call("GET", "log"))

    def clear(self):
        self._call("DELETE", "log")

    def rules(self, *rules):
        self._call("PUT", "rules", json.dumps(rules).encode())

    def latency(self, ms):
        self._call("PUT", f"latency?ms={ms}")


class LarderTest(unittest.TestCase):
    maxDiff = 4000

    def assert_one_line(self, result, *parts):
        """An error as it must be: non-zero, one line on stderr, which has all the parts."""
        self.assertNotEqual(result.returncode, 0, result.stdout)
        lines = [line for line in result.stderr.splitlines() if line and not line.startswith("larder: warning:")]
        self.assertEqual(len(lines), 1, result.stderr)
        for part in parts:
            self.assertIn(part, lines[0])
