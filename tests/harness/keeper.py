"""A larderd under a keeper, whose starts a test can hold."""
import os
import signal
import subprocess

from .base import KEEPER, LARDERD, alive, wait_for
from .daemon import Daemon

# Starts larderd, unless there is a gate: then when somebody writes into it.
GATED = 'if [ -p "$0" ]; then read -r line < "$0"; fi; exec "$@"'


class KeptDaemon(Daemon):
    """`process` is the keeper; larderd comes and goes."""

    def __init__(self, private=False, **config):
        super().__init__(**config)
        self.private = private
        self.gate = os.path.join(self.work, "gate")

    def start(self, **options):
        larderd = ["/bin/sh", "-c", GATED, self.gate, LARDERD, "--config", self.write_config(), *(["--private"] if self.private else [])]
        words = [*self.prefix, KEEPER, "--socket", self.socket, *(["--private"] if self.private else []), "--", *larderd]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, **options)
        wait_for(self._answers, 30, "larderd")

    def pid(self):
        """larderd's; None while there is none. Asks nobody."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            pids = [int(word) for word in f.read().split()]
        return next((pid for pid in pids if alive(pid)), None)

    def kill_larderd(self):
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not alive(pid), what="the end of larderd")
        return pid

    def hold_starts(self):
        """The next larderd waits for release_start()."""
        os.mkfifo(self.gate)

    def release_start(self):
        gate = os.open(self.gate, os.O_WRONLY)  # waits for the reader
        os.unlink(self.gate)
        os.close(gate)

    def remove(self):
        if os.path.exists(self.gate) and self.process.poll() is None:
            self.process.kill()  # larderd dies with it
            self.process.wait()
        super().remove()
