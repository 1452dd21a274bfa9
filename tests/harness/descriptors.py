"""Keeps larderd's descriptors over its death, as systemd's descriptor store and the keeper do (cached/home/descriptor_store.h)."""
import array
import contextlib
import fcntl
import os
import socket

FIRST = 3
HIGH = 200  # where a program's own descriptors are not


class DescriptorStore:
    def __init__(self, path):
        self.path = path
        self.fds = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)

    def close(self):
        if self.socket.fileno() < 0:
            return
        self.receive()
        for fd in self.fds.values():
            os.close(fd)
        self.fds = {}
        self.socket.close()

    def receive(self):
        """Takes in what was sent so far."""
        while True:
            try:
                text, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            lines = dict(line.split("=", 1) for line in text.decode().splitlines())
            fds = array.array("i")
            for _, _, data in control:
                fds.frombytes(data)
            if "FDSTOREREMOVE" in lines and lines["FDNAME"] in self.fds:
                os.close(self.fds.pop(lines["FDNAME"]))
            if "FDSTORE" in lines:
                self.fds[lines["FDNAME"]] = fcntl.fcntl(fds[0], fcntl.F_DUPFD_CLOEXEC, HIGH)
            for fd in fds:
                os.close(fd)

    def environment(self):
        return {"NOTIFY_SOCKET": self.path}

    def starting(self, command):
        """The command that starts larderd with what is kept, and the descriptors to pass to it."""
        self.receive()
        kept = list(self.fds.items())
        if not kept:
            return command, ()
        moves = " ".join(f"{FIRST + i}<&{fd} {fd}<&-" for i, (_, fd) in enumerate(kept))
        names = ":".join(name for name, _ in kept)
        script = f'exec {moves}; LISTEN_PID=$$ LISTEN_FDS={len(kept)} LISTEN_FDNAMES={names} exec "$@"'
        return ["bash", "-c", script, "-", *command], tuple(fd for _, fd in kept)

    def folder(self):
        """A path of the kept home, for this process and its children; None if there is none."""
        self.receive()
        with contextlib.suppress(KeyError):
            return f"/proc/{os.getpid()}/fd/{self.fds['larder-home']}"
        return None
