"""Stands for a training program: reads every file below --data once and says how much there was."""
import argparse
import os

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", required=True)
args = parser.parse_args()
count = total = 0
for folder, _, names in os.walk(args.data):
    for name in names:
        with open(os.path.join(folder, name), "rb") as f:
            total += len(f.read())
        count += 1
print(f"{count} files, {total} bytes")
