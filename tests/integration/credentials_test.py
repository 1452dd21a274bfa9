"""Keys that expire while programs read: a store that verifies every signature (moto with IAM) refuses them, larderd renews
them, and the programs read on.

What the user would lose: a training run of three days dies with EACCES when its keys rotate, or hangs when they are wrong."""
import json
import os
import re
import subprocess
import sys
import threading
import time
import unittest
import urllib.request

from harness import PYTHON, ROOT, VENV, Daemon, LarderTest, Proxy, clean_environment, content, free_port, run_program, scratch, wait_for
from integration.compatible_test import answers

FILES = 60
READ_ONE = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
READ_MANY = """
import hashlib, sys
for line in sys.stdin:
    path = line.strip()
    print(hashlib.sha256(open(path, "rb").read()).hexdigest(), flush=True)
"""
EVERYTHING = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
ROLES_ONLY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}
ANYBODY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


class Calls:
    """The AWS API with somebody's keys (tests/tools/moto_calls.py)."""

    def __init__(self, endpoint, access_key, secret_key):
        self.process = subprocess.Popen([os.path.join(VENV, "bin", "python"), os.path.join(ROOT, "tests", "tools", "moto_calls.py"), endpoint, access_key, secret_key],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean_environment())

    def __call__(self, service, method, **arguments):
        self.process.stdin.write(json.dumps([service, method, arguments]) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)
        self.process.stdout.close()


class EndingKeys(LarderTest):
    @classmethod
    def setUpClass(cls):
        import s3_put
        port = free_port()
        server = subprocess.Popen([os.path.join(VENV, "bin", "moto_server"), "-H", "127.0.0.1", "-p", str(port)], env=clean_environment(), stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(server.wait, 10)
        cls.addClassCleanup(server.terminate)
        wait_for(lambda: answers(port), 60, "moto_server")
        cls.endpoint = f"http://127.0.0.1:{port}"
        put = s3_put.Client(cls.endpoint, "any", "body")
        put.make_bucket("bucket")
        for i in range(FILES):
            put.put("bucket", f"p/{i:03}", content(i, 5000 + i))
        put.close()
        root = Calls(cls.endpoint, "any", "body")
        cls.root_policy_keys = cls.user(root, "root", {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
        first = cls.user(root, "reader", EVERYTHING)
        root("iam", "delete_access_key", UserName="reader", AccessKeyId=first["AccessKeyId"])  # at most two are allowed
        cls.assumer = cls.user(root, "assumer", ROLES_ONLY)
        cls.role = root("iam", "create_role", RoleName="data", AssumeRolePolicyDocument=json.dumps(ANYBODY))["Role"]["Arn"]
        root("iam", "put_role_policy", RoleName="data", PolicyName="p", PolicyDocument=json.dumps(EVERYTHING))
        root.close()
        # From here on moto verifies callers, signatures and rights.
        urllib.request.urlopen(urllib.request.Request(cls.endpoint + "/moto-api/reset-auth", data=b"0", method="POST", headers={"Content-Type": "text/plain"})).read()
        cls.root = Calls(cls.endpoint, cls.root_policy_keys["AccessKeyId"], cls.root_policy_keys["SecretAccessKey"])
        cls.addClassCleanup(cls.root.close)

    @staticmethod
    def user(root, name, policy):
        root("iam", "create_user", UserName=name)
        root("iam", "put_user_policy", UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        return root("iam", "create_access_key", UserName=name)["AccessKey"]

    def new_key(self):
        return self.root("iam", "create_access_key", UserName="reader")["AccessKey"]

    def delete_key(self, key):
        self.root("iam", "delete_access_key", UserName="reader", AccessKeyId=key["AccessKeyId"])

    def role_keys(self):
        return self.root("sts", "assume_role", RoleArn=self.role, RoleSessionName="test")["Credentials"]

    def setUp(self):
        self.home = self.enterContext(scratch())
        self.proxy = self.enterContext(Proxy(self.endpoint))

    def write(self, name, text):
        path = os.path.join(self.home, name)
        with open(path + ".new", "w") as f:
            f.write(text)
        os.replace(path + ".new", path)
        return path

    def write_profile(self, key):
        return self.write("credentials", f"[default]\naws_access_key_id = {key['AccessKeyId']}\naws_secret_access_key = {key['SecretAccessKey']}\n")

    def write_process(self, key, seconds=0.0):
        """A credential_process that prints a file."""
        answer = {"Version": 1, "AccessKeyId": key["AccessKeyId"], "SecretAccessKey": key["SecretAccessKey"], "SessionToken": key["SessionToken"],
                  "Expiration": "2100-01-01T00:00:00Z"}
        path = self.write("answer", json.dumps(answer))
        self.write("config", f"[default]\ncredential_process = sleep {seconds}; cat {path}\n")

    def daemon(self, **env):
        env = {"AWS_SHARED_CREDENTIALS_FILE": os.path.join(self.home, "credentials"), "AWS_CONFIG_FILE": os.path.join(self.home, "config"),
               "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL_STS": self.endpoint, **env}
        d = self.enterContext(Daemon(env=env))
        d.mount("s3://bucket/p", "/data/x", endpoint=self.proxy.endpoint)
        return d

    def reader(self, daemon):
        p = subprocess.Popen([PYTHON, "-c", READ_MANY], env=daemon.preload_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(p.wait, 10)
        self.addCleanup(p.kill)
        self.addCleanup(lambda: [s.close() for s in (p.stdin, p.stdout, p.stderr)])
        return p

    def read_on(self, process, numbers):
        import hashlib
        for i in numbers:
            process.stdin.write(f"/data/x/{i:03}\n")
            process.stdin.flush()
            got = process.stdout.readline().strip()
            if not got:
                process.wait(10)
                self.fail(process.stderr.read())
            self.assertEqual(got, hashlib.sha256(content(i, 5000 + i)).hexdigest())

    def read_on_together(self, processes):
        """All read their shares at once; the first error of any is raised."""
        errors = []

        def one(n, p):
            try:
                self.read_on(p, range(10 + n, FILES, len(processes)))
            except BaseException as e:  # noqa: BLE001: told by the main thread
                errors.append(e)
        threads = [threading.Thread(target=one, args=pair) for pair in enumerate(processes)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        if errors:
            raise errors[0]

    def refusals(self):
        return [r["line"] for r in self.proxy.log()["requests"] if r["status"] in (400, 403)]

    def test_a_rotated_profile_is_read_on_without_a_failed_read(self):
        old = self.new_key()
        self.write_profile(old)
        d = self.daemon()
        readers = [self.reader(d) for _ in range(4)]
        self.read_on(readers[0], range(10))
        new = self.new_key()
        self.write_profile(new)
        self.delete_key(old)
        self.addCleanup(self.delete_key, new)
        self.read_on_together(readers)
        self.assertGreaterEqual(len(self.refusals()), 1)  # the store did refuse the old key
        self.assertEqual(d.status()["store"]["errors"], 0)

    def test_a_session_that_expires_has_its_successor_a_moment_late(self):
        old = self.role_keys()
        self.write_process(old, seconds=0.3)
        d = self.daemon()
        readers = [self.reader(d) for _ in range(4)]
        self.read_on(readers[0], range(10))
        self.proxy.rules({"header": f"^authorization: .*Credential={old['AccessKeyId']}/", "fault": "status", "status": 400, "code": "ExpiredToken",
                          "message": "The provided token has expired."})
        new = self.role_keys()
        late = threading.Timer(2, self.write_process, (new,))
        late.start()
        self.addCleanup(late.join)
        self.read_on_together(readers)
        self.assertGreaterEqual(self.proxy.log()["faults"].get("status", 0), 1)
        self.assertEqual(d.status()["store"]["errors"], 0)

    def check_refused(self, daemon, number, code, seconds):
        start = time.monotonic()
        out = run_program([PYTHON, "-c", READ_ONE, f"/data/x/{number:03}"], daemon.preload_env(), timeout=60)
        self.assertLess(time.monotonic() - start, seconds)
        self.assertEqual(out.stdout, b"")
        self.assertIn(b"PermissionError: [Errno 13]", out.stderr)
        with open(daemon.log) as f:
            lines = [line for line in f if f"s3://bucket/p/{number:03}" in line and code in line]
        self.assertTrue(lines, daemon.log_tail())
        self.assertRegex(lines[-1], rf"s3://bucket/p/{number:03}: HTTP 40[03] {code}.*request id \S+")

    def test_keys_that_stay_expired_are_eacces_within_the_deadline_and_told(self):
        old = self.role_keys()
        self.write_process(old)
        d = self.daemon()
        self.read_on(self.reader(d), range(3))
        self.proxy.rules({"header": f"Credential={old['AccessKeyId']}/", "fault": "status", "status": 400, "code": "ExpiredToken"})
        self.check_refused(d, 20, "ExpiredToken", 20)  # 10 s for a successor
        self.check_refused(d, 21, "ExpiredToken", 5)   # nothing has changed since
        self.write_process(self.role_keys())
        wait_for(lambda: run_program([PYTHON, "-c", READ_ONE, "/data/x/022"], d.preload_env()).stdout == content(22, 5022), 20, "a read with the new keys")

    def test_a_deleted_key_is_eacces_at_once_and_told(self):
        key = self.new_key()
        self.write_profile(key)
        d = self.daemon()
        self.read_on(self.reader(d), range(3))
        self.delete_key(key)
        self.check_refused(d, 20, "InvalidAccessKeyId", 5)
        new = self.new_key()
        self.addCleanup(self.delete_key, new)
        self.write_profile(new)
        wait_for(lambda: run_program([PYTHON, "-c", READ_ONE, "/data/x/020"], d.preload_env()).stdout == content(20, 5020), 20, "a read with the new key")

    def test_a_role_is_assumed_with_the_keys_of_a_source_profile(self):
        self.write("credentials", f"[own]\naws_access_key_id = {self.assumer['AccessKeyId']}\naws_secret_access_key = {self.assumer['SecretAccessKey']}\n")
        self.write("config", "[profile own]\nregion = us-east-1\n[default]\n"
                             f"role_arn = {self.role}\nsource_profile = own\nrole_session_name = larder-test\nduration_seconds = 900\n")
        self.read_on(self.reader(self.daemon()), range(10))
        with self.assertRaises(AssertionError) as denied:  # these keys alone may not read
            self.daemon(AWS_PROFILE="own")
        self.assertRegex(str(denied.exception), "HTTP 403 AccessDenied")
        self.write("credentials", "[own]\naws_access_key_id = AKIANOBODY\naws_secret_access_key = wrong\n")
        with self.assertRaises(AssertionError) as refused:
            self.daemon()
        self.assertRegex(str(refused.exception), re.escape(f"cannot assume the role {self.role}") + ".*InvalidClientTokenId")


if __name__ == "__main__":
    sys.exit(unittest.main(verbosity=2))
