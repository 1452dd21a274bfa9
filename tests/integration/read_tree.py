"""Reads a folder in every way that Python has and prints what it found. The tests run it bare and preloaded."""
import glob
import hashlib
import mmap
import os
import pathlib
import shutil
import sys

root, scratch = sys.argv[1:3]
os.chdir(root)


def sha(data):
    return hashlib.sha256(data).hexdigest()[:16]


def attributes(st):
    return f"{st.st_mode:o} {st.st_size} {st.st_mtime_ns} {st.st_uid} {st.st_gid}"


print("== walk")
for folder, folders, files in sorted(os.walk(".")):
    print(folder, sorted(folders), sorted(files))
print("== scandir")
for e in sorted(os.scandir("odd"), key=lambda e: e.name):
    print(e.name, e.is_file(), e.is_dir(), e.is_symlink(), e.stat().st_size, e.inode() == e.stat().st_ino)
print("== glob, pathlib")
print(sorted(glob.glob("classes/n0[1-3]/*1*.JPEG")), sorted(glob.glob("**/leaf", recursive=True)))
for p in sorted(pathlib.Path(".").rglob("*.txt")):
    print(p, p.exists(), p.is_file(), attributes(p.stat()), attributes(p.lstat()), p.read_bytes() == open(p, "rb").read())
print(pathlib.Path("deep").resolve() == pathlib.Path(root, "deep").resolve(), os.path.realpath("odd") == os.path.join(os.getcwd(), "odd"))
print("== read, seek, stat and fstat")
for name in sorted(os.listdir("sizes")):
    path = os.path.join("sizes", name)
    with open(path, "rb") as f:
        same = os.fstat(f.fileno()) == os.stat(path)
        data = f.read()
        f.seek(len(data) // 2)
        half = f.read(100)
        f.seek(-min(10, len(data)), os.SEEK_END)
        print(name, sha(data), sha(half), sha(f.read()), same, attributes(os.stat(path)), f.tell())
    with open(path, "rb", buffering=0) as f:
        print(sha(os.pread(f.fileno(), 1000, 3)), f.seek(0, os.SEEK_END))
print("== mmap")
for name in sorted(os.listdir("sizes")):
    with open(os.path.join("sizes", name), "rb") as f:
        if os.fstat(f.fileno()).st_size:
            with mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as m:
                print(name, len(m), sha(m[:]))
print("== directory descriptors")
fd = os.open("classes", os.O_RDONLY | os.O_DIRECTORY)
print(sorted(os.listdir(fd)), os.fstat(fd) == os.stat("classes"))
inner = os.open("n03/img_0003.JPEG", os.O_RDONLY, dir_fd=fd)
print(sha(os.read(inner, 1 << 20)), os.stat("n03", dir_fd=fd).st_mode)
found = []
for folder, folders, files, dirfd in os.fwalk(".", dir_fd=fd):
    found.append((folder, sorted(folders), len(files), sum(os.stat(f, dir_fd=dirfd).st_size for f in files)))
print(sorted(found))
print("== errors")
for call in (lambda: open("none"), lambda: open("odd"), lambda: os.stat("top.txt/x"), lambda: os.listdir("top.txt"), lambda: os.stat("odd/none"),
             lambda: os.readlink("top.txt"), lambda: os.chdir("top.txt"), lambda: os.stat("x" * 300), lambda: os.stat("x/" * 3000),
             lambda: os.open("top.txt", os.O_RDONLY | os.O_DIRECTORY), lambda: os.open("top.txt", os.O_RDONLY | os.O_CREAT | os.O_EXCL)):
    try:
        print("no error", call())
    except OSError as e:
        print(e.errno, e.strerror)
print(os.access("top.txt", os.R_OK), os.access("odd", os.X_OK), os.access("none", os.F_OK))
print("== copytree")
copy = os.path.join(scratch, "copy")
shutil.copytree(".", copy)
for folder, folders, files in sorted(os.walk(copy)):
    for f in sorted(files):
        path = os.path.join(folder, f)
        print(os.path.relpath(path, copy), attributes(os.stat(path)), sha(open(path, "rb").read()))
