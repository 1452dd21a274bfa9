# Makes a dataset in every format: make_dataset.py FOLDER PART...  Deterministic.
import io, json, os, random, sys, tarfile

root = sys.argv[1]
rng = random.Random(7)


def path(*names):
    p = os.path.join(root, *names)
    os.makedirs(os.path.dirname(p), exist_ok=True)
    return p


def images():
    from PIL import Image
    for i in range(96):
        noise = Image.frombytes("RGB", (24, 24), rng.randbytes(24 * 24 * 3)).resize((160, 120 + i), Image.BICUBIC)
        noise.save(path("images", f"class{i % 4}", f"img_{i:03}.jpeg"), quality=90)


def criteo():
    for part in range(3):
        with open(path("criteo", f"part-{part}"), "w") as f:
            for _ in range(800):
                dense = [str(rng.randrange(100)) if rng.random() < 0.8 else "" for _ in range(13)]
                sparse = [f"{rng.randrange(1 << 32):08x}" if rng.random() < 0.9 else "" for _ in range(26)]
                f.write("\t".join([str(rng.randrange(2)), *dense, *sparse]) + "\n")


def arrays():
    import numpy as np
    g = np.random.default_rng(5)
    np.save(path("arrays", "x.npy"), g.standard_normal((4000, 128)).astype("float32"))
    np.savez(path("arrays", "z.npz"), a=np.arange(10000), b=g.integers(0, 9, (50, 50)))
    np.savez_compressed(path("arrays", "zc.npz"), a=np.arange(10000))
    g.integers(0, 50000, 500_000).astype("uint16").tofile(path("arrays", "tokens.bin"))


def h5():
    import h5py, numpy as np
    g = np.random.default_rng(6)
    with h5py.File(path("h5", "data.h5"), "w") as f:
        f.create_dataset("plain", data=g.standard_normal((2000, 64)))
        f.create_dataset("chunked", data=g.integers(0, 255, (500, 32, 32), dtype="uint8"), chunks=(10, 32, 32), compression="gzip")
        f.create_group("g").attrs["name"] = "value"


def lmdb():
    import lmdb as l
    env = l.open(os.path.dirname(path("lmdb", "x")), map_size=1 << 24)
    with env.begin(write=True) as t:
        for i in range(2000):
            t.put(f"{i:06}".encode(), rng.randbytes(rng.randrange(100, 1000)))
    env.close()
    os.remove(path("lmdb", "lock.mdb"))


def parquet():
    import numpy as np, pyarrow as pa, pyarrow.parquet as pq
    g = np.random.default_rng(8)
    for i in range(3):
        n = 5000
        pq.write_table(pa.table({"id": np.arange(n) + i * n, "x": g.standard_normal(n), "s": [f"row {k % 97}" for k in range(n)]}), path("parquet", f"part={i}", "data.parquet"), row_group_size=1000)
    with pa.OSFile(path("parquet_ipc", "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])) as w:
        for k in range(10):
            w.write_batch(pa.record_batch([pa.array(range(k * 1000, k * 1000 + 1000))], names=["a"]))


def shards():
    for s in range(3):
        with tarfile.open(path("shards", f"{s:04}.tar"), "w") as t:
            for i in range(40):
                for name, data in ((f"{s}{i:05}.bin", rng.randbytes(2000 + 31 * i)), (f"{s}{i:05}.json", json.dumps({"label": i % 7}).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    t.addfile(info, io.BytesIO(data))


def tfrecord():
    import tensorflow as tf
    for s in range(3):
        with tf.io.TFRecordWriter(path("tfrecord", f"train-{s:05}.tfrecord")) as w:
            for i in range(300):
                w.write(tf.train.Example(features=tf.train.Features(feature={"x": tf.train.Feature(bytes_list=tf.train.BytesList(value=[rng.randbytes(500 + i)])), "y": tf.train.Feature(int64_list=tf.train.Int64List(value=[s * 1000 + i]))})).SerializeToString())


for part in sys.argv[2:]:
    globals()[part]()
