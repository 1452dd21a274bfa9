#!/usr/bin/env python3
"""boto3 as a command: tests compare `larder sync` with what it writes and reads.

    build/venv/bin/python tests/tools/s3_sdk.py put     ENDPOINT BUCKET PREFIX DIR [PART]   makes the bucket, uploads a folder; above PART MiB (5) in parts
    build/venv/bin/python tests/tools/s3_sdk.py put-key ENDPOINT BUCKET KEY...       objects with these names, whose content is their name
    build/venv/bin/python tests/tools/s3_sdk.py read    ENDPOINT BUCKET PREFIX       prints JSON {KEY: [size, sha256, content type, metadata]}
    build/venv/bin/python tests/tools/s3_sdk.py uploads ENDPOINT BUCKET              prints JSON [[KEY, number of parts]]
The keys come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.
"""
import hashlib
import json
import os
import sys

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config


def make_bucket(s3, bucket):
    try:
        s3.create_bucket(Bucket=bucket)
    except s3.exceptions.ClientError as e:
        if e.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


def put(s3, bucket, prefix, folder, part=5):
    make_bucket(s3, bucket)
    size = int(part) << 20
    for where, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(where, name)
            s3.upload_file(path, bucket, prefix + os.path.relpath(path, folder), Config=TransferConfig(size, multipart_chunksize=size))


def put_key(s3, bucket, *keys):
    make_bucket(s3, bucket)
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key.endswith("/") else key.encode())


def read(s3, bucket, prefix):
    found = {}
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            reply = s3.get_object(Bucket=bucket, Key=entry["Key"])
            data = reply["Body"].read()
            found[entry["Key"].removeprefix(prefix)] = [len(data), hashlib.sha256(data).hexdigest(), reply["ContentType"], reply["Metadata"]]
    print(json.dumps(found))


def uploads(s3, bucket):
    found = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    print(json.dumps([[u["Key"], len(s3.list_parts(Bucket=bucket, Key=u["Key"], UploadId=u["UploadId"]).get("Parts", []))] for u in found]))


def main():
    action, endpoint, *rest = sys.argv[1:]
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 5})
    s3 = boto3.client("s3", endpoint_url=endpoint, region_name=os.environ.get("AWS_REGION", "us-east-1"), config=config)
    {"put": put, "put-key": put_key, "read": read, "uploads": uploads}[action](s3, *rest)


if __name__ == "__main__":
    main()
