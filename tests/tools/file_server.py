#!/usr/bin/env python3
"""A folder over http on loopback, as nginx serves it: GET and HEAD with Range, If-Match and ETag. For tests.

    python3 tests/tools/file_server.py --dir DIR [--port 0] [--weak-etags] [--no-etags] [--no-dates]

Prints one JSON line {"endpoint","pid"} and runs until its stdin closes.
"""
import argparse
import email.utils
import http.server
import json
import os
import sys
import threading
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = os.path.normpath(self.server.root + urllib.parse.unquote(self.path.partition("?")[0]))
        try:
            if not path.startswith(self.server.root + os.sep) or os.path.isdir(path):
                return self.reply(403, b"<h1>Forbidden</h1>")
            with open(path, "rb") as f:
                data, st = f.read(), os.fstat(f.fileno())
        except OSError:
            return self.reply(404, b"<h1>Not Found</h1>")
        self.serve(data, st)

    do_HEAD = do_GET

    def serve(self, data, st):
        etag = f"{st.st_mtime_ns:x}-{st.st_size:x}"
        headers = {"Last-Modified": email.utils.formatdate(int(st.st_mtime), usegmt=True)} if self.server.dates else {}
        if self.server.etags != "none":
            headers["ETag"] = ("W/" if self.server.etags == "weak" else "") + f'"{etag}"'
        match = self.headers.get("If-Match")  # strong comparison: a weak etag matches nothing
        if match is not None and (self.server.etags != "strong" or match != f'"{etag}"'):
            return self.reply(412, b"<h1>Precondition Failed</h1>")
        asked = self.headers.get("Range")
        if asked is None:
            return self.reply(200, data, headers)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if first > last:
            return self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
        self.reply(206, data[first:last + 1], {**headers, "Content-Range": f"bytes {first}-{last}/{len(data)}"})

    def reply(self, status, body, headers=None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients that leave early are part of the tests
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--weak-etags", dest="etags", action="store_const", const="weak", default="strong")
    parser.add_argument("--no-etags", dest="etags", action="store_const", const="none")
    parser.add_argument("--no-dates", dest="dates", action="store_false")
    args = parser.parse_args()
    server = Server(("127.0.0.1", args.port), Handler)
    server.root, server.etags, server.dates = os.path.realpath(args.dir), args.etags, args.dates
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.server_address[1]}", "pid": os.getpid()}), flush=True)
    while os.read(0, 4096):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
