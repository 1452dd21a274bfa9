# Python starting processes: subprocess with and without close_fds, cwd and stdin in the dataset, pipes, multiprocessing.
import hashlib, multiprocessing, os, subprocess, sys

root, scratch = sys.argv[1:]


def md5_of(path):
    with open(path, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


def work(i):
    name = f"{root}/images/n{i % 6:02}/img_{i:04}.JPEG"
    return i, md5_of(name), os.stat(name).st_size, len(os.listdir(os.path.dirname(name)))


def here(queue):
    queue.put((os.getcwd(), sorted(os.listdir("."))))


if __name__ == "__main__":
    for close_fds in (True, False):
        for cwd in (None, root + "/text"):
            p = subprocess.run(["sh", "-c", f"pwd | sed 's/.*compat//'; md5sum {root}/text/03.txt; cat"], stdin=open(root + "/text/04.txt"), cwd=cwd, close_fds=close_fds, capture_output=True)
            print(close_fds, cwd is None or cwd, p.returncode, hashlib.md5(p.stdout.split(b"\n", 1)[1] if cwd is None else p.stdout).hexdigest(), p.stderr)
    with open(root + "/sizes/00110000.bin", "rb") as f:
        p = subprocess.run(["sh", "-c", f"cat /proc/self/fd/{f.fileno()} | md5sum; cat <&{f.fileno()} | md5sum"], pass_fds=[f.fileno()], capture_output=True)
        print("pass_fds", p.stdout, p.stderr)
    p1 = subprocess.Popen(["cat", root + "/text/05.txt"], stdout=subprocess.PIPE)
    p2 = subprocess.Popen(["sort", "-n"], stdin=p1.stdout, stdout=subprocess.PIPE)
    p1.stdout.close()
    print("pipe", hashlib.md5(p2.communicate()[0]).hexdigest(), p1.wait(), p2.returncode)
    print("system", os.system(f"cd {root}/text && test $(ls | wc -l) = 20 && wc -l < 00.txt >/dev/null"), len(os.popen(f"cat {root}/text/0*.txt").read()))
    print("missing", subprocess.run(["cat", root + "/none"], capture_output=True).returncode)
    for cwd in (root + "/none", root + "/text/00.txt"):
        try:
            subprocess.run(["true"], cwd=cwd)
        except OSError as e:
            print("cwd", e.errno, e.filename)
    pid = os.posix_spawn("/bin/cat", ["cat"], {**os.environ}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, root + "/text/06.txt", os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, scratch + "/spawned", os.O_CREAT | os.O_WRONLY, 0o644)])
    print("posix_spawn", os.waitpid(pid, 0)[1])
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(4) as pool:
            print(method, hashlib.md5(repr(pool.map(work, range(120), chunksize=3)).encode()).hexdigest())
        os.chdir(root + "/images")
        queue = context.Queue()
        child = context.Process(target=here, args=(queue,))
        child.start()
        print(method, "cwd", queue.get(timeout=60))
        child.join()
        os.chdir("/")
