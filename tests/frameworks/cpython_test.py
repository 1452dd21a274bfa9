"""CPython's own tests of files, processes and archives: the same result under the preload, with a daemon running and a mount, as bare."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import LIBRARY, PYTHON
from harness.compat import Compat

SUITES = ("test_os test_posix test_shutil test_glob test_pathlib test_fileio test_io test_mmap test_subprocess test_tarfile test_zipfile "
          "test_tempfile").split()
# It counts its descriptors up to the limit, and finds the one that the library holds (docs/compatibility.md).
EXCEPT = ["--ignore", "test_pass_fds_redirected"]


def outcomes(text):
    """The outcome of each test: name -> ok, FAIL, ERROR, skipped why."""
    found, name = {}, None
    for line in text.splitlines():
        start = re.match(r"^(\w+) \(([\w.]+)\)", line)
        if start:
            name = f"{start[2]}.{start[1]}"
        # On a line of its own if the test printed something before it.
        end = re.search(r"(?:\.\.\. .*?\b|^)(ok|FAIL|ERROR|expected failure|skipped '.*')$", line)
        if name and end:
            found[name], name = re.sub(r"0x[0-9a-f]+|\d{4,}", "N", end[1]), None
    return found


class CPython(Compat):
    @classmethod
    def setUpClass(cls):
        if subprocess.run([PYTHON, "-c", "import test.test_os"], capture_output=True).returncode != 0:
            raise unittest.SkipTest("CPython's tests are not here: apt install libpython3.11-testsuite")
        super().setUpClass()

    def suite(self, preload):
        env = {k: v for k, v in self.environment(preload).items() if k not in ("D", "W")}
        folder = tempfile.mkdtemp(prefix="larder-cpython-")
        try:
            return subprocess.Popen([PYTHON, "-m", "test", "-v", "--timeout", "200", "--tempdir", folder, *EXCEPT, *SUITES], env=env, cwd=folder,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT), folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def test_its_own_tests(self):
        runs = [self.suite(preload) for preload in (False, True)]  # at once: half a minute of each is sleeping
        results = []
        for process, folder in runs:
            text = process.communicate(timeout=400)[0].decode(errors="replace")
            shutil.rmtree(folder, ignore_errors=True)
            results.append((process.returncode, outcomes(text), text))
        (bare_status, bare, bare_text), (status, ours, text) = results
        differ = {k: (bare.get(k), ours.get(k)) for k in bare.keys() | ours.keys() if bare.get(k) != ours.get(k)}
        self.assertGreater(len(bare), 1500, bare_text[-2000:])
        self.assertEqual(differ, {}, text[-3000:])
        self.assertEqual(status, bare_status)
        print(f"{len(ours)} of CPython's tests, {sum(v == 'ok' for v in ours.values())} passed both ways; the library was {os.path.basename(LIBRARY)}")


if __name__ == "__main__":
    unittest.main()
