#!/usr/bin/env python3
"""Calls of the AWS API with boto3, for tests whose own Python has none.

    build/venv/bin/python tests/tools/moto_calls.py ENDPOINT ACCESS_KEY SECRET_KEY

Reads lines [SERVICE, METHOD, {ARGUMENTS}] from stdin; answers each with one line of JSON: {"ok": REPLY} or {"error": TEXT}.
"""
import json
import sys

import boto3


def main():
    endpoint, access_key, secret_key = sys.argv[1:]
    clients = {}
    for line in sys.stdin:
        service, method, arguments = json.loads(line)
        try:
            if service not in clients:
                clients[service] = boto3.client(service, endpoint_url=endpoint, aws_access_key_id=access_key, aws_secret_access_key=secret_key,
                                                region_name="us-east-1")
            answer = {"ok": getattr(clients[service], method)(**arguments)}
        except Exception as e:  # noqa: BLE001: whatever it was, the caller hears it
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer, default=str), flush=True)


main()
