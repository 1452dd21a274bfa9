"""Network namespaces: this process moves into one of its own (the hub, where servers run), and nodes get one each, joined to it by
veth. Nothing has a name outside, so nothing is left behind when the process ends, however it ends."""
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000
HUB = "10.231.7.1"


def run(*words):
    subprocess.run(words, check=True, capture_output=True, text=True, timeout=20)


def enter_hub():
    """Why namespaces cannot be used here, or "". Call it before this process starts a thread."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        return f"unshare(CLONE_NEWNET): {os.strerror(ctypes.get_errno())}"
    try:
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "hub", "type", "bridge")
        run("ip", "addr", "add", HUB + "/24", "dev", "hub")
        run("ip", "link", "set", "hub", "up")
    except (OSError, subprocess.SubprocessError) as e:
        return f"the bridge cannot be made: {getattr(e, 'stderr', '') or e}"
    return ""


class Host:
    """A network namespace 10.231.7.(10 + number), held by a process that sleeps."""

    def __init__(self, number):
        self.address = f"10.231.7.{10 + number}"
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec sleep 600"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.holder.stdout.readline()
        self.prefix = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--"]
        self.near = f"node{number}"
        run("ip", "link", "add", self.near, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", self.near, "master", "hub", "up")
        run(*self.prefix, "ip", "link", "set", "lo", "up")
        run(*self.prefix, "ip", "addr", "add", self.address + "/24", "dev", "eth0")
        run(*self.prefix, "ip", "link", "set", "eth0", "up")

    def close(self):
        run("ip", "link", "del", self.near)  # the kernel would do it, but some time after the holder's end
        self.holder.kill()
        self.holder.wait()
        self.holder.stdout.close()
