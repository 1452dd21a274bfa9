"""larderd --check: what is wrong with a larder.toml is said before a daemon depends on it."""
import os
import subprocess
import unittest

from harness import LARDERD, LarderTest, scratch


class CheckTest(LarderTest):
    def setUp(self):
        self.dir = self.enterContext(scratch())

    def check(self, text):
        path = os.path.join(self.dir, "larder.toml")
        with open(path, "w") as f:
            f.write(text)
        return subprocess.run([LARDERD, "--config", path, "--check"], capture_output=True, text=True, timeout=60)

    def test_a_good_file_changes_nothing(self):
        places = f'socket = "{self.dir}/s"\ncache_dir = "{self.dir}/cache"\nstate_dir = "{self.dir}/state"\n'
        result = self.check(places + '[[mount]]\npath = "/data/x"\nsource = "file:///etc"\n')
        self.assertEqual((result.returncode, result.stderr), (0, ""))
        self.assertIn("1 mounts", result.stdout)
        self.assertEqual(os.listdir(self.dir), ["larder.toml"])

    def test_what_is_wrong_is_one_line_that_names_it(self):
        mount = '[[mount]]\npath = "/data/x"\nsource = "{}"\n'
        for text, *parts in (
                ('endpont = "http://e"\n', "endpont"),
                ('[store]\nendpont = "http://e"\n', "store: unknown store option 'endpont'"),
                ('[stores."s3://bucket"]\nregoin = "eu"\n', "regoin"),
                ('admin_group = "nogrouplikethis"\n', "admin_group", "nogrouplikethis"),
                (mount.format("s4://bucket"), "mount of /data/x", "s4"),
                ('[stores."s3://bucket"]\naddressing = "sideways"\n' + mount.format("s3://bucket/p"), "mount of /data/x", "addressing", "sideways"),
        ):
            with self.subTest(text=text):
                result = self.check(text)
                self.assertEqual(result.returncode, 1, result.stdout)
                self.assert_one_line(result, *parts)


if __name__ == "__main__":
    unittest.main()
