"""Object stores, and a proxy that breaks them."""
import json
import os
import subprocess
import urllib.parse
import urllib.request

from s3_server import S3Server

from .base import PYTHON, TOOLS, VENV, wait_for


def s3_server(folder):
    """An S3Server of tests/tools, not started."""
    return S3Server(folder, venv=VENV)


def s3_environment(server):
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key, "AWS_REGION": server.region}


class OddServer:
    """tests/tools/odd_s3_server.py."""
    access_key, secret_key, region = "odd", "odd", "us-east-1"

    def __init__(self, **habits):
        self.process = subprocess.Popen([PYTHON, os.path.join(TOOLS, "odd_s3_server.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = json.loads(self.process.stdout.readline())["endpoint"]
        if habits:
            self.habits(**habits)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(10)

    def habits(self, **habits):
        self.put("habits", json.dumps(habits).encode(), bucket="-")

    def log(self):
        """What was asked since the last call."""
        with urllib.request.urlopen(self.endpoint + "/-/log") as reply:
            return json.loads(reply.read())

    def put(self, key, data, bucket="bucket", **headers):
        url = f"{self.endpoint}/{bucket}/{urllib.parse.quote(key)}"
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method="PUT", headers=headers)):
            pass


class Proxy:
    """tests/tools/fault_proxy.py in front of a store."""

    def __init__(self, target, latency_ms=0):
        self.process = subprocess.Popen([PYTHON, os.path.join(TOOLS, "fault_proxy.py"), "--target", target,
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
        request = urllib.request.Request(f"{self.endpoint}/__fault__/{what}", data=body, method=method)
        with urllib.request.urlopen(request) as reply:
            return reply.read()

    def log(self):
        return json.loads(self._call("GET", "log"))

    def clear(self):
        self._call("DELETE", "log")

    def rules(self, *rules):
        self._call("PUT", "rules", json.dumps(rules).encode())

    def wait_held(self, count=1, seconds=60):
        """Until so many requests are held (fault "hold")."""
        wait_for(lambda: self.log()["held"] >= count, seconds, f"{count} held requests")

    def release(self):
        self._call("PUT", "release")

    def latency(self, ms):
        self._call("PUT", f"latency?ms={ms}")
