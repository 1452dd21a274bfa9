# PyTorch: ImageFolder and a Dataset of one's own through DataLoader: fork, spawn, forkserver, persistent workers, two epochs; torch.load, from_file.
import hashlib, os, sys
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torchvision import datasets, transforms

root, scratch = sys.argv[1:3]


class Files(Dataset):
    def __init__(self, folder):
        self.files = sorted(os.path.join(d, f) for d, _, names in os.walk(folder) for f in names)

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        with open(self.files[i], "rb") as f:
            data = f.read()
        assert len(data) == os.path.getsize(self.files[i])
        return i, hashlib.md5(data).hexdigest()


class Lines(IterableDataset):
    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        parts = sorted(os.listdir(root + "/criteo"))[info.id::info.num_workers]
        for part in parts:
            with open(f"{root}/criteo/{part}") as f:
                yield from (hashlib.md5(line.encode()).hexdigest() for line in f)


def digest(values):
    return hashlib.md5(repr(sorted(values)).encode()).hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = datasets.ImageFolder(root + "/images", transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor()]))
    print("folder", len(folder), folder.classes, folder.class_to_idx)
    for method in ("fork", "spawn", "forkserver"):
        loader = DataLoader(folder, batch_size=16, shuffle=True, num_workers=2, multiprocessing_context=method, persistent_workers=True, generator=torch.Generator().manual_seed(1))
        for epoch in range(2):
            seen = [(int(y), hashlib.md5(x.numpy().tobytes()).hexdigest()) for xs, ys in loader for x, y in zip(xs, ys)]
            print(method, epoch, len(seen), digest(seen))
        files = DataLoader(Files(root + "/images"), batch_size=8, num_workers=3, multiprocessing_context=method, prefetch_factor=4)
        print(method, "files", digest([pair for i, h in files for pair in zip(i.tolist(), h)]))
    print("no workers", digest([h for _, hs in DataLoader(Files(root), batch_size=8) for h in hs]))
    print("lines", digest([h for hs in DataLoader(Lines(), batch_size=64, num_workers=3) for h in hs]))
    torch.save({"w": torch.arange(100000.0)}, scratch + "/saved.pt")
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))
    opt = torch.optim.SGD(model.parameters(), 0.01)
    for xs, ys in DataLoader(folder, batch_size=32, num_workers=2):
        loss = torch.nn.functional.cross_entropy(model(xs), ys)
        opt.zero_grad(), loss.backward(), opt.step()
    print("trained", f"{loss.item():.4f}")
    storage = torch.FloatStorage.from_file(root + "/arrays_raw.f32", shared=False, size=10000)
    print("from_file", hashlib.md5(torch.FloatTensor(storage).numpy().tobytes()).hexdigest())
