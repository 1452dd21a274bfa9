"""Containers for tests: root file systems of a few programs, run by podman with runc, without a network and without an image."""
import os
import shutil
import subprocess
import tempfile

from .base import BUILD, LIBRARY, run_program, scratch

# crun refuses hybrid cgroups; the limits are lower than a nested machine's own.
CONFIG = """[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
"""


def why_not():
    """Why no container can run here; empty if one can."""
    if os.geteuid() != 0:
        return "containers are run as root"
    if not shutil.which("podman") or not shutil.which("runc"):
        return "podman or runc is not installed"
    return ""


def libraries_of(program):
    out = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [word for line in out.splitlines() for word in line.split() if word.startswith("/")]


def make_root(folder, programs):
    """Copies programs of this machine (name in /bin -> program), with the libraries they need, into an empty root file system."""
    for name in ("bin", "proc", "sys", "dev", "tmp", "run", "etc", "data", "larder"):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
    for name, path in programs.items():
        path = shutil.which(path) or path
        libraries = [*libraries_of(path), *libraries_of(LIBRARY)]
        for source, target in [(path, f"/bin/{name}"), *((library, library) for library in libraries)]:
            target = folder + target
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if not os.path.exists(target):
                shutil.copy(source, target)  # follows links


class Podman:
    """Runs commands in containers whose root is `root`; `share` is mounted read-only as /larder."""

    def __init__(self, work, root, share):
        self.work, self.root, self.share = work, root, share
        config = os.path.join(work, "containers.conf")
        with open(config, "w") as f:
            f.write(CONFIG)
        self.env = {"PATH": os.environ["PATH"], "HOME": work, "CONTAINERS_CONF": config, "LC_ALL": "C.UTF-8"}
        self.own = ["podman", "--root", os.path.join(work, "root"), "--runroot", os.path.join(work, "runroot")]

    def command(self, *words, options=(), read_only=True):
        """The command line of a container that is removed when it ends."""
        return [*self.own, "run", "--rm", "--network=none", "-v", f"{self.share}:/larder:ro", *(["--read-only"] if read_only else []),
                *options, "--rootfs", self.root if read_only else f"{self.root}:O", *words]

    def run(self, *words, options=(), read_only=True, timeout=120):
        return run_program(self.command(*words, options=options, read_only=read_only), self.env, timeout=timeout)


def make_share(folder):
    """The part of Larder that a container gets: the library and larder-exec side by side, as `make install` puts them."""
    for name in ("liblarder.so", "larder-exec"):
        shutil.copy(os.path.join(BUILD, name), folder)
    return folder


def scratch_podman(stack, programs):
    """A Podman whose folders end with the test: `stack` is a TestCase, or anything with enterContext()."""
    work = stack.enterContext(scratch())
    root, share = (tempfile.mkdtemp(dir=work) for _ in range(2))
    os.chmod(root, 0o755)
    os.chmod(share, 0o755)
    os.chmod(work, 0o755)
    make_root(root, programs)
    return Podman(work, root, make_share(share))
