"""larder sync within one service: objects above what one request copies (5 GiB; here 16 MiB, by the option max_copy) are copied by the
store in parts. No byte passes through this machine, unless the store cannot copy or does not do what it was asked."""
import errno
import json
import os
import signal
import subprocess
import unittest

from integration.bos_test import BosServer
from integration.compatible_test import KEYS, CompatibleServer
from harness import LARDER, VENV, MiB, Proxy, content, tree_digests, wait_for
from integration.sync_test import SyncCase, write

from s3_put import Client as S3Client

PART = 8 * MiB
PARTS = 4
NAME = "d/lar ge+%测.jpg"
BY_PARTS = ["--option", "max_copy=16MiB"]


class Ends:
    """A service behind a proxy: where a sync begins and ends, and how the official SDK sees it."""

    def __init__(self, test, server, env, source, target, read):
        self.proxy = test.enterContext(Proxy(server))
        self.server, self.env, self.source, self.target, self.read = server, env, source, target, read
        self.through = [*BY_PARTS, "--endpoint", self.proxy.endpoint]

    def lines(self, method, *words):
        """Requests that succeeded."""
        return [r["line"] for r in self.proxy.log()["requests"]
                if r["line"].startswith(method + " ") and all(w in r["line"] for w in words) and r["status"] in (200, 206)]

    def parts(self):
        return self.lines("PUT", "partNumber")

    def bytes_read(self):
        return [line for line in self.lines("GET") if "?" not in line]


class WithinCase(CompatibleServer, SyncCase):
    def large(self, seed="large"):
        data = content(seed, PARTS * PART - 3 * MiB)
        write(self.path("t", NAME), data, 1_600_000_000)
        return data

    def s3_ends(self):
        return Ends(self, self.server.endpoint, self.env, self.s3("p"), self.s3("q"),
                    lambda: {k: v[1] for k, v in self.sdk("read", self.bucket, "q/").items()})

    def bos_ends(self):
        self.bos = self.enterContext(BosServer("--page", "4", "--session-token", "tok/en+1=="))
        self.bos.control("options", max_copy=16 * MiB)
        write(self.path("one", "x"), b"x")
        self.bos.sdk("put", "bkt", "elsewhere/", self.path("one"))
        return Ends(self, self.bos.endpoint, {**self.env, **self.bos.environment()}, "bos://bkt/p", "bos://bkt/q",
                    lambda: {k: v[2] for k, v in json.loads(self.bos.sdk("read", "bkt", "q/")).items()})

    def written(self, ends):
        """Uploads the tree and forgets what the proxy saw."""
        self.sync(self.path("t"), ends.source, *ends.through, env=ends.env)
        ends.proxy.clear()
        return ends

    def copy(self, ends, *more, **how):
        return self.sync(ends.source, ends.target, *ends.through, *more, env=ends.env, **how)

    def start(self, ends, *more):
        return subprocess.Popen([LARDER, "sync", "--json", "-q", ends.source, ends.target, *ends.through, *more], env={**self.env, **ends.env},
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def uploads(self, ends):
        if ends.source.startswith("bos"):
            return self.bos.control("state")["uploads"]
        return len(self.sdk("uploads", self.bucket))


class WithinTest(WithinCase):
    def test_no_byte_of_a_large_object_passes_through_here(self):
        self.large()
        write(self.path("t", "small"), b"copied by one request")
        for ends in (self.s3_ends(), self.bos_ends()):
            with self.subTest(ends.source):
                self.written(ends)
                self.assertEqual(self.counts(self.copy(ends)), (2, 0, 0))
                self.assertEqual((len(ends.parts()), ends.bytes_read()), (PARTS, []))
                self.assertEqual(ends.read(), tree_digests(self.path("t")))
                self.assertEqual(self.counts(self.copy(ends)), (0, 2, 0))
                self.assertEqual(self.uploads(ends), 0)
                self.assertEqual(os.listdir(self.path("state", "larder", "sync")), [])
        state = self.bos.control("state")
        self.assertEqual(state["verified"], len(state["requests"]), "a request was not signed")

    def test_type_and_time_are_those_of_a_copy_by_one_request(self):
        self.large()
        s3, bos = self.written(self.s3_ends()), self.written(self.bos_ends())
        self.copy(s3)
        self.sync(s3.source, self.s3("whole"), "--endpoint", s3.server)
        by_parts, whole = (self.sdk("read", self.bucket, p)[NAME] for p in ("q/", "whole/"))
        self.assertEqual(by_parts, whole)
        self.assertEqual((whole[2], list(whole[3])), ("image/jpeg", ["mtime"]))
        self.copy(bos)
        self.bos.control("options", max_copy=1 << 30)
        self.sync(bos.source, "bos://bkt/whole", "--endpoint", bos.server, env=bos.env)
        by_parts, whole = (json.loads(self.bos.sdk("meta", "bkt", p + NAME)) for p in ("q/", "whole/"))
        self.assertEqual(by_parts, whole)
        self.assertEqual((whole[0], list(whole[1])), ("image/jpeg", ["mtime"]))

    def test_the_official_sdk_copies_by_parts_to_the_same(self):
        """bos_server.py accepts the UploadPartCopy that Baidu's own client sends."""
        data = self.large()
        bos = self.written(self.bos_ends())
        self.copy(bos)
        self.bos.sdk("copy", "bkt", "p/" + NAME, "q/by-sdk", str(PART))
        digests = bos.read()
        self.assertEqual(digests["by-sdk"], digests[NAME], len(data))

    def test_parts_that_fail_for_now_are_copied_again(self):
        self.large()
        error = "<Error><Code>{}</Code><Message>later</Message></Error>"
        for ends in (self.s3_ends(), self.bos_ends()):
            with self.subTest(ends.source):
                self.written(ends)
                rules = [{"match": "partNumber=1&", "fault": "status", "status": 500, "code": "InternalError", "count": 2},
                         {"match": "partNumber=2&", "fault": "status", "status": 503, "count": 2},
                         {"match": "partNumber=3&", "fault": "after", "count": 1}]
                if ends.source.startswith("s3"):
                    rules.append({"match": "partNumber=4&", "fault": "status", "status": 200, "body": error.format("SlowDown"), "count": 2})
                ends.proxy.rules(*rules)
                self.assertEqual(self.copy(ends)["copied"], 1)
                self.assertEqual(sum(ends.proxy.log()["faults"].values()), 5 + 2 * (len(rules) - 3), "the proxy did nothing")
                self.assertEqual(ends.bytes_read(), [])
                self.assertEqual(ends.read(), tree_digests(self.path("t")))

    def test_where_the_store_does_not_copy_parts_they_go_through_here(self):
        """This includes the rest of an upload whose first parts the store copied. Small objects are still copied by one request."""
        self.large()
        for i in range(5):
            write(self.path("t", f"z{i}"), b"small")
        no = "<Error><Code>NotImplemented</Code><Message>no</Message></Error>"
        for ends in (self.s3_ends(), self.bos_ends()):
            for skip, reply in ((0, {"status": 501, "code": "NotImplemented"}), (2, {"status": 400, "code": "InvalidRequest"}),
                                (0, {"status": 200, "body": no}), (0, {"status": 200, "body": ""})):
                if ends.source.startswith("bos") and "body" in reply:
                    continue  # bodies of S3
                with self.subTest(ends.source, skip=skip, reply=reply):
                    self.sync("--delete-all", "--delete", self.folder("empty"), ends.target, *ends.through, env=ends.env)
                    self.written(ends)
                    ends.proxy.rules({"match": "^PUT .*partNumber", "fault": "status", "skip": skip, "count": 1, **reply})
                    self.assertEqual(self.copy(ends, "--jobs", "1")["copied"], 6)
                    self.assertEqual(len(ends.bytes_read()), PARTS - skip)
                    self.assertEqual(ends.read(), tree_digests(self.path("t")))
                    self.assertEqual(self.uploads(ends), 0)

    def test_a_gateway_that_drops_the_range_is_noticed_before_the_object_is_seen(self):
        self.large()
        bos = self.written(self.bos_ends())
        self.bos.control("options", copy_range=False, max_copy=1 << 30)
        self.assertEqual(self.copy(bos)["copied"], 1)
        self.assertEqual(bos.read(), tree_digests(self.path("t")))
        self.assertEqual(self.uploads(bos), 0)

    # ---- the source is replaced while its parts are copied: never a mix ----

    def replaced_in_the_middle(self, ends, replace):
        ends.proxy.rules({"match": "^PUT .*partNumber", "skip": 2, "count": 1, "fault": "delay", "delay": 1.5})
        process = self.start(ends, "--jobs", "1")
        wait_for(lambda: len(ends.parts()) >= 2, 60, "two parts")
        replace()
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("changed since it was listed", json.loads(out)["failures"][0]["error"])

    def test_a_source_that_is_replaced(self):
        self.large()
        for ends in (self.s3_ends(), self.bos_ends()):
            with self.subTest(ends.source):
                self.large()
                self.written(ends)

                def replace():
                    self.large("another")
                    self.sync("--checksum", self.path("t"), ends.source, "--endpoint", ends.server, env=ends.env)
                self.replaced_in_the_middle(ends, replace)
                self.assertEqual((ends.read(), self.uploads(ends)), ({}, 0))
                self.assertEqual(self.copy(ends)["copied"], 1, "the next run copies what is there now")
                self.assertEqual(ends.read(), tree_digests(self.path("t")))

    def test_a_source_that_is_removed(self):
        self.large()
        ends = self.written(self.s3_ends())
        ends.proxy.rules({"match": "^PUT .*partNumber", "skip": 2, "count": 1, "fault": "delay", "delay": 1.5})
        process = self.start(ends, "--jobs", "1")
        wait_for(lambda: len(ends.parts()) >= 2, 60, "two parts")
        self.sync("--delete-all", "--delete", self.folder("empty"), ends.source)
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, json.loads(out)["failures"][0]["errno"]), (1, errno.ENOENT), err)
        self.assertEqual((ends.read(), self.uploads(ends)), ({}, 0))

    def test_an_upload_goes_on_with_the_parts_that_the_store_copied(self):
        for make in (self.s3_ends, self.bos_ends):
            ends = make()
            with self.subTest(ends.source):
                self.large()
                self.written(ends)
                ends.proxy.rules({"match": "^PUT .*partNumber", "skip": 2, "fault": "delay", "delay": 5})
                process = self.start(ends, "--jobs", "1")
                wait_for(lambda: len(ends.parts()) >= 2, 60, "two parts")
                process.send_signal(signal.SIGKILL)
                process.communicate()
                self.assertEqual((ends.read(), self.uploads(ends)), ({}, 1), "a part of an object can be seen")
                ends.proxy.rules()
                ends.proxy.clear()
                self.assertEqual(self.copy(ends)["resumed_bytes"], 2 * PART)
                self.assertEqual((len(ends.parts()), ends.bytes_read()), (PARTS - 2, []))
                self.assertEqual((ends.read(), self.uploads(ends)), (tree_digests(self.path("t")), 0))

    # ---- stores that ignore copy-source headers ----

    def ends_of(self, endpoint):
        self.other = S3Client(endpoint, KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"])
        self.other.make_bucket("bucket")
        env = {**KEYS, "AWS_SESSION_TOKEN": ""}
        return Ends(self, endpoint, env, "s3://bucket/p", "s3://bucket/q", lambda: self.through_a_folder(endpoint, env))

    def through_a_folder(self, endpoint, env):
        self.sync("--delete", "--delete-all", "--checksum", "s3://bucket/q", self.folder("back"), "--endpoint", endpoint, env=env)
        return tree_digests(self.path("back"))

    def test_moto_copies_parts_of_any_version_and_no_mix_comes_of_it(self):
        """It ignores copy-source-if-match."""
        ends = self.ends_of(self.serve(os.path.join(VENV, "bin", "moto_server"), "-H", "127.0.0.1", "-p", "PORT"))
        self.large()
        self.written(ends)
        self.assertEqual(self.copy(ends)["copied"], 1)
        self.assertEqual((ends.bytes_read(), ends.read()), ([], tree_digests(self.path("t"))))
        self.sync("--delete", "--delete-all", self.folder("empty"), ends.target, *ends.through, env=ends.env)
        ends.proxy.clear()
        self.replaced_in_the_middle(ends, lambda: self.other.put("bucket", "p/" + NAME, self.large("another")))
        self.assertEqual(ends.read(), {})

    def test_rclone_takes_a_copied_part_for_an_empty_one(self):
        folder = self.folder("served")
        ends = self.ends_of(self.serve(os.path.join(VENV, "bin", "rclone"), "serve", "s3", "--addr", "127.0.0.1:PORT", "--auth-key",
                                       "larder,larder-secret", "--config", "/dev/null", folder))
        self.large()
        self.written(ends)
        self.assertEqual(self.copy(ends)["copied"], 1)
        self.assertEqual(ends.read(), tree_digests(self.path("t")))


if __name__ == "__main__":
    unittest.main()
