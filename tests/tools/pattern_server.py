"""A web server of computed files: the little-endian 64-bit word i of a file is i * FACTOR, so that every byte can be checked
wherever it is read, and no two words are the same.

    with PatternServer({"huge": 10 << 30}) as server:    server.url, with a larder-manifest.jsonl; server.sent: bytes of bodies

Sizes are multiples of 8. Needs numpy.
"""
import http.server
import json
import re
import threading

import numpy as np

FACTOR = 0x9E3779B97F4A7C15


def words(first, count):
    return np.arange(first, first + count, dtype="<u8") * np.uint64(FACTOR)


def pattern(offset, size):
    """The bytes [offset, offset + size) of every file."""
    first = offset // 8
    return words(first, (offset + size + 7) // 8 - first).tobytes()[offset % 8:offset % 8 + size]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, name = self.server.owner, self.path.rsplit("/", 1)[1]
        if name == "larder-manifest.jsonl":
            body = "".join(json.dumps({"path": n, "size": s, "etag": f"p{s}"}) + "\n" for n, s in server.sizes.items()).encode()
            return self.answer(200, body, {})
        if name not in server.sizes:
            return self.answer(404, b"", {})
        size = server.sizes[name]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        more = {"ETag": f'"p{size}"', **({"Content-Range": f"bytes {first}-{last}/{size}"} if wanted else {})}
        server.sent += last - first + 1
        return self.answer(206 if wanted else 200, pattern(first, last - first + 1), more)

    def answer(self, status, body, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class PatternServer:
    def __init__(self, sizes):
        self.sizes, self.sent = sizes, 0
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.owner = self
        self.url = f"http://127.0.0.1:{self.http.server_port}/d"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()
