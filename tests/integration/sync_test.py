"""larder sync: what arrives at the other end, what is left alone, and what a failure says.

boto3 and Baidu's SDK read what Larder wrote, and Larder reads what they wrote.
"""
import json
import os
import pty
import shutil
import subprocess
import unittest
import urllib.parse
import urllib.request

from integration.bos_test import BosServer
from harness import (LARDER, MiB, ROOT, VENV, LarderTest, Proxy, clean_environment, content, make_tree, s3_environment, s3_server, scratch,
                     tree_digests)

from s3_put import Client as S3Client

VENV_PYTHON = os.path.join(VENV, "bin", "python")


def write(path, data, mtime=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    if mtime is not None:
        os.utime(path, (mtime, mtime))


def read(path):
    with open(path, "rb") as f:
        return f.read()


class SyncCase(LarderTest):
    """A folder, a state folder of its own, and one S3 server for the class."""

    @classmethod
    def setUpClass(cls):
        cls.server = cls.enterClassContext(s3_server(cls.enterClassContext(scratch())))

    def setUp(self):
        self.work = self.enterContext(scratch())
        self.env = {**clean_environment(), **s3_environment(self.server), "AWS_ENDPOINT_URL": self.server.endpoint,
                    "XDG_STATE_HOME": os.path.join(self.work, "state"), "HOME": self.work}
        self.bucket = self.id().rsplit(".", 1)[1].replace("_", "-").lower()[-60:].strip("-")
        S3Client(self.server.endpoint, self.server.access_key, self.server.secret_key).make_bucket(self.bucket)

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def folder(self, name):
        os.makedirs(self.path(name), exist_ok=True)
        return self.path(name)

    def sdk(self, action, *args):
        result = subprocess.run([VENV_PYTHON, os.path.join(ROOT, "tests", "tools", "s3_sdk.py"), action, self.server.endpoint, *args],
                                env=self.env, capture_output=True, text=True, timeout=120, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout) if result.stdout else None

    def larder(self, *args, env=None):
        return subprocess.run([LARDER, "sync", *args], env={**self.env, **(env or {})}, capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, check=False)

    def sync(self, *args, failed=0, env=None):
        """Its summary as JSON; `failed` files must have failed."""
        result = self.larder("--json", "-q", *args, env=env)
        self.assertEqual(result.returncode, 1 if failed else 0, result.stderr)
        summary = json.loads(result.stdout)
        self.assertEqual(summary["failed"], failed, result.stderr)
        self.assertEqual(len(summary["failures"]), failed)
        self.assertEqual(len(result.stderr.splitlines()), failed, result.stderr)
        return summary

    def counts(self, summary, *names):
        return tuple(summary[n] for n in names or ("copied", "unchanged", "removed"))

    def tree(self, name="tree"):
        """SeaweedFS turns a backslash into a slash, so there are none here."""
        root = self.path(name)
        make_tree(root)
        os.unlink(os.path.join(root, "odd", "back\\slash.txt"))
        write(os.path.join(root, "large.bin"), content("large", 20 * MiB + 11))
        return root

    def s3(self, prefix=""):
        return f"s3://{self.bucket}/{prefix}"

    def nothing_unfinished(self, root):
        found = [os.path.join(d, f) for d, _, names in os.walk(root) for f in names if f.startswith(".larder-sync-")]
        self.assertEqual(found, [])


class CopyTest(SyncCase):
    def test_a_tree_goes_up_and_comes_back_and_boto3_reads_it(self):
        tree = self.tree()
        files = len(tree_digests(tree))
        for name in tree_digests(tree):
            os.utime(os.path.join(tree, name), (1_600_000_000.25,) * 2)
        self.assertEqual(self.counts(self.sync(tree, self.s3("a b"))), (files, 0, 0))
        by_sdk = self.sdk("read", self.bucket, "a b/")
        self.assertEqual({k: v[1] for k, v in by_sdk.items()}, tree_digests(tree))
        self.assertEqual(by_sdk["classes/n00/img_0000.JPEG"][2], "image/jpeg")
        self.assertAlmostEqual(float(by_sdk["large.bin"][3]["mtime"]), os.stat(os.path.join(tree, "large.bin")).st_mtime, places=3)
        self.assertEqual(self.sdk("uploads", self.bucket), [])
        back = self.path("back")
        self.assertEqual(self.counts(self.sync(self.s3("a b"), back)), (files, 0, 0))
        self.assertEqual(tree_digests(back), tree_digests(tree))
        self.nothing_unfinished(back)
        for source, target in ((tree, self.s3("a b")), (self.s3("a b"), back)):
            self.assertEqual(self.counts(self.sync(source, target)), (0, files, 0))

    def test_what_boto3_wrote_is_read_and_known_by_its_checksum(self):
        tree = self.tree()
        self.sdk("put", self.bucket, "p/", tree)
        back = self.path("back")
        self.sync(self.s3("p"), back)
        self.assertEqual(tree_digests(back), tree_digests(tree))
        files = len(tree_digests(tree))
        self.assertEqual(self.counts(self.sync("--checksum", tree, self.s3("p"))), (0, files, 0), "boto3's parts are of another size than ours")

    def test_parts_of_odd_sizes_are_no_errors(self):
        """2 parts of 6 MiB look like 2 of 5 MiB, 4 of 6 like 4 of 5: the ETag is not that of such parts, and the bytes are right all the same."""
        for name, size in (("small.bin", 7 * MiB), ("large.bin", 20 * MiB - 1)):
            write(self.path("t", name), content(name, size))
        self.sdk("put", self.bucket, "p/", self.path("t"), "6")
        self.assertEqual(self.sync(self.s3("p"), self.path("back"))["copied"], 2)
        self.assertEqual(tree_digests(self.path("back")), tree_digests(self.path("t")))
        self.assertEqual(self.counts(self.sync("--checksum", self.s3("p"), self.path("back"))), (0, 2, 0))

    def test_between_all_kinds_of_ends(self):
        tree = self.tree()
        files = len(tree_digests(tree))
        bos = self.enterContext(BosServer("--page", "25", "--session-token", "tok/en+1=="))
        env = bos.environment()
        bos_end = ["--dst-option", f"endpoint={bos.endpoint}"]
        bos.sdk("put", "bkt", "elsewhere/", self.folder("one"))
        write(self.path("one", "x"), b"x")
        bos.sdk("put", "bkt", "elsewhere/", self.path("one"))
        self.assertEqual(self.sync(tree, "bos://bkt/p", *bos_end, env=env)["copied"], files)
        by_sdk = json.loads(bos.sdk("read", "bkt", "p/"))
        self.assertEqual({k: v[2] for k, v in by_sdk.items()}, tree_digests(tree))
        self.assertEqual(self.sync("bos://bkt/p", self.s3("q"), "--src-option", f"endpoint={bos.endpoint}", env=env)["copied"], files)
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "q/").items()}, tree_digests(tree))
        self.assertEqual(self.sync(self.s3("q"), "bos://bkt/r", *bos_end, env=env)["copied"], files)
        self.assertEqual(self.sync("bos://bkt/r", self.path("r"), "--endpoint", bos.endpoint, env=env)["copied"], files)
        self.assertEqual(tree_digests(self.path("r")), tree_digests(tree))
        self.assertEqual(self.sync(self.s3("q"), self.s3("s"))["copied"], files)
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "s/").items()}, tree_digests(tree))
        self.assertEqual(self.counts(self.sync("--delete", self.path("one"), "bos://bkt/r", *bos_end, env=env)), (1, 0, files))
        self.assertEqual(list(json.loads(bos.sdk("read", "bkt", "r/"))), ["x"])
        state = bos.control("state")
        self.assertEqual((state["verified"], state["uploads"]), (len(state["requests"]), 0), "a request was not signed, or an upload left")

    def test_one_service_copies_by_itself(self):
        """No byte of an object passes through this machine, whatever its name, unless the store refuses to copy."""
        tree = self.tree()
        files = len(tree_digests(tree))
        bos = self.enterContext(BosServer("--page", "25"))
        S3Client(self.server.endpoint, self.server.access_key, self.server.secret_key).make_bucket(self.bucket + "-2")
        for kind, endpoint, env, source, target in (
                ("s3", self.server.endpoint, self.env, self.s3("p"), f"s3://{self.bucket}-2/q"), ("bos", bos.endpoint, bos.environment(), "bos://bkt/p", "bos://bkt/q")):
            with self.subTest(kind):
                if kind == "bos":
                    bos.sdk("put", "bkt", "elsewhere/", self.path("tree"))
                proxy = self.enterContext(Proxy(endpoint))
                through = ["--endpoint", proxy.endpoint]
                self.sync(tree, source, *through, env=env)
                proxy.clear()
                self.assertEqual(self.counts(self.sync(source, target, *through, env=env)), (files, 0, 0))
                lines = [r["line"] for r in proxy.log()["requests"]]
                self.assertEqual([line for line in lines if line.startswith("GET ") and "?" not in line], [])
                self.assertEqual(len([line for line in lines if line.startswith("PUT ")]), files)
                self.assertEqual(self.counts(self.sync(source, target, *through, env=env)), (0, files, 0))
                back = self.path("back-" + kind)
                self.sync(target, back, *through, env=env)
                self.assertEqual(tree_digests(back), tree_digests(tree))
                proxy.rules({"match": "^PUT ", "fault": "status", "status": 501, "code": "NotImplemented", "count": 1})
                elsewhere = target + "/elsewhere"
                self.assertEqual(self.counts(self.sync("--jobs", "1", source, elsewhere, *through, env=env)), (files, 0, 0))
                self.assertGreater(len([r for r in proxy.log()["requests"] if r["line"].startswith("GET ") and "?" not in r["line"]]), files - 1)
        self.assertEqual(self.sdk("read", self.bucket + "-2", "q/classes/")["n00/img_0000.JPEG"][2], "image/jpeg")

    def test_directory_to_directory_keeps_times(self):
        tree = self.tree()
        files = len(tree_digests(tree))
        self.assertEqual(self.sync(tree, self.path("copy"))["copied"], files)
        self.assertEqual(tree_digests(self.path("copy")), tree_digests(tree))
        for name in tree_digests(tree):
            self.assertEqual(os.stat(os.path.join(tree, name)).st_mtime_ns, os.stat(self.path("copy", name)).st_mtime_ns)
        self.assertEqual(self.counts(self.sync(f"file://{tree}", "file://" + self.path("copy"))), (0, files, 0))

    def test_rclone_sees_what_we_wrote_as_the_same(self):
        rclone = os.path.join(VENV, "bin", "rclone")
        tree = self.path("tree")
        for i in range(5):
            write(os.path.join(tree, f"f{i}"), content(i, 1000 + i), 1_600_000_000 + i)
        self.sync(tree, self.s3("p"))
        env = {**self.env, "RCLONE_CONFIG_R_TYPE": "s3", "RCLONE_CONFIG_R_PROVIDER": "SeaweedFS", "RCLONE_CONFIG_R_ENDPOINT": self.server.endpoint,
               "RCLONE_CONFIG_R_ACCESS_KEY_ID": self.server.access_key, "RCLONE_CONFIG_R_SECRET_ACCESS_KEY": self.server.secret_key}
        result = subprocess.run([rclone, "sync", "--dry-run", "-v", "--use-json-log", tree, f"r:{self.bucket}/p"], env=env, capture_output=True,
                                text=True, timeout=60, check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("Skipped copy", result.stderr, "size and time are those that rclone expects")

    def test_profiles_name_who_reads_and_who_writes(self):
        write(self.path("t", "f"), b"x")
        keys = self.path("credentials")
        good = f"aws_access_key_id = {self.server.access_key}\naws_secret_access_key = {self.server.secret_key}\n"
        write(keys, f"[good]\n{good}[bad]\naws_access_key_id = AKIANOBODY\naws_secret_access_key = x\n".encode())
        env = {"AWS_SHARED_CREDENTIALS_FILE": keys, "AWS_ACCESS_KEY_ID": "AKIAWRONG", "AWS_SECRET_ACCESS_KEY": "wrong"}
        self.sync(self.path("t"), self.s3("p"), "--dst-option", "profile=good", env=env)
        self.sync(self.s3("p"), self.s3("q"), "--option", "profile=good", env=env)
        self.assert_one_line(self.larder("-q", self.s3("p"), self.s3("r"), "--src-option", "profile=good", "--dst-option", "profile=bad", env=env),
                             f"s3://{self.bucket}/r/", "403")


class ChoiceTest(SyncCase):
    """What is copied, what is removed, what is left alone."""

    def names(self, prefix):
        return sorted(self.sdk("read", self.bucket, prefix))

    def test_changes_go_over_and_nothing_else(self):
        tree = self.path("t")
        for name in ("same", "longer", "newer", "gone", "dir/gone too"):
            write(os.path.join(tree, name), name.encode(), 1_600_000_000)
        self.sync(tree, self.s3("p"))
        write(os.path.join(tree, "longer"), b"longer than before", 1_600_000_000)
        write(os.path.join(tree, "newer"), b"NEWER")
        future = os.stat(os.path.join(tree, "newer")).st_mtime + 3600
        os.utime(os.path.join(tree, "newer"), (future, future))
        os.unlink(os.path.join(tree, "gone"))
        shutil.rmtree(os.path.join(tree, "dir"))
        write(os.path.join(tree, "new/one"), b"new", 1_600_000_000)  # a file written in the second of its upload is copied once more
        dry = self.larder("--dry-run", "--delete", tree, self.s3("p"))
        self.assertEqual((dry.returncode, dry.stdout.splitlines()[:-1]),
                         (0, ["would copy longer (18 B)", "would copy new/one (3 B)", "would copy newer (5 B)", "would remove dir/gone too", "would remove gone"]))
        self.assertEqual(self.names("p/"), ["dir/gone too", "gone", "longer", "newer", "same"], "a dry run changed something")
        self.assertEqual(self.counts(self.sync(tree, self.s3("p"))), (3, 1, 0))
        self.assertIn("gone", self.names("p/"), "removed without --delete")
        done = self.larder("-v", "--delete", tree, self.s3("p"))
        self.assertEqual(sorted(done.stdout.splitlines()[:-1]), ["copied newer (5 B)", "removed dir/gone too", "removed gone"])
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(tree))
        back = self.path("back")
        self.sync(self.s3("p"), back)
        write(os.path.join(back, "extra/deep/file"), b"x")
        self.assertEqual(self.counts(self.sync("--delete", self.s3("p"), back)), (0, 4, 1))
        self.assertEqual(tree_digests(back), tree_digests(tree))
        self.assertFalse(os.path.exists(os.path.join(back, "extra")), "folders that the removal emptied stay")

    def test_filters_hold_on_both_sides(self):
        tree = self.path("t")
        for name in ("a.jpg", "b.png", "x/c.jpg", "x/d.png", "cache/e.jpg", "x/cache/f.png"):
            write(os.path.join(tree, name), name.encode())
        done = self.sync("--exclude", "cache/", "--include", "*.jpg", "--exclude", "*", tree, self.s3("p"))
        self.assertEqual(self.counts(done, "copied", "excluded"), (2, 4))
        self.assertEqual(self.names("p/"), ["a.jpg", "x/c.jpg"])
        self.sync(tree, self.s3("q"))
        shutil.rmtree(tree)
        write(os.path.join(tree, "a.jpg"), b"a.jpg")
        self.sync("--delete", "--exclude", "cache", "--exclude", "*.png", tree, self.s3("q"))
        self.assertEqual(self.names("q/"), ["a.jpg", "b.png", "cache/e.jpg", "x/cache/f.png", "x/d.png"], "what is excluded was removed")
        self.assert_one_line(self.larder("--exclude", "[x", tree, self.s3("p")), "[x", "]")

    def test_checksum_finds_what_size_and_time_hide(self):
        tree = self.path("t")
        write(os.path.join(tree, "small"), b"one", 1_600_000_000)
        write(os.path.join(tree, "large"), content("a", 17 * MiB), 1_600_000_000)
        self.sync(tree, self.s3("p"))
        self.sync(self.s3("p"), self.path("copy"))
        write(os.path.join(tree, "small"), b"two", 1_600_000_000)
        data = bytearray(content("a", 17 * MiB))
        data[9 * MiB] ^= 1
        write(os.path.join(tree, "large"), bytes(data), 1_600_000_000)
        self.assertEqual(self.counts(self.sync(tree, self.s3("p"))), (0, 2, 0), "that is what --checksum is for")
        self.assertEqual(self.counts(self.sync("--checksum", tree, self.path("copy"))), (2, 0, 0))
        self.assertEqual(self.counts(self.sync("--checksum", tree, self.s3("p"))), (2, 0, 0))
        self.assertEqual(self.counts(self.sync("--checksum", tree, self.s3("p"))), (0, 2, 0))
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(tree))
        os.utime(os.path.join(tree, "small"))
        self.assertEqual(self.counts(self.sync("--size-only", tree, self.path("copy"))), (0, 2, 0))

    def test_an_empty_source_removes_nothing_unless_that_is_said(self):
        write(self.path("t", "f"), b"x")
        self.sync(self.path("t"), self.s3("p"))
        failed = self.sync("--delete", self.s3("typo"), self.s3("p"), failed=1)
        self.assertIn("--delete-all", failed["failures"][0]["error"])
        self.assertEqual(self.names("p/"), ["f"])
        self.assertEqual(self.counts(self.sync("--delete-all", self.folder("none"), self.s3("p"))), (0, 0, 1))

    def test_a_listing_that_fails_removes_nothing(self):
        bos = self.enterContext(BosServer("--page", "10"))
        for i in range(30):
            write(self.path("t", f"f{i:02}"), b"x")
        bos.sdk("put", "bkt", "p/", self.path("t"))
        proxy = self.enterContext(Proxy(bos.endpoint))
        proxy.rules({"match": r"GET /bkt\?.*marker", "skip": 1, "fault": "status", "status": 403, "code": "AccessDenied"})
        back = self.path("back")
        for name in ("f05", "f29", "extra", "zzz"):
            write(os.path.join(back, name), b"old content")
        done = self.sync("--delete", "bos://bkt/p", back, "--endpoint", proxy.endpoint, env=bos.environment(), failed=2)
        self.assertEqual(done["removed"], 0)
        self.assertEqual(read(os.path.join(back, "zzz")), b"old content")
        self.assertIn("nothing was removed", done["failures"][1]["error"])

    def test_a_target_that_cannot_be_listed_is_not_written(self):
        write(self.path("t", "f"), b"x")
        done = self.sync(self.path("t"), "s3://no-such-bucket-here/p", failed=1)
        self.assertIn("NoSuchBucket", done["failures"][0]["error"])
        self.assertEqual(done["copied"], 0)

    def test_a_folder_takes_a_files_place_and_back(self):
        write(self.path("t", "x"), b"a file")
        write(self.path("t", "y/z"), b"in a folder")
        self.sync(self.path("t"), self.path("copy"))
        shutil.rmtree(self.path("t"))
        write(self.path("t", "x/z"), b"now a folder")
        write(self.path("t", "y"), b"now a file")
        self.sync(self.path("t"), self.path("copy"), failed=2)
        self.assertEqual(read(self.path("copy", "x")), b"a file", "without --delete nothing is removed")
        self.assertEqual(self.counts(self.sync("--delete", self.path("t"), self.path("copy"))), (2, 0, 2))
        self.assertEqual(tree_digests(self.path("copy")), tree_digests(self.path("t")))


class NamesTest(SyncCase):
    """Names that lead outside, or nowhere."""

    def test_keys_that_no_file_can_have_are_failures_and_lead_nowhere(self):
        bos = self.enterContext(BosServer())
        bad = ["a//b", "../outside", "a/../../outside", "./c", "d/.", "/lead", "x" * 256, ".larder-sync-0.tmp", "tail/"]
        for key in [*bad, "good", "marker/"]:
            body = b"" if key == "marker/" else b"content"
            request = urllib.request.Request(f"{bos.endpoint}/__test__/put?" + urllib.parse.urlencode({"bucket": "bkt", "key": "p/" + key}), body,
                                             method="PUT")
            urllib.request.urlopen(request).close()
        back = self.path("deep", "back")
        done = self.sync("bos://bkt/p", back, "--endpoint", bos.endpoint, env=bos.environment(), failed=len(bad))
        self.assertEqual(sorted(f["key"] for f in done["failures"]), sorted(bad))
        self.assertEqual(sorted(os.listdir(back)), ["good", "marker"])
        self.assertEqual(os.listdir(self.path("deep")), ["back"])
        self.assertFalse(os.path.exists(self.path("outside")))

    def test_symbolic_links_in_the_target_lead_nowhere(self):
        write(self.path("t", "dir/f"), b"new")
        write(self.path("t", "link"), b"new")
        os.makedirs(self.path("outside", "kept"))
        write(self.path("outside", "f"), b"precious")
        back = self.folder("back")
        os.symlink(self.path("outside"), os.path.join(back, "dir"))
        os.symlink(self.path("outside", "f"), os.path.join(back, "link"))
        done = self.sync("--delete", self.path("t"), back, failed=1)
        self.assertIn("symbolic link", done["failures"][0]["error"])
        self.assertEqual(sorted(os.listdir(self.path("outside"))), ["f", "kept"])
        self.assertEqual(read(self.path("outside", "f")), b"precious")
        self.assertEqual((read(os.path.join(back, "link")), os.path.islink(os.path.join(back, "link"))), (b"new", False))

    def test_symbolic_links_in_the_source_are_followed_or_skipped(self):
        tree = self.path("t")
        write(os.path.join(tree, "f"), b"content")
        write(self.path("other", "g"), b"linked")
        os.symlink(self.path("other"), os.path.join(tree, "d"))
        os.symlink("f", os.path.join(tree, "l"))
        os.symlink("nowhere", os.path.join(tree, "dangling"))
        os.symlink(".", os.path.join(tree, "round"))
        result = self.larder(tree, self.path("followed"))
        self.assertEqual(result.returncode, 0)
        self.assertIn("2 entries", result.stderr)
        self.assertEqual(sorted(tree_digests(self.path("followed"))), ["d/g", "f", "l"])
        self.larder("--src-option", "symlinks=skip", tree, self.path("skipped"))
        self.assertEqual(sorted(tree_digests(self.path("skipped"))), ["f"])

    def test_words_that_cannot_be_carried_out(self):
        write(self.path("t", "sub/f"), b"x")
        t = self.path("t")
        for words, parts in (((t, "http://127.0.0.1:9/x"), ("http://127.0.0.1:9/x", "can only be read")),
                             ((t, t), ("lies within", t)), ((t, self.path("t/sub/deeper")), ("lies within",)),
                             ((self.s3("a"), self.s3("a/b")), ("lies within",)),
                             ((self.path("missing"), self.path("new")), ("missing",)), ((t, "ftp://x/y"), ("ftp",)),
                             ((t, self.s3(), "--bwlimit", "x"), ("--bwlimit", "x")), ((t, self.s3(), "--option", "nonsense=1"), ("nonsense",)),
                             ((t, self.s3(), "--option", "secret_key=1"), ("command line",)),
                             ((t, "s3://b"), ("bucket name",)), ((t, self.path("t/sub/f")), (self.path("t/sub/f"),))):
            with self.subTest(words=words):
                self.assert_one_line(self.larder(*words), *parts)
        self.assertEqual(self.larder(t).returncode, 2)
        self.assertEqual(os.listdir(t), ["sub"])


class SameBucketTest(SyncCase):
    def test_a_bucket_by_another_name_of_its_server_is_not_emptied(self):
        """SRC lies below DST, and only their servers' names differ: --delete would remove what it copies."""
        client = S3Client(self.server.endpoint, self.server.access_key, self.server.secret_key)
        for name in ("p/keep", "p/sub/a", "p/sub/b"):
            client.put(self.bucket, name, b"x")
        other = self.server.endpoint.replace("127.0.0.1", "localhost")
        for source, target in (("p/sub", "p"), ("p", "p/sub"), ("p", "p")):
            for more in ((), ("--delete",)):
                with self.subTest(source=source, target=target, more=more):
                    result = self.larder(*more, "--src-option", f"endpoint={other}", self.s3(source), self.s3(target))
                    self.assert_one_line(result, "lies within")
        self.assertEqual(sorted(self.sdk("read", self.bucket, "")), ["p/keep", "p/sub/a", "p/sub/b"], "nothing is gone, and no probe is left")


class UnreadableTest(SyncCase):
    @unittest.skipIf(os.geteuid() != 0, "needs root, to become somebody else")
    def test_a_folder_that_may_not_be_read(self):
        os.chmod(self.work, 0o755)
        write(self.path("t", "train/1"), b"1")
        write(self.path("t", "lost+found/x"), b"x")
        os.chmod(self.path("t", "lost+found"), 0o700)
        write(self.path("copy", "lost+found/old"), b"old")
        subprocess.run(["chown", "-R", "65534", self.path("copy")], check=True)
        who = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]

        def sync(*words):
            return subprocess.run([*who, LARDER, "sync", *words, self.path("t"), self.path("copy")], env=self.env, capture_output=True, text=True,
                                  timeout=60, check=False)

        refused = sync()
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("lost+found", refused.stderr)
        self.assertIn("exclude", refused.stderr)
        done = sync("--exclude", "lost+found/")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stderr)
        self.assertEqual(read(self.path("copy", "train/1")), b"1")
        kept = sync("--delete", "--src-option", "unreadable=skip")
        self.assertNotEqual(kept.returncode, 0)
        self.assertIn("nothing was removed", kept.stderr)
        self.assertEqual(read(self.path("copy", "lost+found/old")), b"old")


class ReportTest(SyncCase):
    def test_a_terminal_gets_a_bar_and_a_file_gets_lines(self):
        for i in range(40):
            write(self.path("t", f"f{i}"), content(i, 100_000))
        words = [LARDER, "sync", self.path("t"), self.s3("p"), "--bwlimit", "3M"]
        main, side = pty.openpty()
        process = subprocess.Popen(words, env={**self.env, "TERM": "xterm"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=side, text=True)
        os.close(side)
        drawn = b""
        try:
            while piece := os.read(main, 65536):
                drawn += piece
        except OSError:  # EIO: the other side is closed
            pass
        os.close(main)
        summary = process.communicate(timeout=60)[0]
        self.assertEqual(process.returncode, 0, drawn)
        self.assertIn(b"\r", drawn)
        self.assertRegex(drawn.decode(), r"sync  \[#+\.*\] .*% .*/40 .*MiB/s")
        self.assertRegex(drawn.decode(), r"left")
        self.assertRegex(summary, r"^40 files copied \(3\.8 MiB\), 0 unchanged, 0 failed; 0:0\d, .*/s\n$")
        plain = self.larder(self.path("t"), self.s3("q"))
        self.assertEqual((plain.returncode, plain.stderr), (0, ""), "a short one has no lines of progress")
        self.assertEqual(self.larder("-q", self.path("t"), self.s3("r")).stdout, "")

    def test_a_full_disk_ends_it_at_once(self):
        small = self.folder("small")
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, text=True, check=False)
        if mounted.returncode != 0:
            self.skipTest(f"no tmpfs of one's own here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", small], check=True)
        for i in range(50):
            write(self.path("t", f"f{i:02}"), content(i, 100_000))
        done = self.sync("--jobs", "2", self.path("t"), small, failed=1)
        self.assertEqual(done["failures"][0]["errno"], 28)
        self.assertIn("nothing further was tried", done["failures"][0]["error"])
        self.nothing_unfinished(small)
        for name in os.listdir(small):
            self.assertEqual(read(os.path.join(small, name)), read(self.path("t", name)))


if __name__ == "__main__":
    unittest.main()
