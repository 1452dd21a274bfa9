"""Makes an ImageNet-like folder tree of JPEGs, cropped from real photographs.

The photographs are the 2560x1600 JPEGs of the Debian package plasma-workspace-wallpapers (its other pictures are drawings). Each
file is a random window of a photograph, scaled to about 640x480 and encoded to about 110 KB, ImageNet's mean. The same
arguments make the same files.
"""
import glob
import io
import multiprocessing
import os
import random
import shutil

from PIL import Image

PHOTOGRAPHS = "/usr/share/wallpapers/*/contents/images/2560x1600.jpg"
TARGET_BYTES = 110_000
QUALITIES = (85, 90, 94, 96, 98)


def photographs():
    found = sorted(p for p in glob.glob(PHOTOGRAPHS) if "/Autumn/" not in p)  # that one is a painting
    if not found:
        raise SystemExit(f"make_images.py: no photographs at {PHOTOGRAPHS}: apt install plasma-workspace-wallpapers")
    return found


def window(rng, image):
    """A random part of the photograph, 4:3 or 3:4, scaled to the size of an ImageNet file."""
    width = rng.randint(900, 1400)
    height = width * 3 // 4
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    part = image.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:
        part = part.transpose(Image.FLIP_LEFT_RIGHT)
    wide = rng.randint(600, 800)
    return part.resize((wide, wide * 3 // 4), Image.BILINEAR)


def encode(image):
    """The JPEG whose size is closest to the target."""
    best = b""
    for quality in QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        data = buffer.getvalue()
        if abs(len(data) - TARGET_BYTES) < abs(len(best) - TARGET_BYTES):
            best = data
        if len(data) > TARGET_BYTES:
            break
    return best


def make_class(job):
    root, name, photograph, count, seed = job
    rng = random.Random(seed)
    folder = os.path.join(root, name)
    os.makedirs(folder)
    with Image.open(photograph) as opened:
        image = opened.convert("RGB")
    for i in range(count):
        with open(os.path.join(folder, f"{name}_{i:05}.JPEG"), "wb") as f:
            f.write(encode(window(rng, image)))
    return count


def make_tree(root, files, classes, progress):
    """Makes `root` unless an earlier run made it. Returns the number of files."""
    stamp = os.path.join(root, "..", os.path.basename(root) + ".done")
    wanted = f"{files} {classes} 1\n"
    if os.path.exists(stamp) and open(stamp).read() == wanted:
        return files
    shutil.rmtree(root, ignore_errors=True)
    sources = photographs()
    each = files // classes
    jobs = [(root, f"n{1440764 + 977 * c:08}", sources[c % len(sources)], each, c) for c in range(classes)]
    done = 0
    with multiprocessing.Pool() as pool:
        for count in pool.imap_unordered(make_class, jobs):
            done += count
            progress(done, each * classes)
    with open(stamp, "w") as f:
        f.write(wanted)
    return done
