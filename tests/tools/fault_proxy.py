#!/usr/bin/env python3
"""An HTTP/1.1 proxy in front of a store that adds latency and faults, and counts what passes.

    python3 tests/tools/fault_proxy.py --target http://127.0.0.1:8333 [--port 0] [--latency-ms 30] [--rules JSON]

Prints one JSON line {"endpoint","pid"} and runs until its stdin closes or SIGTERM. The Host header passes unchanged, so
signatures stay right. Control, on the same port:

    PUT    /__fault__/rules    JSON list of rules (replaces the old ones)      PUT /__fault__/latency?ms=30
    GET    /__fault__/log      {"counts": {"GET": N}, "paths": {"GET /b/k": N}, "faults": {"reset": N},
                                "max_in_flight": N, "held": N, "requests": [{"line","range","status"}, last 1000]}
    DELETE /__fault__/log      forget the log                                  PUT /__fault__/release     let go what is held

A rule: {"match": regex on "METHOD target", "fault": NAME, ...}; the first that matches and is not used up applies.
    "header": regex       must be found in one of the request's "name: value" lines, too
    "count": N            applies to the first N matching requests only     "skip": N   leaves the first N alone
    "probability": p      applies with this chance (seeded by --seed: repeatable for one connection)
    "delay": seconds      waits before it does anything (fault "delay": nothing else)
  hold        does nothing before "release" comes: what must happen first, happens first, however slow the machine is
  refuse      closes the connection without a reply
  status      replies "status" (503) with "code" (SlowDown), "message", "headers" instead of asking the store
  reset       RST after "at" bytes of the body         truncate   orderly close after "at" bytes
  length      Content-Length off by "by" bytes         flip       flips the lowest bit of body byte "at"
  stall       sends "at" bytes, then nothing for "seconds"        drip  sends "rate" bytes a second
  headers     replaces or adds reply "headers" (a null removes one)
  cut_upload  RST after "at" bytes of the request's body         flip_upload  flips the lowest bit of byte "at" of it
  after       the store does it, but the client gets a RST instead of the reply
"""
import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import re
import signal
import socket
import struct
import sys
import urllib.parse

PIECE = 256 * 1024


class Log:
    def __init__(self):
        self.clear()
        self.in_flight = self.held = 0

    def clear(self):
        self.counts, self.paths, self.faults = (collections.Counter() for _ in range(3))
        self.requests = collections.deque(maxlen=1000)
        self.max_in_flight = 0

    def as_json(self):
        return {"counts": self.counts, "paths": self.paths, "faults": self.faults,
                "max_in_flight": self.max_in_flight, "held": self.held, "requests": list(self.requests)}


class Head:
    """First line and headers of a request or a reply."""

    def __init__(self, raw):
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        self.first = first
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if ":" in line]

    def get(self, name, default=None):
        return next((v for k, v in self.headers if k.lower() == name.lower()), default)

    def set(self, name, value):
        self.headers = [(k, v) for k, v in self.headers if k.lower() != name.lower()]
        if value is not None:
            self.headers.append((name, str(value)))

    def encode(self):
        return ("\r\n".join([self.first] + [f"{k}: {v}" for k, v in self.headers]) + "\r\n\r\n").encode("latin-1")


async def read_head(reader):
    try:
        return Head(await reader.readuntil(b"\r\n\r\n"))
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
        return None


async def body_pieces(reader, head):
    """The body of a message as pieces, with chunked encoding taken off."""
    if (head.get("transfer-encoding") or "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return
    left = int(head.get("content-length") or 0)
    while left:
        piece = await reader.read(min(left, PIECE))
        if not piece:
            raise ConnectionError("store closed in the middle of a body")
        left -= len(piece)
        yield piece


class Cut(Exception):
    """Ends the client's connection: reset or orderly."""

    def __init__(self, reset=False):
        self.reset = reset


class Proxy:
    def __init__(self, target, latency, rules, seed):
        self.target = urllib.parse.urlsplit(target)
        self.latency = latency
        self.random = random.Random(seed)
        self.log = Log()
        self.set_rules(rules)
        self.idle = []  # kept connections to the store
        self.release = asyncio.Event()  # of what is held now; another one for what comes later

    def set_rules(self, rules):
        for rule in rules:
            re.compile(rule.get("match", ""))
        self.rules = [dict(rule, seen=0, used=0) for rule in rules]

    def pick(self, line, headers):
        for rule in self.rules:
            if not re.search(rule.get("match", ""), line):
                continue
            if "header" in rule and not any(re.search(rule["header"], f"{k.lower()}: {v}") for k, v in headers):
                continue
            rule["seen"] += 1
            if rule["seen"] <= rule.get("skip", 0) or rule["used"] >= rule.get("count", 1 << 62):
                continue
            if self.random.random() < rule.get("probability", 1):
                rule["used"] += 1
                return rule
        return {}

    async def client(self, reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while (head := await read_head(reader)) is not None:
                if not await self.request(head, reader, writer):
                    break
        except Cut as cut:
            if cut.reset:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass
        finally:
            writer.close()

    async def request(self, head, reader, writer):
        method, target, _ = head.first.split(" ", 2)
        ours = target.startswith("/__fault__/")
        rule = {} if ours else self.pick(f"{method} {target}", head.headers)
        if rule.get("fault") == "cut_upload" and int(head.get("content-length") or 0) > rule.get("at", 0):
            self.note(method, target, head, rule)
            await reader.readexactly(rule.get("at", 0))
            raise Cut(True)
        body = b"".join([piece async for piece in body_pieces(reader, head)])
        if ours:
            await self.control(method, target, body, writer)
            return True
        if rule.get("fault") == "flip_upload" and len(body) > rule.get("at", 0):
            body = bytearray(body)
            body[rule.get("at", 0)] ^= 1
        self.log.in_flight += 1
        self.log.max_in_flight = max(self.log.max_in_flight, self.log.in_flight)
        try:
            return await self.pass_on(method, target, head, bytes(body), rule, writer)
        finally:
            self.log.in_flight -= 1

    def note(self, method, target, head, rule):
        self.log.counts[method] += 1
        self.log.paths[f"{method} {target.split('?')[0]}"] += 1
        if rule:
            self.log.faults[rule["fault"]] += 1
        entry = {"line": f"{method} {target}", "range": head.get("range"), "if_match": head.get("if-match"),
                 "fault": rule.get("fault"), "status": None}
        self.log.requests.append(entry)
        return entry

    async def pass_on(self, method, target, head, body, rule, writer):
        entry = self.note(method, target, head, rule)
        if delay := self.latency + rule.get("delay", 0):
            await asyncio.sleep(delay)
        if rule.get("fault") == "hold":
            await self.hold()
        if rule.get("fault") == "refuse":
            raise Cut()
        if rule.get("fault") == "status":
            entry["status"] = rule.get("status", 503)
            await self.error_reply(rule, method, writer)
            return True
        return await self.from_store(method, head, body, rule, entry, writer)

    async def hold(self):
        self.log.held += 1
        try:
            await self.release.wait()
        finally:
            self.log.held -= 1

    def let_go(self):
        self.release.set()
        self.release = asyncio.Event()

    async def error_reply(self, rule, method, writer):
        status, code = rule.get("status", 503), rule.get("code", "SlowDown")
        message = rule.get("message", "injected by fault_proxy")
        text = rule.get("body", f"<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message>"
                                f"<RequestId>FAULT</RequestId>{rule.get('extra', '')}</Error>").encode()
        reply = Head(f"HTTP/1.1 {status} Injected\r\nContent-Type: application/xml\r\n\r\n".encode())
        reply.set("Content-Length", len(text))
        for name, value in rule.get("headers", {}).items():
            reply.set(name, value)
        writer.write(reply.encode() + (b"" if method == "HEAD" else text))
        await writer.drain()

    async def store_connection(self):
        if self.idle:
            return self.idle.pop()
        return await asyncio.open_connection(self.target.hostname, self.target.port or 80, limit=2 * PIECE)

    async def from_store(self, method, head, body, rule, entry, writer):
        for attempt in range(3):  # a kept connection may have been closed by the store
            up_reader, up_writer = await self.store_connection()
            up_writer.write(head.encode() + body)
            reply = await read_head(up_reader)
            if reply is not None:
                break
            up_writer.close()
        else:
            raise Cut()
        entry["status"] = int(reply.first.split(" ")[1])
        empty = method == "HEAD" or entry["status"] in (204, 304)
        try:
            pieces = () if empty else body_pieces(up_reader, Head(reply.encode()))  # its own head: faults change the other
            if rule.get("fault") == "after":
                raise Cut(True)
            await self.reply(reply, pieces, rule, writer)
        except BaseException:
            up_writer.close()
            raise
        if (reply.get("connection") or "").lower() == "close":
            up_writer.close()
        else:
            self.idle.append((up_reader, up_writer))
        return (head.get("connection") or "").lower() != "close"

    async def reply(self, head, pieces, rule, writer):
        chunked = head.get("transfer-encoding") is not None
        if rule.get("fault") == "length":
            head.set("Content-Length", int(head.get("content-length") or 0) + rule.get("by", 1))
        for name, value in rule.get("headers", {}).items():
            head.set(name, value)
        sent = 0
        if chunked:
            data = b"".join([piece async for piece in pieces])
            head.set("Transfer-Encoding", None)
            head.set("Content-Length", len(data))
            pieces = self._once(data)
        writer.write(head.encode())
        if pieces != ():
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    sent += await self.send(piece, sent, rule, writer)
        await writer.drain()
        if rule.get("fault") in ("length", "truncate", "reset"):
            raise Cut(rule["fault"] == "reset")

    @staticmethod
    async def _once(data):
        yield data

    async def send(self, piece, sent, rule, writer):
        fault, at = rule.get("fault"), rule.get("at", 0)
        if fault in ("reset", "truncate", "stall") and sent + len(piece) > at >= sent:
            writer.write(piece[:at - sent])
            await writer.drain()
            await asyncio.sleep(rule.get("seconds", 3600) if fault == "stall" else 0.02)
            raise Cut(fault == "reset")
        if fault == "flip" and sent <= at < sent + len(piece):
            changed = bytearray(piece)
            changed[at - sent] ^= 1
            piece = bytes(changed)
        if fault == "drip":
            await self.drip(piece, rule.get("rate", 1000), writer)
        else:
            writer.write(piece)
            await writer.drain()
        return len(piece)

    @staticmethod
    async def drip(piece, rate, writer):
        step = max(1, rate // 10)
        for i in range(0, len(piece), step):
            writer.write(piece[i:i + step])
            await writer.drain()
            await asyncio.sleep(step / rate)

    async def control(self, method, target, body, writer):
        url = urllib.parse.urlsplit(target)
        status, answer = 200, {}
        try:
            if url.path.endswith("/rules") and method == "PUT":
                self.set_rules(json.loads(body or b"[]"))
            elif url.path.endswith("/latency") and method == "PUT":
                self.latency = float(urllib.parse.parse_qs(url.query)["ms"][0]) / 1000
            elif url.path.endswith("/release") and method == "PUT":
                self.let_go()
            elif url.path.endswith("/log") and method == "GET":
                answer = self.log.as_json()
            elif url.path.endswith("/log") and method == "DELETE":
                self.log.clear()
            else:
                status, answer = 404, {"error": f"no control {method} {url.path}"}
        except (ValueError, KeyError, re.error) as e:
            status, answer = 400, {"error": str(e)}
        data = json.dumps(answer).encode()
        writer.write(f"HTTP/1.1 {status} Control\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        await writer.drain()


async def serve(args):
    proxy = Proxy(args.target, args.latency_ms / 1000, json.loads(args.rules), args.seed)
    server = await asyncio.start_server(proxy.client, "127.0.0.1", args.port, limit=2 * PIECE, backlog=1024)
    print(json.dumps({"endpoint": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "pid": os.getpid()}), flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    loop.run_in_executor(None, lambda: (watch_stdin(), loop.call_soon_threadsafe(stop.set)))
    await stop.wait()
    os._exit(0)  # open connections must not keep it


def watch_stdin():
    while os.read(0, 4096):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--rules", default="[]")
    parser.add_argument("--seed", type=int, default=1)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
