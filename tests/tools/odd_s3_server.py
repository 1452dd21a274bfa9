#!/usr/bin/env python3
"""An S3 server with the habits of stores that are not Amazon's, on loopback, for tests. Objects are in memory.

    python3 tests/tools/odd_s3_server.py

Prints one JSON line {"endpoint","pid"} and runs until its stdin closes. Signatures are not verified; their date and
region are. PUT /BUCKET/KEY stores (headers x-mtime: seconds, content-encoding); PUT /-/habits takes a JSON object:

    etags       "md5" | "constant" | "none" | "weak"
    list_v1     true: list-type=2, continuation-token and start-after are unknown words, as to Huawei OBS or old Ceph
    gunzip      true: a body with Content-Encoding: gzip is unpacked unless gzip is accepted (Google)
    clock       seconds that the store's clock is ahead; requests dated 900 s off are RequestTimeTooSkewed
    region      requests signed for another are AuthorizationHeaderMalformed
    denied      keys whose 403 comes from a cache, dated `age` seconds ago
    age         see denied
    hold        so many GETs of objects are collected before they are answered, once
    twice       true: each key is listed twice, first with size 0 and the date 1970; a page begins with the key that ended
                the one before
    sizes       {key: the size that a list and a HEAD give}; a body that is to be longer than the object goes on with zeros
    secret      the access key that is known; others are InvalidAccessKeyId
GET /-/log gives what was asked: [{"method","path","query","status","headers"}].
"""
import calendar
import email.utils
import gzip
import hashlib
import http.server
import json
import os
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

HABITS = {"etags": "md5", "list_v1": False, "gunzip": False, "clock": 0, "region": "", "denied": [], "age": 0, "hold": 0, "secret": "", "twice": False, "sizes": {}}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    @property
    def habits(self):
        return self.server.habits

    def reply(self, status, body=b"", headers=None, date=None):
        self.send_response_only(status)
        date = time.time() + self.habits["clock"] if date is None else date
        for name, value in {"Date": email.utils.formatdate(date, usegmt=True), **(headers or {})}.items():
            self.send_header(name, str(value))
        if "Transfer-Encoding" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        with self.server.lock:
            self.server.log.append({"method": self.command, "path": self.key, "query": self.query, "status": status,
                                    "headers": {k.lower(): v for k, v in self.headers.items()}})

    def error(self, status, code, more="", **how):
        self.reply(status, f"<Error><Code>{code}</Code><Message>{code}</Message>{more}</Error>".encode(), **how)

    def parse(self):
        path, _, query = self.path.partition("?")
        self.bucket, _, self.key = urllib.parse.unquote(path).lstrip("/").partition("/")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))

    def do_PUT(self):
        self.parse()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with self.server.lock:
            if self.bucket == "-":
                self.server.habits = {**HABITS, **json.loads(body)}
                self.server.held = 0
                self.server.settings += 1
            else:
                mtime = float(self.headers.get("x-mtime") or int(time.time()))
                self.server.objects[self.key] = (body, mtime, self.headers.get("content-encoding", ""))
        with self.server.arrived:
            self.server.arrived.notify_all()
        self.reply(200)

    def do_GET(self):
        self.parse()
        if self.bucket == "-":
            with self.server.lock:
                log, self.server.log = self.server.log, []
            return self.reply(200, json.dumps(log).encode())
        if self.key:
            self.hold()
        if self.key in self.habits["denied"]:
            age = self.habits["age"]
            return self.error(403, "AccessDenied", headers={"Age": age}, date=time.time() - age)
        if not self.refused():
            self.get_object() if self.key else self.list()

    do_HEAD = do_GET

    def hold(self):
        with self.server.arrived:
            if self.server.held >= self.habits["hold"]:
                return
            self.server.held += 1
            self.server.arrived.notify_all()
            settings = self.server.settings
            self.server.arrived.wait_for(lambda: self.server.held >= self.habits["hold"] or self.server.settings != settings, 20)

    def refused(self):
        signed = self.headers.get("Authorization", "")
        secret, region, date = self.habits["secret"], self.habits["region"], self.headers.get("x-amz-date")
        if date and abs(calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")) - time.time() - self.habits["clock"]) > 900:
            return self.error(403, "RequestTimeTooSkewed") or True
        if region and f"/{region}/" not in signed:
            return self.error(400, "AuthorizationHeaderMalformed", f"<Region>{region}</Region>") or True
        if secret and f"Credential={secret}/" not in signed:
            return self.error(403, "InvalidAccessKeyId") or True
        return False

    def etag(self, data):
        kind = self.habits["etags"]
        md5 = hashlib.md5(data).hexdigest()
        return {"md5": f'"{md5}"', "constant": '"v"', "none": "", "weak": f'W/"{md5}"'}[kind]

    def get_object(self):
        with self.server.lock:
            found = self.server.objects.get(self.key)
        if found is None:
            return self.error(404, "NoSuchKey")
        data, mtime, coding = found
        etag = self.etag(data)
        match = self.headers.get("If-Match")
        if match is not None and (match != etag or etag.startswith("W/")):
            return self.error(412, "PreconditionFailed")
        headers = {"Last-Modified": email.utils.formatdate(int(mtime), usegmt=True), "Accept-Ranges": "bytes"}
        if etag:
            headers["ETag"] = etag
        if coding and self.habits["gunzip"] and "gzip" not in self.headers.get("Accept-Encoding", ""):
            raw = gzip.decompress(data)
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(raw), raw)
            return self.reply(200, body, {**headers, "Transfer-Encoding": "chunked", "Warning": "214 UploadServer gunzipped"})
        if coding:
            headers["Content-Encoding"] = coding
        asked = self.headers.get("Range")
        if asked is None:
            return self.reply(200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        self.reply(206, data[first:last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def list(self):
        q = self.query
        v2 = q.get("list-type") == "2" and not self.habits["list_v1"]
        after = max(q.get("start-after", ""), q.get("continuation-token", "")) if v2 else q.get("marker", "")
        prefix, delimiter, most = q.get("prefix", ""), q.get("delimiter", ""), int(q.get("max-keys", 1000))
        encode = (lambda s: urllib.parse.quote(s)) if v2 and q.get("encoding-type") == "url" else escape
        with self.server.lock:
            all_objects = sorted(self.server.objects.items(), key=lambda one: one[0].encode())
        rows, last, more = [], "", False
        for key, (data, mtime, _) in all_objects:
            if not key.startswith(prefix) or key < after or (key == after and not self.habits["twice"]):
                continue
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            folder = key[:end + 1] if end >= 0 else ""
            if folder and (folder == last or folder <= after):
                continue
            if len(rows) == most:
                more = True
                break
            last = folder or key
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(mtime)) + f".{int(mtime % 1 * 1000):03}Z"
            etag = self.etag(data)
            rows.append(f"<CommonPrefixes><Prefix>{encode(folder)}</Prefix></CommonPrefixes>" if folder else
                        f"<Contents><Key>{encode(key)}</Key><Size>{self.habits['sizes'].get(key, len(data))}</Size><LastModified>{stamp}</LastModified>"
                        + (f"<ETag>{escape(etag)}</ETag>" if etag else "") + "</Contents>")
            if self.habits["twice"] and not folder:
                rows[-1] = (f"<Contents><Key>{encode(key)}</Key><Size>0</Size><LastModified>1970-01-01T00:00:01.000Z</LastModified></Contents>"
                            + rows[-1])
        head = "<EncodingType>url</EncodingType>" if encode is not escape else ""
        if v2:
            head += f"<KeyCount>{len(rows)}</KeyCount>"
        if more:
            word = "NextContinuationToken" if v2 else "NextMarker"
            head += f"<{word}>{escape(last) if v2 else encode(last)}</{word}>"
        body = f"<ListBucketResult>{head}<IsTruncated>{str(more).lower()}</IsTruncated>{''.join(rows)}</ListBucketResult>"
        self.reply(200, body.encode(), {"Content-Type": "application/xml"})


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients that leave early are part of the tests
            super().handle_error(request, client_address)


def main():
    server = Server(("127.0.0.1", 0), Handler)
    server.objects, server.habits, server.log, server.held, server.settings = {}, dict(HABITS), [], 0, 0
    server.lock, server.arrived = threading.Lock(), threading.Condition()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.server_address[1]}", "pid": os.getpid()}), flush=True)
    while os.read(0, 4096):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
