"""Stores that speak S3 and are not SeaweedFS: rclone's server and moto, with the settings they need. docs/object_stores.md."""
import json
import os
import socket
import subprocess
import unittest

from harness import (PYTHON, TESTS, TOOLS, VENV, Daemon, LarderTest, clean_environment, content, free_port, run_program, scratch, tree_digests,
                     wait_for)

KEYS = {"AWS_ACCESS_KEY_ID": "larder", "AWS_SECRET_ACCESS_KEY": "larder-secret", "AWS_REGION": "us-east-1"}
NAMES = ["a.txt", "with space.txt", "plus+sign.txt", "per%cent.txt", "über-日本.txt", "a&b=c;d.txt", "deep/er/still/x", "tilde~"]


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class CompatibleServer(LarderTest):
    def serve(self, *words):
        port = free_port()
        process = subprocess.Popen([w.replace("PORT", str(port)) for w in words], env=clean_environment(), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        wait_for(lambda: answers(port), 60, words[0])
        return f"http://127.0.0.1:{port}"


class Compatible(CompatibleServer):
    def files(self):
        named = {name: content(name, 3000 + i) for i, name in enumerate(NAMES)}
        many = {f"many/{i:04}": content(("many", i), 100) for i in range(1100)}
        return {**named, **many, "large": content("large", 20 << 20), "empty": b""}

    def write_tree(self, root, files):
        for name, data in files.items():
            path = os.path.join(root, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)

    def compare(self, endpoint, options, lazy_threshold="4MiB"):
        """Whole, in parts (the large one is lazy) and through its list: the same files."""
        plain = self.enterContext(scratch())
        self.write_tree(plain, self.files())
        want = tree_digests(plain)
        for more in ({}, {"list_version": "1"}):
            with self.subTest(**more), Daemon(env=KEYS, lazy_threshold=lazy_threshold, cache_size="128MiB") as d:
                d.mount("s3://bucket/p", "/data/x", endpoint=endpoint, **{**options, **more})
                code = "from harness import tree_digests; import json; print(json.dumps(tree_digests('/data/x')))"
                out = run_program([PYTHON, "-c", code], d.preload_env(PYTHONPATH=f"{TESTS}:{TOOLS}"))
                self.assertEqual(json.loads(out.stdout or b"{}"), want, out.stderr[-300:].decode() + d.log_tail(8))

    def test_rclone_serve_s3(self):
        folder = self.enterContext(scratch())
        self.write_tree(os.path.join(folder, "bucket", "p"), self.files())
        endpoint = self.serve(os.path.join(VENV, "bin", "rclone"), "serve", "s3", "--addr", "127.0.0.1:PORT", "--auth-key",
                              "larder,larder-secret", "--config", "/dev/null", folder)
        self.compare(endpoint, {})

    def test_rclone_without_etags(self):
        """What names a version: an object replaced by one of the same size is seen by its time alone."""
        folder = self.enterContext(scratch())
        name = os.path.join(folder, "bucket", "p", "f")
        self.write_tree(os.path.join(folder, "bucket", "p"), {"f": b"version 1", "g": b"the same"})
        os.utime(name, (1_700_000_000, 1_700_000_000))
        endpoint = self.serve(os.path.join(VENV, "bin", "rclone"), "serve", "s3", "--etag-hash", "", "--addr", "127.0.0.1:PORT", "--auth-key",
                              "larder,larder-secret", "--vfs-cache-mode", "off", "--dir-cache-time", "0s", "--config", "/dev/null", folder)
        daemon = self.enterContext(Daemon(env=KEYS, fill="off"))
        daemon.mount("s3://bucket/p", "/data/x", endpoint=endpoint)
        read = [PYTHON, "-c", "print(open('/data/x/f').read(), end='')"]
        self.assertEqual(run_program(read, daemon.preload_env()).stdout, b"version 1")
        with open(name, "wb") as f:
            f.write(b"VERSION 2")
        os.utime(name, (1_700_000_500, 1_700_000_500))
        daemon.larder("refresh", daemon.status()["mounts"][0]["dataset"])
        self.assertEqual(run_program(read, daemon.preload_env()).stdout, b"VERSION 2")

    def test_moto(self):
        endpoint = self.serve(os.path.join(VENV, "bin", "moto_server"), "-H", "127.0.0.1", "-p", "PORT")
        import s3_put
        client = s3_put.Client(endpoint, "larder", "larder-secret")
        client.make_bucket("bucket")
        for name, data in self.files().items():
            client.put("bucket", "p/" + name, data)
        self.compare(endpoint, {})

    def test_checksums_that_boto3_gave_moto(self):
        """boto3 sends a CRC-32 with every object, and for one in parts a CRC of the parts' CRCs; moto returns both on request.
        Larder compares the first. The second is not a CRC of the object's bytes."""
        endpoint = self.serve(os.path.join(VENV, "bin", "moto_server"), "-H", "127.0.0.1", "-p", "PORT")
        folder = self.enterContext(scratch())
        self.write_tree(folder, self.files())
        upload = """
import os, sys, boto3
endpoint, folder = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id="larder", aws_secret_access_key="larder-secret", region_name="us-east-1")
s3.create_bucket(Bucket="bucket")
for at, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(at, name)
        s3.upload_file(path, "bucket", "p/" + os.path.relpath(path, folder))
assert s3.head_object(Bucket="bucket", Key="p/many/0001", ChecksumMode="ENABLED")["ChecksumCRC32"]
assert "-" in s3.head_object(Bucket="bucket", Key="p/large")["ETag"]
"""
        subprocess.run([os.path.join(VENV, "bin", "python"), "-c", upload, endpoint, folder], check=True, timeout=300, env=clean_environment())
        self.compare(endpoint, {}, lazy_threshold="64MiB")  # the large one is compared before a program reads it


if __name__ == "__main__":
    unittest.main(verbosity=2)
