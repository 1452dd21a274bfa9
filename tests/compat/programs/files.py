# CPython's ways to files: io, os, pathlib, glob, shutil, mmap, subprocess, multiprocessing, zipfile, tarfile, sqlite.
import asyncio, concurrent.futures, filecmp, fnmatch, glob, hashlib, io, linecache, mmap, os, pathlib, shutil, stat, subprocess, sys, tarfile, zipfile

root, scratch = sys.argv[1:]


def md5(data):
    return hashlib.md5(data).hexdigest()


def error(name, f):
    try:
        print(name, "worked", f())
    except OSError as e:
        print(name, type(e).__name__, e.errno, e.filename)


files = []
for folder, folders, names in os.walk(root):
    folders.sort()
    print("walk", folder, folders, sorted(names))
    files += [os.path.join(folder, n) for n in sorted(names)]
for folder, folders, names, fd in os.fwalk(root):
    folders.sort()
    print("fwalk", folder, sorted(folders), sorted(names), sorted(os.stat(n, dir_fd=fd).st_size for n in names))
for f in files:
    st = os.stat(f)
    with open(f, "rb") as h:
        assert os.fstat(h.fileno()) == st == os.lstat(f), (os.fstat(h.fileno()), st)
        print(f, st.st_size, oct(st.st_mode), st.st_mtime_ns, md5(h.read()))
with os.scandir(root + "/text") as entries:
    print("scandir", sorted((e.name, e.is_file(), e.is_dir(), e.is_symlink(), e.stat().st_size, e.inode() == e.stat().st_ino) for e in entries))
path = pathlib.Path(root)
print("glob", sorted(glob.glob(root + "/**/*.txt", recursive=True)), sorted(path.rglob("*leaf")), sorted(map(str, path.glob("images/n0[12]/*0.JPEG"))))
print("pathlib", path.is_dir(), (path / "text/00.txt").read_text()[:20], (path / "odd/../text").resolve(), (path / "none").exists(), path.is_mount() is not None)
with open(root + "/sizes/05242883.bin", "rb", buffering=0) as f:
    print("raw", md5(f.read(100)), f.seek(-100, 2), md5(f.readall()), os.pread(f.fileno(), 10, 4000), f.seekable(), os.lseek(f.fileno(), 0, os.SEEK_SET))
    out = os.open(scratch + "/sent", os.O_CREAT | os.O_WRONLY)
    print("sendfile", os.sendfile(out, f.fileno(), 1000, 4_000_000))
    b = [bytearray(1000), bytearray(2000)]
    print("preadv", os.preadv(f.fileno(), b, 777), md5(b[0] + b[1]))
with open(root + "/sizes/05242883.bin", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
    print("mmap", len(m), md5(m[1234:3_000_000]), m.find(m[4_000_000:4_000_020]))
with open(root + "/sizes/05242883.bin", "rb") as f:
    copy = mmap.mmap(f.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    copy[0:5] = b"hello"
    print("private", copy[:10], f.read(10))
with open(root + "/text/00.txt") as f:
    print("text", sum(int(line.split()[0]) for line in f), linecache.getline(root + "/text/00.txt", 7))
shutil.copytree(root + "/text", scratch + "/tree")
shutil.copy2(root + "/sizes/01048577.bin", scratch + "/copy")
print("compare", filecmp.cmp(root + "/sizes/01048577.bin", scratch + "/copy", shallow=False), filecmp.dircmp(root + "/text", scratch + "/tree").diff_files)
shutil.make_archive(scratch + "/a", "tar", root, "images")
with tarfile.open(scratch + "/a.tar") as t:
    print("tar", sorted((m.name, m.size, m.mtime, m.mode) for m in t))
os.remove(scratch + "/a.tar")
with zipfile.ZipFile(io.BytesIO(), "w") as z:
    for f in files[:30]:
        z.write(f)
    print("zip", [(i.filename, i.CRC) for i in z.infolist()])
for name, f in {"w": lambda: open(root + "/text/00.txt", "w"), "a": lambda: open(root + "/new", "a"), "x": lambda: open(root + "/text/00.txt", "x"), "r+": lambda: open(root + "/text/00.txt", "r+"),
                "mkdir": lambda: os.mkdir(root + "/new"), "remove": lambda: os.remove(root + "/text/00.txt"), "rename": lambda: os.rename(root + "/text", root + "/x"), "missing": lambda: open(root + "/none"),
                "listdir": lambda: os.listdir(root + "/text/00.txt"), "dir": lambda: open(root + "/text"), "notdir": lambda: os.stat(root + "/text/00.txt/x"), "chmod": lambda: os.chmod(root + "/text", 0o700),
                "utime": lambda: os.utime(root + "/text/00.txt"), "truncate": lambda: os.truncate(root + "/text/00.txt", 0), "rmtree": lambda: shutil.rmtree(root + "/deep"), "readlink": lambda: os.readlink(root + "/text"),
                "exec": lambda: os.execv(root + "/script.sh", ["x"]), "xattr": lambda: os.listxattr(root + "/text"), "link": lambda: os.link(root + "/text/00.txt", scratch + "/hard"), "replace": lambda: os.replace(scratch + "/copy", root + "/text/00.txt")}.items():
    error(name, f)
print("access", [os.access(root + p, m) for p in ("/text", "/text/00.txt", "/none") for m in (os.R_OK, os.W_OK, os.X_OK, os.F_OK)], stat.filemode(os.stat(root).st_mode))
with concurrent.futures.ThreadPoolExecutor(16) as pool:
    print("threads", md5("".join(pool.map(lambda f: md5(open(f, "rb").read()), files)).encode()))


async def many():
    loop = asyncio.get_running_loop()
    return await asyncio.gather(*(loop.run_in_executor(None, pathlib.Path(f).read_bytes) for f in files))
print("asyncio", md5(b"".join(asyncio.run(many()))))
os.symlink(root + "/text", scratch + "/link")
print("link", os.path.realpath(scratch + "/link/01.txt"), len(os.listdir(scratch + "/link")), os.path.islink(scratch + "/link"), os.path.samefile(scratch + "/link/01.txt", root + "/text/01.txt"))
fd = os.open(root + "/images", os.O_RDONLY | os.O_DIRECTORY)
print("dirfd", sorted(os.listdir(fd)), os.stat("n00", dir_fd=fd).st_mode, len(os.listdir(os.open("n01", os.O_RDONLY, dir_fd=fd))), os.open("n00/img_0000.JPEG", os.O_RDONLY, dir_fd=fd) > 0)
os.chdir(fd)
print("cwd", os.getcwd(), sorted(os.listdir(".")), os.path.abspath("x"), len(os.listdir("../text")))
os.chdir(root + "/deep")
print(subprocess.run("pwd; ls; find . -type f | xargs cat", shell=True, capture_output=True, text=True), subprocess.check_output(["cat", "00.txt"], cwd=root + "/text")[:30], fnmatch.filter(os.listdir(), "l*"))
