"""Every function of libc that takes a path or a folder's descriptor is intercepted, or named below with the reason why not.

What the user would lose: a program that calls a function which is not intercepted sees the disk below the mount. The prototypes come from
this machine's headers, so a newer glibc's additions fail here; the imports of the machine's programs show that the names are the right ones.
"""
import glob
import os
import re
import subprocess
import unittest

from harness import ROOT

HEADERS = ("aio aliases argz dirent dlfcn envz err fcntl fstab fts ftw glob grp gshadow iconv libintl locale mntent mqueue netdb nl_types pwd search semaphore shadow signal spawn "
           "stdio stdlib string sys/acct sys/fanotify sys/file sys/inotify sys/ipc sys/mman sys/mount sys/quota sys/resource sys/sendfile sys/shm sys/socket sys/stat "
           "sys/statfs sys/statvfs sys/swap sys/sysinfo sys/time sys/timerfd sys/types sys/uio sys/un sys/vfs sys/wait sys/xattr time ttyent unistd utime utmp utmpx wchar wordexp").split()
PATH = re.compile(r"\bchar \*(__restrict )?_*(path|file|filename|pathname|name|dir|dirname|from|to|old|new|oldname|newname|source|target|special_file|template|pattern)\b"
                  r"|\bint _*(dirfd|dfd|atfd|fromfd|tofd|fd1|fd2)\b")
# "name" is often not a path.
NO_PATH = re.compile(r"^(get(addrinfo|env|.*byname(2)?(_r)?|..?nam(_r)?|fsfile|fsspec|spnam(_r)?|sgnam(_r)?)|secure_getenv|(un)?setenv|set(domain|host)name|setlogin|envz_\w+|dlv?sym|rexec(_af)?|"
                     r"_*get(domain|host)name(_chk)?|_*getlogin_r(_chk)?|basename|glob_pattern_p|(mq|sem|shm)_(open|unlink)|argz_\w+)$")
IGNORED = {
    "acct": "root's accounting file: nothing to write in a dataset",
    "bindtextdomain": "keeps a folder's name; message catalogues in a dataset are not looked for",
    "dlmopen": "another namespace is past every preload",
    "fspick": "mount API: a dataset is no mount",
    "__mktemp": "as mktemp",
    "mktemp": "makes up a name that is not there, which no file of a dataset has",
    "mount": "mount API: a dataset is no mount",
    "mount_setattr": "mount API: a dataset is no mount",
    "open_tree": "mount API: a dataset is no mount",
    "revoke": "ENOSYS on Linux",
    "__setmntent": "lists of mounts lie in /etc and /proc",
    "setmntent": "lists of mounts lie in /etc and /proc",
    "swapoff": "root's swap",
    "swapon": "root's swap",
    "tempnam": "makes up a name to write at: a dataset is read-only",
    "umount": "mount API: a dataset is no mount",
    "umount2": "mount API: a dataset is no mount",
    "utmpname": "logins lie in /run",
    "utmpxname": "logins lie in /run",
    "catopen": "message catalogues in a dataset are not looked for",
    "wordexp": "words of a shell; what it globs in a dataset is not expanded (docs/compatibility.md)",
    "__xpg_basename": "text alone",
}


def symbols(*arguments):
    out = subprocess.run(["nm", "-D", *arguments], capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines() if len(line.split()) > 1}


def listed():
    with open(os.path.join(ROOT, "preload", "base", "symbols.def")) as f:
        return set(re.findall(r"^SYM\([^,]*, (\w+),", f.read(), re.M))


def prototypes():
    """name -> parameters, of every function that the headers declare."""
    source = "#define _GNU_SOURCE\n" + "".join(f"#if __has_include(<{h}.h>)\n#include <{h}.h>\n#endif\n" for h in HEADERS)
    text = subprocess.run(["gcc", "-E", "-P", "-x", "c", "-"], input=source, capture_output=True, text=True, check=True).stdout
    text = re.sub(r"\s+", " ", text)
    return dict(re.findall(r"extern [^;{}()]*?\b(\w+) \(((?:[^()]|\([^()]*\))*)\)", text))


def takes_a_path():
    return {name for name, parameters in prototypes().items() if PATH.search(parameters) and not NO_PATH.match(name)}


def plain(name):
    """open of __open64_2, stat of __xstat64, fopen of _IO_fopen."""
    name = re.sub(r"^(_IO_|_+)", "", name)
    name = re.sub(r"(_chk|_2)$", "", name)
    name = re.sub(r"64(v2)?$", "", name)
    return re.sub(r"^([fl]?)x(stat|statat|mknod|mknodat)$", r"\1\2", name)


class Audit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.ours, cls.paths = listed(), takes_a_path()
        cls.libc = symbols("--defined-only", next(iter(glob.glob("/lib/*-linux-gnu/libc.so.6"))))

    def test_the_headers_were_understood(self):
        for name in ("open", "openat", "stat", "rename", "nftw", "glob", "mkstemp", "realpath", "inotify_add_watch", "posix_spawn", "execveat"):
            self.assertIn(name, self.paths)
        self.assertGreater(len(self.paths), 110)

    def test_every_function_of_libc_that_takes_a_path_is_thought_of(self):
        thought_of = self.ours | IGNORED.keys()
        families = {plain(n) for n in self.paths}
        open_questions = {n for n in self.libc if (n in self.paths or plain(n) in families) and n not in thought_of and not NO_PATH.match(n)}
        self.assertEqual(sorted(open_questions - PRIVATE), [])

    def test_nothing_is_both(self):
        self.assertEqual(sorted(self.ours & IGNORED.keys()), [])

    def test_what_the_programs_of_this_machine_import(self):
        files = [f for f in glob.glob("/usr/bin/*") + glob.glob("/usr/lib/*-linux-gnu/*.so*") + glob.glob("/usr/lib/python3/dist-packages/**/*.so", recursive=True)
                 if os.path.isfile(f) and not os.path.islink(f)][:3000]
        imported = symbols("-u", *files) & self.libc
        self.assertGreater(len(imported & self.ours), 100)
        families = {plain(n) for n in self.paths}
        passed_by = {n for n in imported if plain(n) in families} - self.ours - IGNORED.keys()
        self.assertEqual(sorted(n for n in passed_by if not NO_PATH.match(n)), [])
        print(f"{len(files)} files import {len(imported & self.ours)} of the {len(self.ours)} functions, and of those that are let go: {sorted(imported & IGNORED.keys())}")


# GLIBC_PRIVATE: only glibc's own libraries can be linked to them.
PRIVATE = {"__open_nocancel", "__open64_nocancel", "__openat_nocancel", "__openat64_nocancel", "__libc_dlopen_mode", "__shm_directory"}

if __name__ == "__main__":
    unittest.main()
