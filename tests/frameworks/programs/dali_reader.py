# NVIDIA DALI on the CPU: fn.readers.file, .numpy and .tfrecord-less readers; decoded on the CPU.
import hashlib, sys
import nvidia.dali.fn as fn
from nvidia.dali import pipeline_def

root, scratch = sys.argv[1:3]


def digest(values):
    return hashlib.md5(repr(sorted(values)).encode()).hexdigest()


@pipeline_def(batch_size=8, num_threads=2, device_id=None, exec_dynamic=False)
def images(shuffle, dont_use_mmap):
    data, labels = fn.readers.file(file_root=root + "/images", random_shuffle=shuffle, dont_use_mmap=dont_use_mmap, name="reader", seed=1)
    return data, labels, fn.decoders.image(data, device="cpu")


@pipeline_def(batch_size=4, num_threads=2, device_id=None, exec_dynamic=False)
def arrays():
    return fn.readers.numpy(file_root=root + "/arrays", files=["x.npy"])


for shuffle in (False, True):
    for dont_use_mmap in (False, True):
        p = images(shuffle, dont_use_mmap)
        p.build()
        size = p.epoch_size("reader")
        seen = []
        for _ in range(size // 8):
            data, labels, pixels = p.run()
            seen += [(int(labels.at(i)), hashlib.md5(data.at(i).tobytes()).hexdigest(), pixels.at(i).shape) for i in range(8)]
        print("images", shuffle, dont_use_mmap, size, len(seen), digest(seen))
p = arrays()
p.build()
print("numpy", hashlib.md5(p.run()[0].at(0).tobytes()).hexdigest())
