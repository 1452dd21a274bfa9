#!/usr/bin/env python3
"""Baidu's official Python SDK as a command: tests compare Larder with what it writes and reads.

    build/venv/bin/python tests/tools/bos_sdk.py put  ENDPOINT BUCKET PREFIX DIR    uploads a folder; what is larger than 5 MB in parts
    build/venv/bin/python tests/tools/bos_sdk.py copy ENDPOINT BUCKET FROM TO PART  copies an object by parts of PART bytes
    build/venv/bin/python tests/tools/bos_sdk.py meta ENDPOINT BUCKET KEY           prints JSON [content type, user metadata]
    build/venv/bin/python tests/tools/bos_sdk.py read ENDPOINT BUCKET PREFIX        lists and reads; prints JSON
                                                 {KEY: [size, mtime, sha256, sha256 of the bytes from size/3 to 2*size/3]}
The keys come from BDCLOUD_ACCESS_KEY, BDCLOUD_SECRET_KEY and BDCLOUD_SESSION_TOKEN.
"""
import calendar
import hashlib
import json
import os
import sys
import time

from baidubce.auth.bce_credentials import BceCredentials
from baidubce.bce_client_configuration import BceClientConfiguration
from baidubce.services.bos.bos_client import BosClient


LARGE = 5 * 1000 * 1000


def client(endpoint):
    keys = BceCredentials(os.environ["BDCLOUD_ACCESS_KEY"], os.environ["BDCLOUD_SECRET_KEY"])
    return BosClient(BceClientConfiguration(keys, endpoint, security_token=os.environ.get("BDCLOUD_SESSION_TOKEN") or None))


def put(bos, bucket, prefix, folder):
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            key = prefix + os.path.relpath(path, folder)
            if os.path.getsize(path) > LARGE:
                bos.put_super_object_from_file(bucket, key, path, chunk_size=1)
                continue
            with open(path, "rb") as f:
                bos.put_object_from_string(bucket, key, f.read())


def middle(size):
    return (size // 3, 2 * size // 3)


def read(bos, bucket, prefix):
    found = {}
    for entry in bos.list_all_objects(bucket, prefix=prefix):
        data = bos.get_object(bucket, entry.key).data.read()
        first, last = middle(entry.size)
        part = bos.get_object(bucket, entry.key, range=[first, last]).data.read() if entry.size else b""
        modified = calendar.timegm(time.strptime(entry.last_modified, "%Y-%m-%dT%H:%M:%SZ"))
        found[entry.key.removeprefix(prefix)] = [entry.size, modified, hashlib.sha256(data).hexdigest(), hashlib.sha256(part).hexdigest()]
    print(json.dumps(found))


def copy(bos, bucket, from_key, to_key, part):
    whole, part = bos.get_object_meta_data(bucket, from_key).metadata, int(part)
    size, upload = int(whole.content_length), bos.initiate_multipart_upload(bucket, to_key).upload_id
    parts = []
    for number, offset in enumerate(range(0, size, part), 1):
        copied = bos.upload_part_copy(bucket, from_key, bucket, to_key, upload, number, min(part, size - offset), offset, etag=whole.etag.strip('"'))
        parts.append({"partNumber": number, "eTag": copied.etag})
    bos.complete_multipart_upload(bucket, to_key, upload, parts)


def meta(bos, bucket, key):
    found = vars(bos.get_object_meta_data(bucket, key).metadata)
    print(json.dumps([found["content_type"], {k.removeprefix("bce_meta_"): v for k, v in found.items() if k.startswith("bce_meta_")}]))


def main():
    action, endpoint, *rest = sys.argv[1:]
    {"put": put, "copy": copy, "meta": meta, "read": read}[action](client(endpoint), *rest)


if __name__ == "__main__":
    main()
