# PaddlePaddle: DataLoader with worker processes, QueueDataset and InMemoryDataset with a shell pipe on Criteo text, ResNet50 steps of PaddleClas.
import hashlib, os, sys
import numpy as np
import paddle
from paddle.io import DataLoader, Dataset

root, scratch, part = sys.argv[1:4]


def digest(values):
    return hashlib.md5(repr(sorted(values)).encode()).hexdigest()


class Images(Dataset):
    def __init__(self):
        self.files = sorted(os.path.join(d, f) for d, _, names in os.walk(root + "/images") for f in names)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        import cv2
        image = cv2.resize(cv2.imread(self.files[i]), (64, 64)).transpose(2, 0, 1).astype("float32") / 255
        return image, np.int64(int(os.path.basename(os.path.dirname(self.files[i]))[5:]))


def loader():
    for workers, persistent in ((0, False), (2, False), (2, True)):
        batches = DataLoader(Images(), batch_size=16, shuffle=True, num_workers=workers, persistent_workers=persistent, use_shared_memory=True)
        for epoch in range(2):
            seen = [(int(y), hashlib.md5(x.tobytes()).hexdigest()) for xs, ys in batches for x, y in zip(xs.numpy(), ys.numpy())]
            print("loader", workers, persistent, epoch, len(seen), digest(seen), flush=True)


def slots():
    """PaddleRec's way to read Criteo: a program of the user's turns text into slots, one a trainer thread, text from a pipe."""
    paddle.enable_static()
    dense = paddle.static.data("dense", [None, 13], "float32")
    sparse = [paddle.static.data(f"C{i}", [None, 1], "int64", lod_level=1) for i in range(26)]
    label = paddle.static.data("label", [None, 1], "int64")
    words = [paddle.static.nn.embedding(s, [1000, 8], param_attr=paddle.ParamAttr(name="table")) for s in sparse]
    pooled = [paddle.static.nn.sequence_lod.sequence_pool(w, "sum") for w in words]
    wide = paddle.static.nn.fc(dense, 1)
    deep = paddle.static.nn.fc(paddle.concat([paddle.reshape(p, [-1, 8]) for p in pooled] + [dense], axis=1), 16, activation="relu")
    predict = paddle.nn.functional.sigmoid(paddle.add(wide, paddle.static.nn.fc(deep, 1)))
    cost = paddle.mean(paddle.nn.functional.log_loss(predict, paddle.cast(label, "float32")))
    paddle.optimizer.SGD(1e-4).minimize(cost)
    exe = paddle.static.Executor(paddle.CPUPlace())
    exe.run(paddle.static.default_startup_program())
    files = sorted(os.path.join(root, "criteo", f) for f in os.listdir(root + "/criteo"))
    pipe = f"cat | {sys.executable} {os.path.dirname(os.path.abspath(__file__))}/criteo_slots.py {scratch}"
    for kind in ("QueueDataset", "InMemoryDataset"):
        dataset = getattr(paddle.distributed, kind)()
        dataset.init(use_var=[dense] + sparse + [label], pipe_command=pipe, batch_size=64, thread_num=2)
        dataset.set_filelist(files)
        if kind == "InMemoryDataset":
            dataset.load_into_memory()
            print(kind, dataset.get_memory_data_size(), flush=True)
            dataset.local_shuffle()
        exe.train_from_dataset(paddle.static.default_main_program(), dataset, thread=2, debug=False)
        lines = []
        for name in os.listdir(scratch):
            with open(f"{scratch}/{name}", "rb") as f:
                lines += f.read().splitlines()
            os.remove(f"{scratch}/{name}")
        print(kind, len(lines), digest(lines), flush=True)


def clas():
    """PaddleClas' ResNet50: some steps on the CPU. (Its wheel has the models, not the data sets and losses.)"""
    from paddleclas.ppcls.arch.backbone.legendary_models.resnet import ResNet50
    paddle.seed(1)
    model = ResNet50(class_num=4)
    opt = paddle.optimizer.Momentum(0.001, parameters=model.parameters())
    for step, (x, y) in enumerate(DataLoader(Images(), batch_size=8, num_workers=2, shuffle=False)):
        loss = paddle.nn.functional.cross_entropy(model(x), y)
        loss.backward(), opt.step(), opt.clear_grad()
        print("step", step, hashlib.md5(x.numpy().tobytes()).hexdigest(), y.numpy().ravel().tolist(), bool(np.isfinite(float(loss))), flush=True)
        if step == 3:
            break


if __name__ == "__main__":
    globals()[part]()
