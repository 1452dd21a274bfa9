"""larder sync when things break: a store that refuses, resets and lies, objects that change, kill -9 in the middle.

Faults are made by tests/tools/fault_proxy.py in front of a real server.
"""
import base64
import json
import os
import signal
import subprocess
import unittest
import zlib

from harness import LARDER, MiB, Proxy, content, tree_digests, wait_for
from integration.sync_test import S3Client, SyncCase, read, write

PART = 8 * MiB
MIXED = [{"match": "^PUT", "fault": "status", "status": 503, "probability": 0.05},
         {"match": "^PUT", "fault": "status", "status": 500, "code": "InternalError", "probability": 0.05},
         {"match": "^PUT", "fault": "cut_upload", "at": 1000, "probability": 0.05},
         {"match": "^PUT", "fault": "flip_upload", "at": 700, "probability": 0.05},
         {"match": "^PUT", "fault": "after", "probability": 0.05},
         {"match": "^(GET|POST)", "fault": "status", "status": 503, "probability": 0.05},
         {"match": "^GET", "fault": "truncate", "at": 500, "probability": 0.05},
         {"match": "^GET /[^?]*$", "fault": "reset", "at": 800, "probability": 0.05},
         {"match": "^GET /[^?]*$", "fault": "flip", "at": 900, "probability": 0.05}]


class FaultCase(SyncCase):
    def setUp(self):
        super().setUp()
        self.proxy = self.enterContext(Proxy(self.server.endpoint))
        self.through = ["--endpoint", self.proxy.endpoint]

    def parts_put(self):
        return [r["line"] for r in self.proxy.log()["requests"] if r["line"].startswith("PUT") and "partNumber" in r["line"] and r["status"] == 200]

    def start(self, *args):
        return subprocess.Popen([LARDER, "sync", "--json", "-q", *args], env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def kill(self, process):
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def large(self, parts=5, seed="large"):
        data = content(seed, parts * PART - 3 * MiB)
        write(self.path("t", "large.bin"), data, 1_600_000_000)
        return data


class StoreFaults(FaultCase):
    def test_a_storm_of_faults_costs_time_and_nothing_else(self):
        tree = self.path("t")
        for i in range(250):
            write(os.path.join(tree, f"d{i % 7}/f{i:03}"), content(i, 2000 + 100 * i), 1_600_000_000)
        self.large(3)
        self.proxy.rules(*MIXED)
        self.assertEqual(self.sync(tree, self.s3("p"), *self.through)["copied"], 251)
        faults = self.proxy.log()["faults"]
        for fault in ("status", "cut_upload", "flip_upload", "after"):
            self.assertGreater(faults.get(fault, 0), 0, "the proxy did nothing")
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(tree))
        self.assertEqual(self.sync(self.s3("p"), self.path("back"), *self.through)["copied"], 251)
        faults = self.proxy.log()["faults"]
        for fault in ("truncate", "reset", "flip"):
            self.assertGreater(faults.get(fault, 0), 0, "the proxy did nothing")
        self.assertEqual(tree_digests(self.path("back")), tree_digests(tree))
        self.nothing_unfinished(self.path("back"))
        self.assertEqual(self.sdk("uploads", self.bucket), [])

    def test_a_flipped_bit_in_a_range(self):
        """A range has no checksum, the whole object has: an ETag of parts (boto3's, of 5 MiB) or an MD5."""
        data = self.large(3)
        self.sync(self.path("t"), self.s3("parts"))
        self.sdk("put", self.bucket, "sdk/", self.path("t"))
        S3Client(self.server.endpoint, self.server.access_key, self.server.secret_key).put(self.bucket, "md5/large.bin", data)
        flip = {"match": f"^GET /{self.bucket}/[^?]*large", "fault": "flip", "at": 900, "count": 1}
        for source in ("parts", "sdk", "md5"):
            for target in (self.path("back", source), self.s3("again-" + source)):
                if (source, target) == ("md5", self.s3("again-md5")):
                    continue  # docs/sync.md: nothing tells
                with self.subTest(source=source, target=target):
                    self.proxy.clear()
                    self.proxy.rules(flip)
                    apart = ["--src-option", f"endpoint={self.proxy.endpoint}", "--dst-option", f"endpoint={self.server.endpoint}"]
                    self.assertEqual(self.sync(self.s3(source), target, *(apart if "s3://" in target else self.through))["copied"], 1)
                    self.assertEqual(self.proxy.log()["faults"].get("flip"), 1, "the proxy did nothing")
            self.assertEqual(tree_digests(self.path("back", source)), tree_digests(self.path("t")))
        self.assertEqual({v[1] for k, v in self.sdk("read", self.bucket, "again-").items()}, set(tree_digests(self.path("t")).values()))
        self.proxy.rules({**flip, "count": 1000})
        failed = self.sync(self.s3("md5"), self.path("never"), *self.through, failed=1)
        self.assertIn("checksum", failed["failures"][0]["error"])
        self.nothing_unfinished(self.path("never"))

    def test_a_flipped_bit_in_a_range_of_an_object_that_has_a_crc(self):
        """Amazon's CRC: a HEAD returns it, and the CRCs of the parts make it together, whatever the ETag is and wherever the parts go."""
        data = self.large(3)
        S3Client(self.server.endpoint, self.server.access_key, self.server.secret_key).put(self.bucket, "crc/large.bin", data)

        def rules(crc, flips):
            head = {"match": f"^HEAD /{self.bucket}/crc/", "fault": "headers",
                    "headers": {"x-amz-checksum-crc32": base64.b64encode(crc.to_bytes(4, "big")).decode(), "x-amz-checksum-type": "FULL_OBJECT"}}
            encrypted = {"x-amz-server-side-encryption": "aws:kms"}  # the ETag is no MD5, then
            get = {"match": f"^GET /{self.bucket}/[^?]*large", "headers": encrypted}
            self.proxy.clear()
            self.proxy.rules(head, {**get, "fault": "flip", "at": 900, "count": flips}, {**get, "fault": "headers"})
        apart = ["--src-option", f"endpoint={self.proxy.endpoint}", "--dst-option", f"endpoint={self.server.endpoint}"]
        for target in (self.path("back"), self.s3("again-crc")):
            with self.subTest(target=target):
                rules(zlib.crc32(data), 1)
                self.assertEqual(self.sync(self.s3("crc"), target, *(apart if "s3://" in target else self.through))["copied"], 1)
                self.assertEqual(self.proxy.log()["faults"].get("flip"), 1, "the proxy did nothing")
        self.assertEqual(tree_digests(self.path("back")), tree_digests(self.path("t")))
        self.assertEqual([v[1] for v in self.sdk("read", self.bucket, "again-crc/").values()], list(tree_digests(self.path("t")).values()))
        rules(zlib.crc32(data) ^ 1, 0)
        failed = self.sync(self.s3("crc"), self.path("never"), *self.through, failed=1)
        self.assertIn("checksum", failed["failures"][0]["error"])
        self.nothing_unfinished(self.path("never"))

    def test_what_cannot_be_copied_is_named_and_the_rest_is_copied(self):
        for i in range(10):
            write(self.path("t", f"f{i}"), content(i, 1000), 1_600_000_000)
        self.proxy.rules({"match": "^PUT .*/f3$", "fault": "status", "status": 403, "code": "AccessDenied"},
                         {"match": "^PUT .*/f7$", "fault": "status", "status": 400, "code": "InvalidRequest"})
        done = self.sync(self.path("t"), self.s3("p"), *self.through, failed=2)
        self.assertEqual(done["copied"], 8)
        for failure in done["failures"]:
            self.assertIn(f"s3://{self.bucket}/p/{failure['key']}: HTTP 40", failure["error"])
        self.assertEqual(sorted(f["key"] for f in done["failures"]), ["f3", "f7"])
        self.proxy.rules()
        self.assertEqual(self.sync(self.path("t"), self.s3("p"), *self.through)["copied"], 2, "the next run does the rest")

    def test_a_completion_that_fails_with_200_is_no_success(self):
        data = self.large(3)
        error = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message></Error>"
        rule = {"match": "^POST .*uploadId", "fault": "status", "status": 200}
        self.proxy.rules({**rule, "body": error.format("InternalError"), "count": 2})
        self.assertEqual(self.sync(self.path("t"), self.s3("p"), *self.through)["copied"], 1, "it is tried again")
        self.proxy.rules({**rule, "body": error.format("AccessDenied")})
        failed = self.sync(self.path("t"), self.s3("q"), *self.through, failed=1)
        self.assertIn("AccessDenied", failed["failures"][0]["error"])
        self.assertEqual(list(self.sdk("read", self.bucket, "q/")), [])
        self.proxy.rules()
        again = self.sync(self.path("t"), self.s3("q"), *self.through)
        self.assertEqual(again["resumed_bytes"], len(data), "all parts were there")
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "q/").items()}, tree_digests(self.path("t")))

    def test_a_completion_whose_reply_is_lost_is_found_done(self):
        self.large(3)
        self.proxy.rules({"match": "^POST .*uploadId", "fault": "after", "count": 1})
        self.assertEqual(self.sync(self.path("t"), self.s3("p"), *self.through)["copied"], 1)
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(self.path("t")))

    def test_a_batch_of_removals_that_is_refused_is_done_one_by_one(self):
        for i in range(5):
            write(self.path("t", f"f{i}"), b"x")
        write(self.path("one", "f0"), b"x")
        self.sync(self.path("t"), self.s3("p"))
        self.proxy.rules({"match": r"^POST .*\?delete", "fault": "status", "status": 501, "code": "NotImplemented"},
                         {"match": r"^DELETE .*/f2$", "fault": "status", "status": 403, "code": "AccessDenied"})
        failed = self.sync("--delete", "--size-only", self.path("one"), self.s3("p"), *self.through, failed=1)
        self.assertEqual((failed["removed"], failed["failures"][0]["key"]), (3, "f2"))
        self.assertEqual(sorted(self.sdk("read", self.bucket, "p/")), ["f0", "f2"])

    def test_removals_that_a_batch_could_not_do_are_failures(self):
        write(self.path("one", "f0"), b"x")
        for i in range(3):
            write(self.path("t", f"f{i}"), b"x")
        self.sync(self.path("t"), self.s3("p"))
        reply = "<DeleteResult><Error><Key>p/f1</Key><Code>AccessDenied</Code><Message>locked</Message></Error></DeleteResult>"
        self.proxy.rules({"match": r"^POST .*\?delete", "fault": "status", "status": 200, "body": reply})
        failed = self.sync("--delete", "--size-only", self.path("one"), self.s3("p"), *self.through, failed=1)
        self.assertEqual((failed["removed"], failed["failures"][0]["key"]), (1, "f1"))
        self.assertIn("locked", failed["failures"][0]["error"])


class ChangeTest(FaultCase):
    """An object that changes while it is copied: an error for it, never a mix."""

    def test_a_file_that_changes_during_its_upload(self):
        self.large(6)
        process = self.start(self.path("t"), self.s3("p"), *self.through, "--bwlimit", "16M", "--jobs", "1")
        wait_for(lambda: len(self.parts_put()) >= 2, 60, "two parts")
        write(self.path("t", "large.bin"), content("other", 6 * PART - 3 * MiB))
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("changed since it was listed", json.loads(out)["failures"][0]["error"])
        self.assertEqual(list(self.sdk("read", self.bucket, "p/")), [])
        self.assertEqual(self.sdk("uploads", self.bucket), [], "parts of a version that is gone were left")

    def test_an_object_that_changes_during_its_download(self):
        self.large(6)
        write(self.path("back", "large.bin"), b"what was there before")
        self.sync(self.path("t"), self.s3("p"))
        self.proxy.rules({"match": "^GET .*large", "skip": 2, "fault": "hold"})
        process = self.start(self.s3("p"), self.path("back"), *self.through, "--jobs", "1")
        self.proxy.wait_held()
        write(self.path("u", "large.bin"), content("other", 6 * PART - 3 * MiB))
        self.sync(self.path("u"), self.s3("p"))
        self.proxy.rules()
        self.proxy.release()
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1, err)
        self.assertIn("changed since it was listed", json.loads(out)["failures"][0]["error"])
        self.assertEqual(read(self.path("back", "large.bin")), b"what was there before")
        self.nothing_unfinished(self.path("back"))
        self.sync(self.s3("p"), self.path("back"))
        self.assertEqual(tree_digests(self.path("back")), tree_digests(self.path("u")))


class KillTest(FaultCase):
    """kill -9 in the middle: no half object appears, and the next run continues."""

    def test_an_upload_goes_on_with_the_parts_that_are_there(self):
        self.large(6)
        process = self.start(self.path("t"), self.s3("p"), *self.through, "--bwlimit", "16M", "--jobs", "2")
        wait_for(lambda: len(self.parts_put()) >= 2, 60, "two parts")
        self.kill(process)
        self.assertEqual(list(self.sdk("read", self.bucket, "p/")), [], "a part of an object can be seen")
        self.assertEqual(len(self.sdk("uploads", self.bucket)), 1)
        there = self.sdk("uploads", self.bucket)[0][1]
        self.proxy.clear()
        done = self.sync(self.path("t"), self.s3("p"), *self.through)
        self.assertGreaterEqual(done["resumed_bytes"], 2 * PART)
        self.assertEqual(len(self.parts_put()), 6 - there, "parts were sent again")
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(self.path("t")))
        self.assertEqual(self.sdk("uploads", self.bucket), [])
        self.assertEqual(os.listdir(self.path("state", "larder", "sync")), [])

    def test_parts_of_another_version_are_not_taken(self):
        self.large(6)
        process = self.start(self.path("t"), self.s3("p"), *self.through, "--bwlimit", "16M", "--jobs", "2")
        wait_for(lambda: len(self.parts_put()) >= 2, 60, "two parts")
        self.kill(process)
        self.large(6, "another")
        self.assertEqual(self.sync(self.path("t"), self.s3("p"))["resumed_bytes"], 0)
        self.assertEqual({k: v[1] for k, v in self.sdk("read", self.bucket, "p/").items()}, tree_digests(self.path("t")))

    def test_an_upload_that_the_store_forgot_begins_anew(self):
        self.large(4)
        process = self.start(self.path("t"), self.s3("p"), *self.through, "--bwlimit", "16M", "--jobs", "1")
        wait_for(lambda: len(self.parts_put()) >= 1, 60, "a part")
        self.kill(process)
        self.proxy.rules({"match": "^GET .*uploadId", "fault": "status", "status": 404, "code": "NoSuchUpload"})
        done = self.sync(self.path("t"), self.s3("p"), *self.through)
        self.assertEqual((done["copied"], done["resumed_bytes"]), (1, 0))

    def test_a_download_goes_on_with_the_parts_that_are_there(self):
        self.large(6)
        self.sync(self.path("t"), self.s3("p"))
        back = self.folder("back")
        process = self.start(self.s3("p"), back, *self.through, "--bwlimit", "16M", "--jobs", "2")
        gets = lambda: [r for r in self.proxy.log()["requests"] if "large" in r["line"] and r["status"] == 206]
        wait_for(lambda: len(gets()) >= 4, 60, "parts")
        self.kill(process)
        unfinished = [f for f in os.listdir(back) if f.startswith(".larder-sync-")]
        self.assertEqual((len(unfinished), "large.bin" in os.listdir(back)), (1, False))
        self.proxy.clear()
        done = self.sync(self.s3("p"), back, *self.through)
        self.assertGreaterEqual(done["resumed_bytes"], PART)
        self.assertEqual(len(gets()), 6 - done["resumed_bytes"] // PART, "parts were fetched again")
        self.assertEqual(tree_digests(back), tree_digests(self.path("t")))
        self.nothing_unfinished(back)

    def test_many_small_files_go_on_and_leave_no_leftovers(self):
        for i in range(600):
            write(self.path("t", f"d{i % 9}/f{i:03}"), content(i, 20_000), 1_600_000_000)
        self.sync(self.path("t"), self.s3("p"))
        back = self.path("back")
        process = self.start(self.s3("p"), back, *self.through, "--bwlimit", "6M")
        wait_for(lambda: sum(len(f) for _, _, f in os.walk(back)) >= 100, 60, "some files")
        self.kill(process)
        for folder, _, names in os.walk(back):
            for name in (n for n in names if not n.startswith(".larder-sync-")):
                path = os.path.join(folder, name)
                self.assertEqual(read(path), read(os.path.join(self.path("t"), os.path.relpath(path, back))), "half a file has its name")
        write(os.path.join(back, ".larder-sync-0123456789abcdef.tmp"), b"of a run that was killed")
        done = self.sync(self.s3("p"), back, *self.through)
        self.assertGreaterEqual(done["unchanged"], 99)
        self.assertEqual(done["copied"] + done["unchanged"], 600)
        self.assertEqual(tree_digests(back), tree_digests(self.path("t")))


if __name__ == "__main__":
    unittest.main()
