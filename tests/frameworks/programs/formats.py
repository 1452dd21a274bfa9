# OpenCV, Pillow, h5py, LMDB, Arrow and Parquet, NumPy, tarfile, webdataset, mmap: formats.py ROOT SCRATCH PART
import glob, hashlib, io, os, sys, tarfile

root, scratch, part = sys.argv[1:4]


def md5(data):
    return hashlib.md5(data).hexdigest()


def opencv():
    import cv2
    for f in sorted(glob.glob(root + "/images/*/*.jpeg")):
        print(f, md5(cv2.imread(f).tobytes()), md5(cv2.imread(f, cv2.IMREAD_GRAYSCALE).tobytes()))
    print(cv2.imread(root + "/none.jpeg"), cv2.imwrite(root + "/new.png", cv2.imread(f)), cv2.haveImageReader(f))


def pillow():
    from PIL import Image
    for f in sorted(glob.glob(root + "/images/*/*.jpeg")):
        with Image.open(f) as image:
            print(f, image.size, md5(image.tobytes()), md5(image.convert("L").tobytes()))


def numpy():
    import numpy as np
    x = np.load(root + "/arrays/x.npy")
    m = np.load(root + "/arrays/x.npy", mmap_mode="r")
    print(md5(x.tobytes()), md5(m.tobytes()), md5(m[::7, 3].tobytes()), np.array_equal(x, m))
    for name in ("z.npz", "zc.npz"):
        with np.load(f"{root}/arrays/{name}") as z:
            print(name, sorted((k, md5(z[k].tobytes())) for k in z.files))
    tokens = np.memmap(root + "/arrays/tokens.bin", dtype="uint16", mode="r")
    g = np.random.default_rng(1)
    print(md5(b"".join(tokens[i:i + 1024].tobytes() for i in g.integers(0, len(tokens) - 1024, 300))))
    print(md5(np.fromfile(root + "/arrays/tokens.bin", dtype="uint16").tobytes()), md5(np.fromfile(root + "/arrays/tokens.bin", dtype="uint8", count=1000, offset=777).tobytes()))
    c = np.memmap(root + "/arrays/tokens.bin", dtype="uint16", mode="c")
    c[:5] = 1
    print(c[:7], tokens[:7])
    for mode in ("r+", "w+"):
        try:
            np.memmap(root + "/arrays/tokens.bin", dtype="uint16", mode=mode, shape=(10,))
        except OSError as e:
            print(mode, e)


def hdf5():
    import h5py
    for options in ({}, {"locking": False}, {"driver": "core"}, {"driver": "stdio"}):
        with h5py.File(root + "/h5/data.h5", "r", **options) as f:
            print(options, sorted(f), md5(f["plain"][()].tobytes()), md5(f["plain"][100:200, ::3].tobytes()), md5(f["chunked"][13:77].tobytes()), f["g"].attrs["name"])
    try:
        h5py.File(root + "/h5/data.h5", "r+")
    except OSError as e:
        print("write", e.errno)


def lmdb():
    import lmdb as l
    for options in ({"lock": False}, {"lock": False, "readahead": False}, {"lock": False, "subdir": False}):
        name = root + "/lmdb" + ("" if options.get("subdir", True) else "/data.mdb")
        env = l.open(name, readonly=True, **options)
        with env.begin() as t:
            print(options, md5(b"".join(k + v for k, v in t.cursor())), env.stat()["entries"], md5(t.get(b"000777")))
        env.close()


def parquet():
    import pyarrow as pa, pyarrow.dataset as ds, pyarrow.parquet as pq
    for memory_map in (False, True):
        for i in range(3):
            t = pq.read_table(f"{root}/parquet/part={i}/data.parquet", memory_map=memory_map)
            print(memory_map, i, t.num_rows, md5(t.column("x").to_numpy().tobytes()), md5(repr(t.column("s").to_pylist()).encode()))
        f = pq.ParquetFile(root + "/parquet/part=1/data.parquet", memory_map=memory_map)
        print(f.num_row_groups, md5(f.read_row_group(3, columns=["x"]).column("x").to_numpy().tobytes()))
    d = ds.dataset(root + "/parquet", format="parquet", partitioning="hive")
    print(d.count_rows(), sorted(d.files), d.to_table(filter=ds.field("part") == 2).num_rows)
    with pa.memory_map(root + "/parquet_ipc/x.arrow") as m:
        r = pa.ipc.open_file(m)
        print(r.num_record_batches, sum(sum(r.get_batch(i).column(0).to_pylist()) for i in range(r.num_record_batches)))
    print([(i.path, i.size, i.type) for i in sorted(pa.fs.LocalFileSystem().get_file_info(pa.fs.FileSelector(root + "/parquet", recursive=True)), key=lambda i: i.path)])


def tar():
    for mode in ("r:", "r|"):
        for f in sorted(glob.glob(root + "/shards/*.tar")):
            with tarfile.open(f, mode) as t:
                print(mode, f, md5(b"".join(m.name.encode() + t.extractfile(m).read() for m in t)))
    t = tarfile.open(root + "/shards/0001.tar")
    print([md5(t.extractfile(name).read()) for name in ("100030.bin", "100002.json", "100017.bin")])


def web():
    import webdataset as wds
    data = wds.WebDataset(sorted(glob.glob(root + "/shards/*.tar")), shardshuffle=False, empty_check=False)
    print(sorted((s["__key__"], md5(s["bin"]), s["json"]) for s in data))


globals()[part]()
