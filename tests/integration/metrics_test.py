"""The metrics port: what Prometheus scrapes is good, complete and harmless; the page and the health checks tell the truth."""
import json
import os
import re
import shutil
import socket
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

from harness import LARDER, ROOT, Daemon, LarderTest, free_port, make_tree, scratch, wait_for


def get(url, method="GET"):
    """Status and text."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.read().decode()


class OnAPort(LarderTest):
    def setUp(self):
        self.dir = self.enterContext(scratch())
        self.plain = os.path.join(self.dir, "plain")
        make_tree(self.plain)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def daemon(self, **config):
        return self.enterContext(Daemon(metrics=f"127.0.0.1:{self.port}", **config))

    def busy_daemon(self):
        d = self.daemon()
        d.mount(f"file://{self.plain}", "/data/x")
        for _ in range(2):
            d.run("sh", "-c", "find /data/x -type f -exec cat {} + >/dev/null")
        return d


class MetricsTest(OnAPort):
    def sample(self, name):
        return [float(v) for v in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", get(self.url + "/metrics")[1], re.M)]

    def test_a_busy_node(self):
        self.busy_daemon()
        text = get(self.url + "/metrics")[1]
        misses = re.search(r'larder_opens_total\{result="miss"\} (\S+)', text)
        self.assertGreater(float(misses[1]), 0)
        self.assertEqual(self.sample("larder_miss_wait_seconds_count"), [float(misses[1])])
        self.assertEqual(self.sample("larder_dataset_cached_files"), self.sample("larder_dataset_files"))
        if shutil.which("promtool"):
            result = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
            self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_every_metric_is_documented_and_the_other_way_round(self):
        self.busy_daemon()
        told = set(re.findall(r"^# TYPE (\S+)", get(self.url + "/metrics")[1], re.M))
        with open(os.path.join(ROOT, "docs/metrics.md")) as f:
            documented = set(re.findall(r"`(larder_[a-z_]+)", f.read()))
        self.assertEqual(told, documented)

    def test_it_only_reads(self):
        self.daemon()
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            self.assertEqual(get(self.url + "/metrics", method)[0], 405, method)
        self.assertEqual(get(self.url + "/nothing")[0], 404)
        self.assertEqual(get(self.url + "/..%2f..%2fetc/passwd")[0], 404)
        self.assertEqual(get(self.url + "/metrics", "HEAD"), (200, ""))
        with socket.create_connection(("127.0.0.1", self.port)) as idle:  # neither holds it nor keeps it from ending
            idle.sendall(b"GET /metr")
            self.assertEqual(get(self.url + "/healthz"), (200, "ok\n"))

    def test_ready_when_all_is_served(self):
        later = os.path.join(self.dir, "later")
        config = f'[[mount]]\npath = "/data/later"\nsource = "file://{later}"\n'
        d = self.daemon(tables=config)
        self.assertEqual(get(self.url + "/healthz"), (200, "ok\n"))
        self.assertEqual(get(self.url + "/readyz"), (503, "1 mounts are not served yet\n"))
        self.assertEqual(self.sample("larder_mounts_waiting"), [1])
        os.mkdir(later)
        wait_for(lambda: get(self.url + "/readyz")[0] == 200, 60, "the mount")
        self.assertEqual(d.status()["waiting_mounts"], [])

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to restrict a dataset")
    def test_a_restricted_dataset_is_not_shown(self):
        d = self.daemon()
        d.larder("format", "secretname", f"file://{self.plain}", "--group", "games")
        d.larder("mount", "secretname", "/data/s")
        self.assertIn("secretname", json.dumps(d.status()))
        for page in ("/metrics", "/status.json", "/", "/readyz"):
            text = get(self.url + page)[1]
            self.assertNotIn("secretname", text)
            self.assertNotIn(self.plain, text)
        os.chmod(d.work, 0o755)
        other = subprocess.run(["setpriv", "--reuid=61002", "--regid=61002", "--clear-groups", LARDER, "status", "--json"], env=d.env,
                               capture_output=True, text=True, timeout=60)
        self.assertEqual(json.loads(other.stdout)["mounts"], [], other.stderr)
        self.assertNotIn("secretname", other.stdout)

    def test_an_address_that_cannot_be_had(self):
        with socket.create_server(("127.0.0.1", self.port)):
            with self.assertRaisesRegex(AssertionError, "metrics = .*cannot listen there: Address already in use"):
                self.daemon()

    def test_the_page_is_self_contained(self):
        self.daemon()
        with urllib.request.urlopen(self.url + "/", timeout=30) as reply:
            page, policy = reply.read().decode(), reply.headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertEqual(re.findall(r"(?:src|href)=|https?://|@import", page), [])


@unittest.skipUnless(shutil.which("prometheus"), "Prometheus is not installed")
class PrometheusTest(OnAPort):
    """A real Prometheus that scraped a busy larderd answers every query of the dashboard and of the alerts."""

    def queries(self):
        with open(os.path.join(ROOT, "examples/grafana/larder.json")) as f:
            for panel in json.load(f)["panels"]:
                for target in panel["targets"]:
                    yield panel["title"], target["expr"].replace('"$instance"', '".+"').replace("[5m]", "[10s]")
        with open(os.path.join(ROOT, "examples/prometheus/larder.rules.yml")) as f:
            for expr in re.findall(r"expr: (.*)", f.read()):
                # What must be there for the alert to fire: without the comparisons.
                yield expr, re.sub(r" (==|>|<) [0-9.]+", "", expr).replace("[5m]", "[10s]")

    def test_the_queries_answer(self):
        d = self.busy_daemon()
        port = free_port()
        config = os.path.join(self.dir, "prometheus.yml")
        with open(config, "w") as f:
            f.write(f'global: {{scrape_interval: 1s}}\nrule_files: ["{ROOT}/examples/prometheus/larder.rules.yml"]\n'
                    f'scrape_configs:\n  - job_name: larder\n    static_configs: [{{targets: ["127.0.0.1:{self.port}"]}}]\n')
        with open(os.path.join(self.dir, "prometheus.log"), "w") as log:
            process = subprocess.Popen(["prometheus", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}",
                                        f"--storage.tsdb.path={self.dir}/tsdb"], stdout=log, stderr=log)
        self.addCleanup(process.wait, 30)
        self.addCleanup(process.terminate)

        def query(expr):
            try:
                status, text = get(f"http://127.0.0.1:{port}/api/v1/query?query=" + urllib.parse.quote(expr))
            except OSError:
                return []
            if status == 503:  # it starts
                return []
            self.assertEqual(status, 200, text)
            return json.loads(text)["data"]["result"]

        wait_for(lambda: query("count_over_time(larder_opens_total[1h]) > 2"), 60, "three scrapes")
        d.run("sh", "-c", "find /data/x -type f -exec cat {} + >/dev/null")
        for title, expr in self.queries():
            with self.subTest(title):
                wait_for(lambda: query(expr), 30, f"an answer to {expr}")
        alerts = json.loads(get(f"http://127.0.0.1:{port}/api/v1/rules")[1])["data"]["groups"][0]["rules"]
        self.assertEqual({a["health"] for a in alerts} - {"ok", "unknown"}, set())


if __name__ == "__main__":
    unittest.main()
