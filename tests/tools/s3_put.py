#!/usr/bin/env python3
"""Puts many files into an S3 bucket quickly, with the standard library alone.

    AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. python3 tests/tools/s3_put.py --endpoint URL DIR s3://bucket/prefix

The bucket is made if it is missing. boto3 needs 1.5 ms of CPU for a PUT and is bound by one core; this client keeps its
connections, signs with a cached key (UNSIGNED-PAYLOAD) and runs in a few processes. It is also an independent second
implementation of the signature that the C++ one is compared with.
"""
import argparse
import datetime
import hashlib
import hmac
import http.client
import os
import sys
import threading
import urllib.parse
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed


class Client:
    """One connection. put/get/make_bucket/request; RuntimeError with the status and the reply otherwise."""

    def __init__(self, endpoint, access_key, secret_key, region="us-east-1", token=""):
        self.url = urllib.parse.urlsplit(endpoint)
        self.access_key, self.secret_key, self.region, self.token = access_key, secret_key, region, token
        self.connection = None
        self.key = (None, None)

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def _signing_key(self, date):
        if self.key[0] != date:
            key = ("AWS4" + self.secret_key).encode()
            for part in (date, self.region, "s3", "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self.key = (date, key)
        return self.key[1]

    def _headers(self, method, path, query, extra):
        stamp = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": self.url.netloc, "x-amz-date": stamp, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", **extra}
        if self.token:
            headers["x-amz-security-token"] = self.token
        names = ";".join(sorted(headers))
        lines = "".join(f"{k}:{headers[k]}\n" for k in sorted(headers))
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
        scope = f"{stamp[:8]}/{self.region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.new(self._signing_key(stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
        headers["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, "
                                    f"SignedHeaders={names}, Signature={signature}")
        return headers

    def request(self, method, bucket, key="", query=None, body=None, headers=None):
        """(status, headers, body). Reconnects once when a kept connection had been closed."""
        path = "/" + bucket + ("/" + urllib.parse.quote(key, safe="/-_.~") if key else "")
        text = "&".join(f"{urllib.parse.quote(k, safe='-_.~')}={urllib.parse.quote(v, safe='-_.~')}"
                        for k, v in sorted((query or {}).items()))
        signed = self._headers(method, path, text, headers or {})
        for attempt in range(2):
            if self.connection is None:
                kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
                self.connection = kind(self.url.netloc, timeout=60)
            try:
                self.connection.request(method, path + ("?" + text if text else ""), body, signed)
                reply = self.connection.getresponse()
                return reply.status, reply.headers, reply.read()
            except (OSError, http.client.HTTPException):
                self.close()
                if attempt:
                    raise

    def _expect(self, wanted, what, reply):
        if reply[0] not in wanted:
            raise RuntimeError(f"{what}: {reply[0]} {reply[2][:300]!r}")
        return reply[2]

    def make_bucket(self, bucket):
        self._expect((200, 409), f"PUT {bucket}", self.request("PUT", bucket))

    def put(self, bucket, key, data):
        self._expect((200,), f"PUT {bucket}/{key}", self.request("PUT", bucket, key, body=data))

    def get(self, bucket, key):
        return self._expect((200,), f"GET {bucket}/{key}", self.request("GET", bucket, key))

    def delete(self, bucket, key):
        self._expect((200, 204), f"DELETE {bucket}/{key}", self.request("DELETE", bucket, key))


def put_files(endpoint, access_key, secret_key, bucket, files, threads=8):
    """Puts (key, path) pairs with some threads. Returns the number of bytes."""
    local = threading.local()

    def one(item):
        if not hasattr(local, "client"):
            local.client = Client(endpoint, access_key, secret_key)
        with open(item[1], "rb") as f:
            data = f.read()
        local.client.put(bucket, item[0], data)
        return len(data)

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, files))


def put_tree(endpoint, access_key, secret_key, directory, bucket, prefix="", processes=3, progress=None):
    """Puts every file below `directory`. Returns (files, bytes)."""
    files = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            files.append((prefix + os.path.relpath(path, directory), path))
    Client(endpoint, access_key, secret_key).make_bucket(bucket)
    total = done = 0
    slices = [files[i:i + 250] for i in range(0, len(files), 250)]
    with ProcessPoolExecutor(processes) as pool:
        jobs = {pool.submit(put_files, endpoint, access_key, secret_key, bucket, s): len(s) for s in slices}
        for job in as_completed(jobs):
            total += job.result()
            done += jobs[job]
            if progress:
                progress(done, len(files))
    return len(files), total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("directory")
    parser.add_argument("target", help="s3://bucket/prefix")
    args = parser.parse_args()
    target = urllib.parse.urlsplit(args.target)
    prefix = target.path.lstrip("/")
    if prefix and not prefix.endswith("/"):
        prefix += "/"

    def progress(done, total):
        if sys.stderr.isatty():
            print(f"\r{done}/{total} files", end="" if done < total else "\n", file=sys.stderr, flush=True)

    files, size = put_tree(args.endpoint, os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"],
                           args.directory, target.netloc, prefix, args.processes, progress)
    print(f"{files} files, {size} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
