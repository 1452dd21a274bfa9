#!/usr/bin/env python3
"""A real S3 server (SeaweedFS) on loopback, for tests, the demo and benchmarks.

    python3 tests/tools/s3_server.py --dir DIR [--port 0] [--venv build/venv]

Prints one JSON line {"endpoint","access_key","secret_key","region","pid"} when it answers, then runs until its stdin
closes or SIGTERM/SIGINT comes, and takes the server with it (also when this process is killed: PR_SET_PDEATHSIG).
DIR is made if it is missing and keeps the data; the server's log is DIR/weed.log. Importable: `with S3Server(dir) as s:`.
"""
import argparse
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_VENV = os.path.join(HERE, "..", "..", "build", "venv")
PR_SET_PDEATHSIG = 1


def free_ports(count, host="127.0.0.1"):
    """Ports nobody listens on now. All are held at once, so that they differ."""
    held = [socket.socket() for _ in range(count)]
    try:
        for s in held:
            s.bind((host, 0))
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class S3Server:
    """Starts weed; .endpoint, .access_key, .secret_key, .region; stop() ends it."""

    def __init__(self, directory, port=0, venv=DEFAULT_VENV, access_key=None, secret_key=None, timeout=60, host="127.0.0.1"):
        self.host = host
        self.directory = os.path.abspath(directory)
        self.port = port
        self.weed = os.path.join(os.path.abspath(venv), "bin", "weed")
        self.access_key = access_key or "LARDER" + secrets.token_hex(7).upper()
        self.secret_key = secret_key or secrets.token_urlsafe(30)
        self.region = "us-east-1"
        self.timeout = timeout
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        if not os.path.exists(self.weed):
            raise RuntimeError(f"{self.weed} is missing: run tests/tools/venv.sh first")
        os.makedirs(self.directory, exist_ok=True)
        for attempt in range(4):  # a free port may be taken by somebody before weed binds it
            self._launch()
            if self._wait():
                return
            self.stop()
        raise RuntimeError(f"the S3 server did not start; its log: {self.directory}/weed.log\n{self._log_tail()}")

    def _launch(self):
        identities = {"identities": [{
            "name": "larder",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]}
        config = os.path.join(self.directory, "s3.json")
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            json.dump(identities, f)
        p = free_ports(9, self.host)
        s3_port = self.port or p[8]
        data = os.path.join(self.directory, "data")
        os.makedirs(data, exist_ok=True)
        self.endpoint = f"http://{self.host}:{s3_port}"
        # A bucket takes a volume of its own (seven, unless told). The count has no limit here: by default it is the free
        # disk / 1 GiB, and on a disk with little room the PUTs into a suite's later buckets are 500 InternalError.
        args = [self.weed, "-logtostderr=true", "server", f"-dir={data}", f"-ip={self.host}", f"-ip.bind={self.host}",
                f"-master.port={p[0]}", f"-master.port.grpc={p[1]}", "-master.telemetry=false",
                "-master.volumeSizeLimitMB=1024", "-master.volumePreallocate=false",
                f"-volume.port={p[2]}", f"-volume.port.grpc={p[3]}", "-volume.max=100000", "-volume.preStopSeconds=0",
                "-volume.minFreeSpace=256MiB",
                "-filer=true", f"-filer.port={p[4]}", f"-filer.port.grpc={p[5]}",
                "-s3=true", f"-s3.port={s3_port}", f"-s3.port.grpc={p[6]}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                f"-s3.config={config}", "-s3.iam=false", "-s3.allowEmptyFolder=true", "-s3.autoCreateBucket=true"]
        self._log = open(os.path.join(self.directory, "weed.log"), "ab")
        self.process = subprocess.Popen(args, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=self._log,
                                        stderr=self._log, start_new_session=True, preexec_fn=_die_with_parent,
                                        env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"})

    def _wait(self):
        """True once a bucket can be made and an object written (all four parts of weed are then up)."""
        from s3_put import Client
        client = Client(self.endpoint, self.access_key, self.secret_key)
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                return False
            try:
                client.make_bucket("larder-ready")
                client.put("larder-ready", "probe", b"ready")
                if client.get("larder-ready", "probe") == b"ready":
                    return True
            except (OSError, RuntimeError):
                client.close()
            time.sleep(0.1)
        return False

    def _log_tail(self):
        try:
            with open(os.path.join(self.directory, "weed.log"), errors="replace") as f:
                return "".join(f.readlines()[-15:])
        except OSError as e:
            return str(e)

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(3)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None
        self._log.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--venv", default=DEFAULT_VENV)
    args = parser.parse_args()
    stop = lambda *_: sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server = S3Server(args.dir, args.port, args.venv)
    try:
        server.start()
        print(json.dumps({"endpoint": server.endpoint, "access_key": server.access_key,
                          "secret_key": server.secret_key, "region": server.region, "pid": server.process.pid}),
              flush=True)
        while os.read(0, 4096):
            pass
    except RuntimeError as e:
        print(f"s3_server.py: {e}", file=sys.stderr)
        return 1
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
