"""PyTorch, PaddlePaddle and PaddleClas, TensorFlow, DALI: each reads a dataset under the preload as it reads a plain folder."""
import os
import subprocess
import unittest

from harness import PYTHON
from harness.compat import content, write
from harness.frameworks import PROGRAMS, VENV_PYTHON, Frameworks, need


def make_dataset(python, folder, *parts):
    done = subprocess.run([python, os.path.join(PROGRAMS, "make_dataset.py"), folder, *parts], capture_output=True, text=True)
    if done.returncode != 0:
        raise unittest.SkipTest(f"cannot make the dataset's {' '.join(parts)}: {done.stderr.strip().splitlines()[-1:]}")


class PyTorch(Frameworks):
    """Debian's python3-torch and python3-torchvision: PyPI's torch wants two gigabytes of CUDA."""

    @staticmethod
    def make_tree(root):
        make_dataset(PYTHON, root, "images", "criteo")
        write(root + "/arrays_raw.f32", content("f32", 40000))

    @classmethod
    def setUpClass(cls):
        print("torch", need(PYTHON, "torch"), "torchvision", need(PYTHON, "torchvision"))
        super().setUpClass()

    def test_data_loader(self):
        out = self.same_program(PYTHON, "torch_loader.py")
        epochs = [line.split() for line in out.splitlines() if line.startswith(("fork ", "spawn ", "forkserver ")) and " files " not in line]
        self.assertEqual((len(epochs), {e[2] for e in epochs}, len({e[3] for e in epochs})), (6, {"96"}, 1), "all ways to start workers read the same")


class Paddle(Frameworks):
    @staticmethod
    def make_tree(root):
        make_dataset(VENV_PYTHON, root, "images", "criteo")

    @classmethod
    def setUpClass(cls):
        print("paddle", need(VENV_PYTHON, "paddle"))
        super().setUpClass()

    def test_data_loader(self):
        self.same_program(VENV_PYTHON, "paddle_loader.py", "loader")

    def test_wide_and_deep_on_queue_and_in_memory_datasets(self):
        out = self.same_program(VENV_PYTHON, "paddle_loader.py", "slots")
        self.assertIn("InMemoryDataset 2400", out)

    def test_paddleclas_resnet50(self):
        need(VENV_PYTHON, "paddleclas")
        self.same_program(VENV_PYTHON, "paddle_loader.py", "clas")


class TensorFlow(Frameworks):
    @staticmethod
    def make_tree(root):
        make_dataset(VENV_PYTHON, root, "images", "criteo", "arrays", "tfrecord")

    @classmethod
    def setUpClass(cls):
        print("tensorflow", need(VENV_PYTHON, "tensorflow"))
        super().setUpClass()

    def test_tf_data(self):
        self.assertIn("interleaved 900", self.same_program(VENV_PYTHON, "tf_data.py"))


class Dali(Frameworks):
    @staticmethod
    def make_tree(root):
        make_dataset(VENV_PYTHON, root, "images", "arrays")

    @classmethod
    def setUpClass(cls):
        print("dali", need(VENV_PYTHON, "nvidia.dali"))
        super().setUpClass()

    def test_file_reader(self):
        self.same_program(VENV_PYTHON, "dali_reader.py")


class Formats(Frameworks):
    """Libraries that read one file format each, in every way they have."""

    @staticmethod
    def make_tree(root):
        for part in ("images", "arrays", "h5", "lmdb", "parquet", "shards"):
            make_dataset(VENV_PYTHON, root, part)

    @classmethod
    def setUpClass(cls):
        need(VENV_PYTHON, "numpy")
        super().setUpClass()


for name, module in (("opencv", "cv2"), ("pillow", "PIL"), ("numpy", "numpy"), ("hdf5", "h5py"), ("lmdb", "lmdb"), ("parquet", "pyarrow"), ("tar", "tarfile"), ("web", "webdataset")):
    def test(self, name=name, module=module):
        need(VENV_PYTHON, module)
        self.same_program(VENV_PYTHON, "formats.py", name)
    setattr(Formats, f"test_{name}", test)


# The same with everything above 16 KiB read by chunks, in a cache that holds a part of it: no library may notice.
LAZY = {"config": {"cache_size": "4MiB", "lazy_threshold": "16KiB", "fill": "off", "reserve": "16MiB"}}
LazyFormats = type("LazyFormats", (Formats,), LAZY)
LazyTensorFlow = type("LazyTensorFlow", (TensorFlow,), LAZY)
LazyPyTorch = type("LazyPyTorch", (PyTorch,), LAZY)


if __name__ == "__main__":
    unittest.main()
