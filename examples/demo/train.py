#!/usr/bin/env python3
"""A training-style loader: worker processes read shuffled JPEGs from a folder and decode them; the parent makes batches.

    python3 train.py FOLDER [--epochs 2] [--workers 2] [--batch 64] [--report FILE] [--digest FILE]

It uses os.walk, open() and Pillow, and knows nothing of caches. --digest writes the SHA-256 of every file that the last epoch
read, for comparison with the originals.
"""
import argparse
import hashlib
import io
import json
import multiprocessing
import os
import random
import subprocess
import sys
import time

from PIL import Image

IMAGE_SIZE = (224, 224)


def find_images(folder):
    """(path, label) of every image; the label is the number of its class folder."""
    classes = sorted(e.name for e in os.scandir(folder) if e.is_dir())
    samples = []
    for label, name in enumerate(classes):
        for place, _, files in os.walk(os.path.join(folder, name)):
            samples += [(os.path.join(place, f), label) for f in sorted(files) if f.endswith(".JPEG")]
    return samples


def load(job):
    """Reads and decodes one image. Returns (path, SHA-256, bytes, label, bytes of pixels)."""
    path, label = job
    with open(path, "rb") as f:
        data = f.read()
    image = Image.open(io.BytesIO(data))
    image.draft("RGB", IMAGE_SIZE)
    pixels = image.convert("RGB").resize(IMAGE_SIZE).tobytes()
    return path, hashlib.sha256(data).hexdigest(), len(data), label, len(pixels)


def epoch(pool, samples, seed, batch, on_progress):
    order = samples[:]
    random.Random(seed).shuffle(order)
    start = time.perf_counter()
    result = {"images": 0, "bytes": 0, "first_batch_s": None}
    digests = {}
    for path, digest, size, _, pixels in pool.imap_unordered(load, order, chunksize=4):
        assert pixels == IMAGE_SIZE[0] * IMAGE_SIZE[1] * 3
        digests[path] = digest
        result["images"] += 1
        result["bytes"] += size
        if result["images"] == batch:
            result["first_batch_s"] = time.perf_counter() - start
        on_progress(result["images"], len(order), time.perf_counter() - start)
    result["seconds"] = time.perf_counter() - start
    return result, digests


class Bar:
    """A progress bar on a terminal; nothing elsewhere."""

    def __init__(self, label):
        self.label, self.shown = label, 0.0

    def __call__(self, done, total, seconds):
        now = time.monotonic()
        if not sys.stderr.isatty() or (done < total and now - self.shown < 0.1):
            return
        self.shown = now
        filled = 24 * done // total
        rate = done / seconds if seconds else 0
        left = (total - done) / rate if rate else 0
        print(f"\r{self.label}  [{'#' * filled}{'.' * (24 - filled)}]  {done}/{total}  {rate:.0f} images/s  {left:.0f} s left \x1b[K",
              end="\n" if done == total else "", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--label", default="epoch")
    parser.add_argument("--report", help="append one JSON line per epoch")
    parser.add_argument("--after-epoch", metavar="CMD", help="run this shell command after each epoch, such as a validation; EPOCH is its number")
    parser.add_argument("--digest", help="write the SHA-256 of every file to this file")
    args = parser.parse_args()
    started = time.perf_counter()
    samples = find_images(args.folder)
    listed = time.perf_counter() - started
    if not samples:
        raise SystemExit(f"train.py: no *.JPEG below {args.folder}")
    with multiprocessing.Pool(args.workers) as pool:
        for number in range(args.epochs):
            result, digests = epoch(pool, samples, number, args.batch, Bar(f"{args.label} {number + 1}"))
            result.update(epoch=number, list_s=listed)
            if args.report:
                with open(args.report, "a") as f:
                    f.write(json.dumps(result) + "\n")
            if args.after_epoch:
                subprocess.run(args.after_epoch, shell=True, check=True, env={**os.environ, "EPOCH": str(number)})
    if args.digest:
        with open(args.digest, "w") as f:
            json.dump({os.path.relpath(path, args.folder): digest for path, digest in digests.items()}, f)


if __name__ == "__main__":
    main()
