"""The same programs, bare on a plain folder and preloaded on the mount, give the same results.

Only these may differ, and are removed by name: the sizes of folders (every file system has its own), the "total" of ls (it counts
blocks), inode numbers.
"""
import os
import re
import subprocess
import tarfile
import unittest

from harness import (PYTHON, Daemon, LarderTest, make_tree, run_program, s3_environment, s3_server, scratch, settle_tree,
                     tree_digests)

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "read_tree.py")


class Programs:
    """The tests, for any source. cls.plain: the folder; cls.mount: the mount point of the same files."""

    def both(self, command, scratch_folder=None):
        """Runs a command in both places, with $ROOT, and compares exit status and stdout. Returns both outputs."""
        results = []
        for root, env in ((self.plain, self.daemon.env), (self.mount, self.daemon.preload_env())):
            with scratch() as out:
                words = [w.replace("{root}", root).replace("{out}", out) for w in command] if isinstance(command, list) else command
                result = run_program(words, {**env, "ROOT": root, "OUT": out})
                if scratch_folder is not None:
                    scratch_folder.append(tree_digests(out))
                text = result.stdout.replace(root.encode(), b"ROOT").replace(out.encode(), b"OUT")
                results.append((result.returncode, text, result.stderr.replace(root.encode(), b"ROOT").replace(out.encode(), b"OUT")))
        return results

    def assert_same(self, command, normal=lambda out: out):
        bare, preloaded = self.both(command)
        self.assertEqual(bare[0], preloaded[0], preloaded[2].decode(errors="replace"))
        self.assertEqual(normal(bare[1]).decode(errors="backslashreplace"), normal(preloaded[1]).decode(errors="backslashreplace"))
        self.assertEqual(bare[2], preloaded[2])
        self.assertTrue(bare[1], "the program printed nothing: nothing was compared")

    def assert_same_copy(self, command):
        copies = []
        bare, preloaded = self.both(command, copies)
        self.assertEqual((bare[0], bare[2]), (preloaded[0], preloaded[2]))
        self.assertEqual(bare[0], 0, bare[2])
        self.assertEqual(copies[0], copies[1])
        self.assertGreater(len(copies[0]), 80)

    def test_python(self):
        self.assert_same([PYTHON, SCRIPT, "{root}", "{out}"])

    def test_ls_lR(self):
        def normal(out):
            lines = [line for line in out.split(b"\n") if not line.startswith(b"total ")]
            return b"\n".join(re.sub(rb"^(d\S+ +\d+ \S+ +\S+ +)\d+", rb"\1-", line) for line in lines)
        self.assert_same('cd "$ROOT" && ls -lR --time-style=full-iso .', normal)
        self.assert_same('ls -lR "$ROOT"', normal)

    def test_find_md5sum(self):
        self.assert_same('cd "$ROOT" && find . -type f -exec md5sum {} + | sort')
        self.assert_same('find "$ROOT" -type f -exec md5sum {} \\; | sort')

    def test_find_attributes(self):
        self.assert_same("cd \"$ROOT\" && find . -type f -printf '%p %s %m %T@ %U %G %n %y\\n' | sort")
        self.assert_same("cd \"$ROOT\" && find . -type d -printf '%p %m %n %y\\n' | sort")
        self.assert_same('cd "$ROOT" && find . -size +100k -newer top.txt -o -name "n0*" -o -empty | sort')

    def test_stat(self):
        """S10: `stat`, `lstat`, `fstat` and `statx` agree in every field."""
        self.assert_same('cd "$ROOT" && find . -type f -print0 | sort -z | xargs -0 stat -c "%n %s %f %F %Y %u %g %h"')

    def test_cp(self):
        self.assert_same_copy('cp -r "$ROOT" "$OUT/copy"')
        self.assert_same_copy('cd "$ROOT" && cp -a . "$OUT/copy"')

    def test_tar(self):
        for create in ('tar cf "$OUT/t.tar" -C "$ROOT" .', 'cd "$ROOT" && tar c . > "$OUT/t.tar"'):
            found = []
            for root, env in ((self.plain, self.daemon.env), (self.mount, self.daemon.preload_env())):
                with scratch() as out:
                    result = run_program(create, {**env, "ROOT": root, "OUT": out})
                    self.assertEqual((result.returncode, result.stderr), (0, b""))
                    with tarfile.open(os.path.join(out, "t.tar")) as t:
                        found.append(sorted((m.name, m.size if m.isfile() else 0, m.mode, m.mtime, m.type, m.uid, m.gid,
                                             t.extractfile(m).read() if m.isfile() else b"") for m in t.getmembers()))
            self.assertEqual([m[:7] for m in found[0]], [m[:7] for m in found[1]])
            self.assertTrue(found[0] == found[1], "contents differ")

    def test_rsync(self):
        self.assert_same_copy('rsync -rc "$ROOT/" "$OUT/copy"')
        # The plain folder against the mount, by checksum, times and sizes: nothing to do.
        result = run_program(f'rsync -rtc --dry-run --itemize-changes "$ROOT/" "{self.plain}/" | grep "^>f" ; true',
                             self.daemon.preload_env(ROOT=self.mount))
        self.assertEqual((result.stdout, result.stderr), (b"", b""))

    def test_grep(self):
        self.assert_same('grep -r needle "$ROOT" | sort')
        self.assert_same('cd "$ROOT" && grep -rc needle . | sort')
        self.assert_same('cd "$ROOT" && grep -rlZ needle odd | sort -z | tr "\\0" "\\n"')

    def test_du(self):
        folders = {os.path.relpath(d, self.plain) for d, _, _ in os.walk(self.plain)}

        def normal(out):
            lines = []
            for line in out.decode().splitlines():
                size, path = line.split("\t", 1)
                lines.append(path if os.path.normpath(path) in folders else line)  # a folder's own size is its file system's
            return "\n".join(sorted(lines)).encode()
        self.assert_same('cd "$ROOT" && du -a --apparent-size .', normal)
        self.assert_same('cd "$ROOT" && du -ab .', normal)

    def test_diff(self):
        result = run_program(f'diff -r "{self.plain}" "$ROOT"', self.daemon.preload_env(ROOT=self.mount))
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, b"", b""))

    def test_shell_and_small_tools(self):
        self.assert_same('cat < "$ROOT/sizes/1048577.bin" | md5sum')
        self.assert_same('cd "$ROOT/sizes" && wc -c < 110000.bin && head -c 100 4096.bin | md5sum && tail -c 5000 65536.bin | md5sum')
        self.assert_same('dd if="$ROOT/sizes/262144.bin" bs=1000 skip=13 count=50 2>/dev/null | md5sum')
        self.assert_same('cd "$ROOT/odd" && for f in *; do echo "$f"; cat "$f"; done; ls; pwd -P | sed "s|.*/||"')
        self.assert_same('sort "$ROOT/top.txt"; test -r "$ROOT/top.txt" && test -d "$ROOT/odd" && ! test -e "$ROOT/none"; echo $?')
        self.assert_same('cmp "$ROOT/sizes/4096.bin" "$ROOT/sizes/4097.bin"; echo $?; cat "$ROOT/none"; echo $?')
        self.assert_same('cd "$ROOT" && readlink -f odd/../top.txt && ls -d classes/*/ && ls classes/n0[2-4]/*5*')

    def test_exec_and_descriptors(self):
        self.assert_same('exec 7< "$ROOT/sizes/65536.bin"; /bin/sh -c "cat <&7 | md5sum"')
        self.assert_same('(head -c 10; cat) < "$ROOT/sizes/4097.bin" | md5sum')
        self.assert_same([PYTHON, "-c", "import subprocess, sys; f = open(sys.argv[1] + '/sizes/110000.bin', 'rb'); "
                          "print(subprocess.run(['md5sum'], stdin=f, capture_output=True, text=True).stdout)", "{root}"])


class FileSource(Programs, LarderTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(scratch("/dev/shm"))
        cls.plain = os.path.join(cls.folder, "plain")
        cls.mount = "/data/larder-test/files"
        make_tree(cls.plain)
        os.makedirs(os.path.join(cls.plain, "classes/n00-empty"))
        os.makedirs(os.path.join(cls.plain, "odd/empty/nested"))
        run_program('cd "$ROOT" && git init -q repo && cd repo && echo x > x && git add x && '
                    'git -c user.name=n -c user.email=e commit -qm first && git gc -q', {**os.environ, "ROOT": cls.plain})
        settle_tree(cls.plain)
        cls.daemon = cls.enterClassContext(Daemon())
        cls.daemon.mount("file://" + cls.plain, cls.mount)

    def test_git(self):
        """After `git gc` some folders are empty, and git takes nothing for a repository without them."""
        self.assertTrue(any(not folders and not files for _, folders, files in os.walk(os.path.join(self.plain, "repo"))))
        self.assert_same("git -c safe.directory='*' -C \"$ROOT/repo\" log --format=%s; git -c safe.directory='*' -C \"$ROOT/repo\" ls-files")


class S3Source(Programs, LarderTest):
    @classmethod
    def setUpClass(cls):
        import s3_put
        cls.folder = cls.enterClassContext(scratch("/dev/shm"))
        cls.plain = os.path.join(cls.folder, "plain")
        cls.mount = "/data/larder-test/s3"
        make_tree(cls.plain)
        os.unlink(os.path.join(cls.plain, "odd/back\\slash.txt"))  # SeaweedFS stores it as odd/back/slash.txt
        cls.server = cls.enterClassContext(s3_server(cls.enterClassContext(scratch())))
        s3_put.put_tree(cls.server.endpoint, cls.server.access_key, cls.server.secret_key, cls.plain, "bucket", "some prefix/data/")
        settle_tree(cls.plain, cls.uploaded_at())
        cls.daemon = cls.enterClassContext(Daemon(env=s3_environment(cls.server)))
        cls.daemon.mount("s3://bucket/some prefix/data", cls.mount, endpoint=cls.server.endpoint)

    @classmethod
    def uploaded_at(cls):
        """Last-Modified of every object, as another client sees it."""
        program = ("import boto3, json, sys; c = boto3.client('s3', endpoint_url=sys.argv[1], region_name='us-east-1'); "
                   "print(json.dumps({o['Key'][len('some prefix/data/'):]: int(o['LastModified'].timestamp()) * 10**9 for p in "
                   "c.get_paginator('list_objects_v2').paginate(Bucket='bucket', Prefix='some prefix/data/') for o in p['Contents']}))")
        import json

        from harness import VENV, clean_environment
        out = subprocess.run([os.path.join(VENV, "bin", "python"), "-c", program, cls.server.endpoint], check=True, capture_output=True,
                             env={**clean_environment(), **s3_environment(cls.server)})
        return json.loads(out.stdout)


if __name__ == "__main__":
    unittest.main()
