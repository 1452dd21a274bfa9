"""Paths, environments, waiting, scratch folders: what every test needs."""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROOT = os.path.dirname(TESTS)
TOOLS = os.path.join(TESTS, "tools")
BUILD = os.path.abspath(os.environ.get("LARDER_BUILD", os.path.join(ROOT, "build")))
LARDER, LARDERD, LIBRARY, KEEPER = (os.path.join(BUILD, n) for n in ("larder", "larderd", "liblarder.so", "larder-keeper"))
VENV = os.path.join(ROOT, "build", "venv")
VENV_PYTHON = os.path.join(VENV, "bin", "python")
PYTHON = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else sys.executable
MiB = 1 << 20


def clean_environment():
    """This process's environment without variables that lead to another daemon or other credentials."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LARDER_", "AWS_", "BDCLOUD_")) and k not in ("LD_PRELOAD", "PYTHONPATH")}
    return {**env, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}


def free_port(host="127.0.0.1"):
    with socket.socket() as s:
        s.bind((host, 0))
        return s.getsockname()[1]


BUSY = 4  # limits are for hangs; on a busy machine everything takes longer


def wait_for(condition, seconds=20, what="the condition"):
    end = time.monotonic() + BUSY * seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come within {BUSY * seconds} s")


def alive(pid):
    """False for a zombie, too: only its parent can wait for it."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def run_program(command, env, cwd=None, timeout=120, data=None):
    """Runs a list of words, or a text by sh -c; the result has bytes."""
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
