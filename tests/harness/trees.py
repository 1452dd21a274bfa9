"""Datasets: awkward trees and their content."""
import hashlib
import os
import subprocess

from .base import MiB


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def tree_digests(folder):
    return {os.path.relpath(os.path.join(d, f), folder): digest(os.path.join(d, f)) for d, _, names in os.walk(folder) for f in names}


# Names that stores, URLs and shells get wrong; sizes around every boundary of the path.
ODD_NAMES = ["with space.txt", "per%cent%20.txt", "plus+sign.txt", "a&b=c;d.txt", "quote'\".txt", "tilde~.txt", "über-日本.txt",
             "#hash?.txt", "x" * 200 + ".txt", ".hidden", "UPPER.txt", "upper.txt", "back\\slash.txt", "[brackets]*.txt"]
SIZES = [0, 1, 511, 4095, 4096, 4097, 65536, 110_000, 262_144, 1 * MiB + 1, 5 * MiB + 3]


def content(seed, size):
    """Bytes that no other seed or offset has."""
    return hashlib.shake_256(f"larder {seed}".encode()).digest(size)


def make_tree(root, extra=0):
    """Makes an awkward dataset with read-only modes, as Larder shows them; returns the number of files."""
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


def make_probe_tree(path):
    """The tree that tests/preload/probe.cc walks. Modes as a dataset has them."""
    for folder in ("a/b/deep", "sp ace", "many"):
        os.makedirs(os.path.join(path, folder))
    files = {"a/one": b"x", "a/empty": b"", "a/big": os.urandom(300000), "a/b/deep/leaf": b"leaf\n", "sp ace/\u00fc%+": b"u\n"}
    files.update({f"many/n{i}": f"{i}\n".encode() for i in range(100)})
    for name, data in files.items():
        with open(os.path.join(path, name), "wb") as f:
            f.write(data)
    subprocess.run(f"find '{path}' -type f -exec chmod 444 {{}} + ; find '{path}' -type d -exec chmod 555 {{}} +", shell=True, check=True)
