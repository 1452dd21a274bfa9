"""A larderd of a test's own: temporary directories, one mount, programs bare and preloaded."""
import os
import shutil
import subprocess
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
BUILD = os.path.abspath(os.environ.get("LARDER_BUILD", os.path.join(ROOT, "build")))


class Larder:
    """Starts larderd on `cache_size` bytes in a folder below /dev/shm; stop() removes all of it."""

    def __init__(self, cache_size="256MiB", config=""):
        self.base = tempfile.mkdtemp(prefix="larder-test-", dir="/dev/shm")
        self.socket = os.path.join(self.base, "sock")
        self.cache = os.path.join(self.base, "cache")
        self.cache_size = cache_size
        self.config = os.path.join(self.base, "larder.toml")
        with open(self.config, "w") as f:
            f.write(config)
        self.process = None
        self.start()

    def start(self):
        self.log = open(os.path.join(self.base, "log"), "ab")
        self.process = subprocess.Popen(
            [os.path.join(BUILD, "larderd"), "--config", self.config, "--socket", self.socket, "--cache-dir", self.cache,
             "--cache-size", self.cache_size, "--state-dir", os.path.join(self.base, "state")],
            stdout=self.log, stderr=self.log)
        for _ in range(500):
            if os.path.exists(self.socket) and self.larder("status", check=False).returncode == 0:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError("larderd did not start: " + self.log_text()[-2000:])

    def log_text(self):
        with open(os.path.join(self.base, "log"), errors="replace") as f:
            return f.read()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.log.close()
        shutil.rmtree(self.base, ignore_errors=True)

    def env(self, preload=True, **more):
        env = dict(os.environ, LARDER_SOCKET=self.socket, LARDER_CACHE=self.cache, LC_ALL="C.UTF-8")
        if preload:
            env["LD_PRELOAD"] = os.path.join(BUILD, "liblarder.so")
        env.update(more)
        return env

    def larder(self, *args, check=True):
        return subprocess.run([os.path.join(BUILD, "larder"), *args], env=self.env(preload=False), capture_output=True,
                              text=True, check=check)

    def mount(self, name, source, path):
        self.larder("format", name, source)
        self.larder("mount", name, path)

    def run(self, *command, **kwargs):
        """A program under the preload."""
        kwargs.setdefault("capture_output", True)
        kwargs.setdefault("timeout", 120)
        return subprocess.run(command, env=self.env(), **kwargs)


def make_tree(path):
    """The tree that probe.cc walks. Modes as a dataset has them."""
    for folder in ("a/b/deep", "sp ace", "many"):
        os.makedirs(os.path.join(path, folder))
    files = {"a/one": b"x", "a/empty": b"", "a/big": os.urandom(300000), "a/b/deep/leaf": b"leaf\n", "sp ace/\u00fc%+": b"u\n"}
    files.update({f"many/n{i}": f"{i}\n".encode() for i in range(100)})
    for name, data in files.items():
        with open(os.path.join(path, name), "wb") as f:
            f.write(data)
    subprocess.run(f"find '{path}' -type f -exec chmod 444 {{}} + ; find '{path}' -type d -exec chmod 555 {{}} +", shell=True, check=True)
