#!/usr/bin/env python3
"""A server on loopback that speaks Baidu BOS, for tests. It verifies every signature with the official Python SDK's signer.

    build/venv/bin/python tests/tools/bos_server.py [--port 0] [--page 1000] [--session-token TEXT]

Prints one JSON line {"endpoint","access_key","secret_key","session_token","pid"} and runs until its stdin closes or SIGTERM.
No BOS can run locally. This server keeps objects in memory and answers as the documents of BOS and its SDKs (Go, Python, Java)
describe: PUT, GET, HEAD and DELETE of objects (Range, If-Match, If-None-Match, Content-MD5, x-bce-content-crc32, x-bce-meta-*), uploads in
parts (user metadata comes with the completion), copies of objects and of ranges as parts, removal of many objects, lists with
prefix, delimiter, marker and maxKeys, JSON errors. Buckets exist once something was put into them. Path style, and virtual-host
style below "localhost". Importable: `with BosServer() as s:`.

The keys may be changed while it runs (set_keys(), or PUT /__test__/keys with JSON: access_key, secret_key, session_token);
PUT /__test__/clock?offset=SECONDS moves its clock; PUT /__test__/put?bucket=B&key=K stores the body, for keys that no client can send.
PUT /__test__/options with JSON: max_copy (bytes of one copy), copy_range (false: a gateway that drops x-bce-copy-source-range).
"""
import argparse
import base64
import datetime
import email.utils
import hashlib
import http.server
import json
import os
import re
import secrets
import signal
import sys
import threading
import time
import urllib.parse
import zlib

from baidubce import utils
from baidubce.auth import bce_v1_signer
from baidubce.auth.bce_credentials import BceCredentials

TOLERANCE = 900  # seconds between the clocks


class Refusal(Exception):
    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


MIN_PART = 100 * 1024
MAX_COPY = 5 << 30


class Stored:
    def __init__(self, data, content_type, meta=None, etag=None):
        self.data = data
        self.type = content_type
        self.meta = meta or {}
        self.md5 = hashlib.md5(data)
        self.etag = etag or self.md5.hexdigest()
        self.crc32 = zlib.crc32(data)
        self.modified = int(time.time())


class Upload:
    def __init__(self, bucket, key, content_type):
        self.bucket, self.key, self.type = bucket, key, content_type
        self.parts = {}


def parse_range(text, size):
    """(first, last) of "bytes=a-b", "bytes=a-" and "bytes=-n"; 416 where nothing is left."""
    first, _, last = text.removeprefix("bytes=").partition("-")
    if not first:
        first, last = max(0, size - int(last)), size - 1
    else:
        first, last = int(first), min(int(last) if last else size - 1, size - 1)
    if first >= size or last < first:
        raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
    return first, last


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "BceBos"
    sys_version = ""
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def serve(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.request_id = secrets.token_hex(8)
        target, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        try:
            if target.startswith("/__test__/"):
                return self.control(target.removeprefix("/__test__/"))
            with self.server.bos.lock:
                self.server.bos.requests.append(f"{self.command} {self.path}")
            self.verify(target)
            bucket, key = self.place(target)
            serve = getattr(self, f"{self.command.lower()}_{'object' if key else 'bucket'}", None)
            if serve is None:
                raise Refusal(405, "MethodNotAllowed", "The method is not allowed here.")
            serve(bucket, key)
        except Refusal as e:
            self.refuse(e)

    # ---- who asks ----

    def verify(self, target):
        bos, text = self.server.bos, self.headers.get("Authorization")
        if not text:
            if bos.public:
                return
            raise Refusal(403, "AccessDenied", "Anonymous access is forbidden.")
        parts = text.split("/")
        if len(parts) != 6 or parts[0] != "bce-auth-v1":
            raise Refusal(400, "InvalidHTTPAuthHeader", "The HTTP authorization header is invalid.")
        _, access_key, date, expires, signed, _ = parts
        if access_key != bos.access_key:
            raise Refusal(403, "InvalidAccessKeyId", "The access key ID is unknown.")
        self.verify_time(date, int(expires))
        headers = {k.lower().encode(): v.encode("latin-1") for k, v in self.headers.items()}
        names = [n.encode() for n in signed.split(";")] if signed else None
        if names and (b"host" not in names or any(n not in headers for n in names)):
            raise Refusal(403, "SignatureDoesNotMatch", "Host must be signed, and nothing that was not sent.")
        path = utils.normalize_string(urllib.parse.unquote_to_bytes(target), False)
        if path != target.encode():
            raise Refusal(400, "InvalidURI", "The path is not encoded as it must be.")
        seconds = int(datetime.datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp())
        wanted = bce_v1_signer.sign(BceCredentials(access_key, bos.secret_key), self.command.encode(), path, headers,
                                    {k.encode(): v.encode() for k, v in self.query.items()}, seconds, int(expires), names)
        if wanted.decode() != text:
            raise Refusal(400, "SignatureDoesNotMatch", "The request signature we calculated does not match the one you provided.")
        if bos.session_token != self.headers.get("x-bce-security-token", ""):
            raise Refusal(403, "InvalidSecurityToken", "The session token is not valid.")
        with bos.lock:
            bos.verified += 1

    def verify_time(self, date, expires):
        try:
            then = datetime.datetime.strptime(date, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()
        except ValueError:
            raise Refusal(400, "InvalidHTTPAuthHeader", "The timestamp is invalid.") from None
        now = self.server.bos.now()
        if now > then + expires or then > now + TOLERANCE:
            raise Refusal(400, "RequestExpired", "Request has expired.")

    def place(self, target):
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        path = urllib.parse.unquote(target[1:])
        if host.endswith(".localhost"):
            return host.removesuffix(".localhost"), path
        bucket, _, key = path.partition("/")
        return bucket, key

    # ---- objects ----

    def objects(self, bucket):
        found = self.server.bos.buckets.get(bucket)
        if found is None:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.")
        return found

    def get_object(self, bucket, key):
        if "uploadId" in self.query:
            return self.list_parts(bucket, key)
        with self.server.bos.lock:
            found = self.objects(bucket).get(key)
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        self.check_conditions(found)
        headers = {"ETag": f'"{found.etag}"', "Content-Type": found.type, "Accept-Ranges": "bytes",
                   "Last-Modified": email.utils.formatdate(found.modified, usegmt=True), "x-bce-storage-class": "STANDARD",
                   "x-bce-content-crc32": str(found.crc32), **found.meta}
        if not found.etag.startswith("-"):
            headers["Content-MD5"] = base64.b64encode(found.md5.digest()).decode()
        if "Range" not in self.headers:
            return self.reply(200, found.data, headers)
        first, last = parse_range(self.headers["Range"], len(found.data))
        headers["Content-Range"] = f"bytes {first}-{last}/{len(found.data)}"
        self.reply(206, found.data[first:last + 1], headers)

    head_object = get_object

    def check_conditions(self, found):
        match, none_match = (self.headers.get(n) for n in ("If-Match", "If-None-Match"))
        if match is not None and match.strip('"') not in (found.etag, "*"):
            raise Refusal(412, "PreconditionFailed", "The specified If-Match header doesn't match.")
        if none_match is not None and none_match.strip('"') in (found.etag, "*"):
            raise Refusal(304, "NotModified", "Not modified.")

    def check_digest(self):
        wanted = self.headers.get("Content-MD5")
        if wanted and base64.b64decode(wanted) != hashlib.md5(self.body).digest():
            raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")

    def described(self):
        kind = self.headers.get("Content-Type") or "application/octet-stream"
        return kind, {k.lower(): v for k, v in self.headers.items() if k.lower().startswith("x-bce-meta-")}

    def put_object(self, bucket, key):
        self.check_digest()
        if "uploadId" in self.query:
            return self.put_part(bucket, key)
        if "x-bce-copy-source" in self.headers:
            return self.copy_object(bucket, key)
        with self.server.bos.lock:
            stored = Stored(self.body, *self.described())
            self.server.bos.buckets.setdefault(bucket, {})[key] = stored
        self.reply(200, b"", {"ETag": f'"{stored.etag}"', "x-bce-content-crc32": str(stored.crc32)})

    def copy_source(self):
        """The object to copy; the lock is held."""
        from_bucket, _, from_key = urllib.parse.unquote(self.headers["x-bce-copy-source"]).removeprefix("/").partition("/")
        found = self.objects(from_bucket).get(from_key)
        if found is None:
            raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        if self.headers.get("x-bce-copy-source-if-match", found.etag).strip('"') != found.etag:
            raise Refusal(412, "PreconditionFailed", "The source has another ETag.")
        return found

    def check_copy_size(self, size):
        if size > self.server.bos.max_copy:
            raise Refusal(400, "EntityTooLarge", "Your proposed copy exceeds the maximum allowed size.")

    def reply_copied(self, stored):
        self.reply_json({"lastModified": "2026-01-01T00:00:00Z", "eTag": stored.etag})

    def copy_object(self, bucket, key):
        with self.server.bos.lock:
            found = self.copy_source()
            self.check_copy_size(len(found.data))
            replace = self.headers.get("x-bce-metadata-directive") == "replace"
            stored = Stored(found.data, *(self.described() if replace else (found.type, found.meta)))
            self.server.bos.buckets.setdefault(bucket, {})[key] = stored
        self.reply_copied(stored)

    def put_bucket(self, bucket, _):
        with self.server.bos.lock:
            self.server.bos.buckets.setdefault(bucket, {})
        self.reply(200, b"", {})

    # ---- uploads in parts ----

    def upload(self, bucket, key):
        found = self.server.bos.uploads.get(self.query["uploadId"])
        if found is None or (found.bucket, found.key) != (bucket, key):
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return found

    def post_object(self, bucket, key):
        if "uploads" in self.query:
            with self.server.bos.lock:
                self.objects(bucket)
                name = secrets.token_hex(16)
                self.server.bos.uploads[name] = Upload(bucket, key, self.described()[0])
            return self.reply_json({"bucket": bucket, "key": key, "uploadId": name})
        if "uploadId" in self.query:
            return self.complete(bucket, key)
        raise Refusal(405, "MethodNotAllowed", "The method is not allowed here.")

    def put_part(self, bucket, key):
        number = int(self.query["partNumber"])
        if not 1 <= number <= 10000:
            raise Refusal(400, "InvalidArgument", "partNumber must be from 1 to 10000.")
        with self.server.bos.lock:
            copies = "x-bce-copy-source" in self.headers
            part = Stored(self.copied_range() if copies else self.body, "")
            self.upload(bucket, key).parts[number] = part
        if copies:
            return self.reply_copied(part)
        self.reply(200, b"", {"ETag": f'"{part.etag}"', "x-bce-content-crc32": str(part.crc32)})

    def copied_range(self):
        data = self.copy_source().data
        wanted = self.headers.get("x-bce-copy-source-range")
        if wanted and self.server.bos.copy_range:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups()
            if not int(first) <= int(last) < len(data):
                raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
            data = data[int(first):int(last) + 1]
        self.check_copy_size(len(data))
        return data

    def list_parts(self, bucket, key):
        after, limit = int(self.query.get("partNumberMarker") or 0), min(int(self.query.get("maxParts") or 1000), self.server.bos.page)
        with self.server.bos.lock:
            parts = sorted((n, p) for n, p in self.upload(bucket, key).parts.items() if n > after)
        page = parts[:limit]
        self.reply_json({"bucket": bucket, "key": key, "uploadId": self.query["uploadId"], "partNumberMarker": after, "maxParts": limit,
                         "nextPartNumberMarker": page[-1][0] if page else 0, "isTruncated": len(parts) > limit,
                         "parts": [{"partNumber": n, "eTag": p.etag, "size": len(p.data)} for n, p in page]})

    def complete(self, bucket, key):
        wanted = json.loads(self.body)["parts"]
        with self.server.bos.lock:
            upload = self.upload(bucket, key)
            if [p["partNumber"] for p in wanted] != sorted({p["partNumber"] for p in wanted}) or not wanted:
                raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
            for p in wanted:
                if p["partNumber"] not in upload.parts or upload.parts[p["partNumber"]].etag != p["eTag"]:
                    raise Refusal(400, "InvalidPart", "One of the parts could not be found or its eTag did not match.")
            parts = [upload.parts[p["partNumber"]] for p in wanted]
            if any(len(p.data) < MIN_PART for p in parts[:-1]):
                raise Refusal(400, "EntityTooSmall", "A part is smaller than the minimum.")
            etag = "-" + hashlib.md5("".join(p.etag for p in parts).encode()).hexdigest()
            stored = Stored(b"".join(p.data for p in parts), upload.type, self.described()[1], etag)
            self.server.bos.buckets.setdefault(bucket, {})[key] = stored
            del self.server.bos.uploads[self.query["uploadId"]]
        self.reply_json({"location": self.path, "bucket": bucket, "key": key, "eTag": etag})

    def post_bucket(self, bucket, _):
        if "delete" not in self.query:
            raise Refusal(405, "MethodNotAllowed", "The method is not allowed here.")
        self.check_digest()
        errors = []
        with self.server.bos.lock:
            for entry in json.loads(self.body)["objects"]:
                if self.objects(bucket).pop(entry["key"], None) is None:
                    errors.append({"key": entry["key"], "code": "NoSuchKey", "message": "The specified key does not exist."})
        self.reply_json({"errors": errors} if errors else {})

    def reply_json(self, value):
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8"})

    def delete_object(self, bucket, key):
        if "uploadId" in self.query:
            with self.server.bos.lock:
                self.upload(bucket, key)
                del self.server.bos.uploads[self.query["uploadId"]]
            return self.reply(204, b"", {})
        with self.server.bos.lock:
            if self.objects(bucket).pop(key, None) is None:
                raise Refusal(404, "NoSuchKey", "The specified key does not exist.")
        self.reply(204, b"", {})

    # ---- lists ----

    def get_bucket(self, bucket, _):
        prefix, marker, delimiter = (self.query.get(n, "") for n in ("prefix", "marker", "delimiter"))
        limit = min(int(self.query.get("maxKeys") or 1000), self.server.bos.page)
        with self.server.bos.lock:
            everything = dict(self.objects(bucket))
        contents, folders, last = [], [], ""
        truncated = False
        for key in sorted(everything, key=str.encode):
            if not key.startswith(prefix) or key.encode() <= marker.encode():
                continue
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            folder = key[:cut + len(delimiter)] if cut >= 0 else None
            if folder and (folder in folders or folder == marker):
                continue
            if len(contents) + len(folders) == limit:
                truncated = True
                break
            last = folder or key
            if folder:
                folders.append(folder)
            else:
                contents.append(self.entry(key, everything[key]))
        page = {"name": bucket, "prefix": prefix, "delimiter": delimiter, "marker": marker, "maxKeys": limit, "isTruncated": truncated,
                "contents": contents, "commonPrefixes": [{"prefix": f} for f in folders]}
        if truncated and self.server.bos.next_marker:
            page["nextMarker"] = last
        self.reply(200, json.dumps(page).encode(), {"Content-Type": "application/json; charset=utf-8"})

    @staticmethod
    def entry(key, stored):
        when = datetime.datetime.fromtimestamp(stored.modified, datetime.timezone.utc)
        return {"key": key, "lastModified": when.strftime("%Y-%m-%dT%H:%M:%SZ"), "eTag": stored.etag, "size": len(stored.data),
                "storageClass": "STANDARD", "owner": {"id": "test", "displayName": "test"}}

    # ---- replies ----

    def refuse(self, e):
        body = json.dumps({"code": e.code, "message": e.message, "requestId": self.request_id}).encode()
        self.reply(e.status, b"" if e.status == 304 else body, {"Content-Type": "application/json; charset=utf-8"})

    def reply(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "x-bce-request-id": self.request_id, "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def date_time_string(self, timestamp=None):
        return super().date_time_string(self.server.bos.now() if timestamp is None else timestamp)

    def control(self, what):
        bos = self.server.bos
        if what == "keys":
            bos.set_keys(**json.loads(self.body))
        elif what == "clock":
            bos.clock_offset = int(self.query["offset"])
        elif what == "put":
            bos.put(self.query["bucket"], self.query["key"], self.body)
        elif what == "options":
            for name, value in json.loads(self.body).items():
                setattr(bos, name, value)
        state = {"requests": bos.requests, "verified": bos.verified, "uploads": len(bos.uploads)}
        self.reply(200, json.dumps(state).encode(), {"Content-Type": "application/json"})


class Threads(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients that leave early are part of the tests
            super().handle_error(request, client_address)


class BosServer:
    """Runs on a thread; .endpoint, .access_key, .secret_key, .session_token; stop() ends it."""

    def __init__(self, port=0, page=1000, session_token=""):
        self.lock = threading.Lock()
        self.buckets, self.requests, self.uploads = {}, [], {}
        self.verified = 0
        self.page, self.next_marker, self.public = page, True, False
        self.clock_offset = 0
        self.max_copy, self.copy_range = MAX_COPY, True
        self.set_keys("ak" + secrets.token_hex(15), "sk" + secrets.token_hex(15), session_token)
        self.http = Threads(("127.0.0.1", port), Handler)
        self.http.bos = self
        self.endpoint = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def set_keys(self, access_key, secret_key, session_token=""):
        self.access_key, self.secret_key, self.session_token = access_key, secret_key, session_token

    def now(self):
        return time.time() + self.clock_offset

    def put(self, bucket, key, data):
        """Straight into the store, for keys that the SDK refuses to write."""
        with self.lock:
            self.buckets.setdefault(bucket, {})[key] = Stored(data, "application/octet-stream")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--page", type=int, default=1000)
    parser.add_argument("--session-token", default="")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with BosServer(args.port, args.page, args.session_token) as server:
        print(json.dumps({"endpoint": server.endpoint, "access_key": server.access_key, "secret_key": server.secret_key,
                          "session_token": server.session_token, "pid": os.getpid()}), flush=True)
        while os.read(0, 4096):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
