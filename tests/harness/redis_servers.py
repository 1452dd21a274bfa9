"""Real Redis servers for the integration tests: standalone, primaries with Sentinel, a Cluster; and a relay to one, which a test
can make slow, deaf or lying. Each ends with its `close`."""
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time

from .base import free_port, wait_for

PASSWORD = "redis-pw"


def encode(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in (x if isinstance(x, bytes) else str(x).encode() for x in words))


def read_reply(stream):
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise OSError("the connection was closed")
    kind, rest = line[:1], line[1:-2]
    if kind == b"$":
        return None if int(rest) < 0 else stream.read(int(rest) + 2)[:-2]
    if kind == b"*":
        return [read_reply(stream) for _ in range(max(0, int(rest)))]
    return int(rest) if kind == b":" else line[:-2] if kind == b"-" else rest


class Redis:
    """One redis-server. Arguments are its options, or a file for --sentinel."""

    def __init__(self, *options, host="127.0.0.1", port=None, password=PASSWORD, bare=False):
        self.dir = tempfile.mkdtemp(prefix="larder-test-")
        self.host, self.port, self.password = host, port or free_port(host), password
        plain = [] if bare else ["--port", str(self.port), "--bind", host, "--save", "", "--appendonly", "no", "--dir", self.dir,
                                 *(["--requirepass", password, "--masterauth", password] if password else [])]
        self.command_line = ["redis-server", *options, *plain]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command_line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, 20, "redis-server")

    def answers(self):
        try:
            return self.command("PING") == b"PONG"
        except OSError:
            return False

    def command(self, *words):
        with socket.create_connection((self.host, self.port), 10) as s, s.makefile("rb") as stream:
            if self.password:
                s.sendall(encode(["AUTH", self.password]))
                read_reply(stream)
            s.sendall(encode(words))
            return read_reply(stream)

    def keys(self, pattern):
        return sorted(k.decode() for k in self.command("KEYS", pattern))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


class Wire:
    """A TCP relay to a Redis. mode: "pass"; "slow" (every piece waits); "deaf" (takes bytes, answers nothing); "garbage" (replies
    are noise); "cut" (the connection ends in the middle of a large reply)."""

    def __init__(self, target, host="127.0.0.1", on_command=None):
        self.target, self.mode, self.delay, self.on_command = target, "pass", 0.3, on_command
        self.random = random.Random(1)
        self.listener = socket.create_server((host, 0))
        self.host, self.port = self.listener.getsockname()[:2]
        self.open, self.lock = set(), threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode):
        """Applies to existing and new connections."""
        self.mode = mode

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target, 5)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                near.close()
                continue
            with self.lock:
                self.open |= {near, far}
            threading.Thread(target=self._commands, args=(near, far), daemon=True).start()
            threading.Thread(target=self._replies, args=(far, near), daemon=True).start()

    def _commands(self, near, far):
        """Relays whole commands, so that on_command() can end their sender before or after one is passed on."""
        try:
            with near.makefile("rb") as stream:
                while True:
                    words = read_reply(stream)
                    if self.mode == "slow":
                        time.sleep(self.delay)
                    if self.mode == "deaf":
                        continue
                    if self.on_command:
                        self.on_command(words, lambda w=words: far.sendall(encode(w)))
                    else:
                        far.sendall(encode(words))
        except (OSError, ValueError):
            pass
        self._end(near, far)

    def _replies(self, far, near):
        try:
            while data := far.recv(65536):
                if self.mode == "garbage":
                    data = self.random.randbytes(self.random.randrange(1, 40))
                if self.mode == "cut" and len(data) > 20_000:
                    near.sendall(data[:len(data) // 2])
                    break
                near.sendall(data)
        except OSError:
            pass
        self._end(near, far)

    def _end(self, *sockets):
        with self.lock:
            for s in sockets:
                self.open.discard(s)
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                s.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self._end(*list(self.open))


class Sentinels:
    """A primary, a replica, three sentinels that fail over after 0.7 s."""

    def __init__(self, host="127.0.0.1"):
        self.host = host
        self.primary = Redis(host=host)
        self.replica = Redis("--replicaof", host, str(self.primary.port), host=host)
        self.watchers = [self._watcher() for _ in range(3)]
        wait_for(lambda: b"master_link_status:up" in self.replica.command("INFO", "replication"), 30, "the replica")
        wait_for(self._all_known, 30, "the sentinels to know each other")

    def _watcher(self):
        port, folder = free_port(self.host), tempfile.mkdtemp(prefix="larder-test-", dir=self.primary.dir)
        path = os.path.join(folder, "sentinel.conf")
        with open(path, "w") as f:
            f.write(f"port {port}\nbind {self.host}\ndir {folder}\nsentinel monitor mymaster {self.host} {self.primary.port} 2\n"
                    f"sentinel auth-pass mymaster {PASSWORD}\nsentinel down-after-milliseconds mymaster 700\nsentinel failover-timeout mymaster 5000\n")
        return Redis(path, "--sentinel", host=self.host, port=port, password="", bare=True)

    def _all_known(self):
        known = self.watchers[0].command("SENTINEL", "MASTER", "mymaster")
        fields = dict(zip(known[::2], known[1::2]))
        return fields.get(b"num-slaves") == b"1" and fields.get(b"num-other-sentinels") == b"2"

    def url(self):
        return "redis://mymaster," + ",".join(f"{self.host}:{w.port}" for w in self.watchers) + "/0"

    def close(self):
        for server in [*self.watchers, self.replica, self.primary]:
            server.close()


class Cluster:
    """Three primaries, a third of the slots each."""

    def __init__(self, host="127.0.0.1"):
        self.host = host
        buses = [free_port(host) for _ in range(3)]  # the default, the port and 10,000, may be above 65,535
        self.shards = [Redis("--cluster-enabled", "yes", "--cluster-node-timeout", "3000", "--cluster-announce-ip", host, "--cluster-port", str(bus), host=host)
                       for bus in buses]
        for i, shard in enumerate(self.shards):
            shard.command("CLUSTER", "ADDSLOTSRANGE", i * 5461, 16383 if i == 2 else i * 5461 + 5460)
            if i:
                shard.command("CLUSTER", "MEET", host, self.shards[0].port, buses[0])
        wait_for(lambda: all(b"cluster_state:ok" in s.command("CLUSTER", "INFO") for s in self.shards), 40, "the Cluster")

    def url(self):
        return "redis://" + ",".join(f"{self.host}:{s.port}" for s in self.shards[:2]) + "/0"

    def owner(self, key):
        slot = self.shards[0].command("CLUSTER", "KEYSLOT", key)
        return slot, self.shards[min(slot // 5461, 2)]

    def move(self, key, pause=0.0):
        """The slot of a key goes to another shard, key by key, as redis-cli --cluster reshard does."""
        slot, source = self.owner(key)
        target = next(s for s in self.shards if s is not source)
        ids = {s: s.command("CLUSTER", "MYID") for s in self.shards}
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        for name in source.command("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            moved = source.command("MIGRATE", self.host, target.port, name, 0, 5000, "AUTH", PASSWORD)
            if moved != b"OK":
                raise AssertionError(f"{name!r} did not move: {moved!r}")
            time.sleep(pause)
        for shard in (target, source, *self.shards):
            shard.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        return target

    def close(self):
        for shard in self.shards:
            shard.close()
