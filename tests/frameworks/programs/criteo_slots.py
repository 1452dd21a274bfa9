# What a PaddleRec user writes: one line of Criteo text in, one line of "count values..." for every slot out.
# It keeps what it read in a file of its own, for the test.
import os
import sys

kept = open(os.path.join(sys.argv[1], f"lines.{os.getpid()}"), "w")
for line in sys.stdin:
    kept.write(line)
    fields = line.rstrip("\n").split("\t")
    out = ["13 " + " ".join(x or "0" for x in fields[1:14])]
    out += [f"1 {int(x, 16) % 1000 if x else 0}" for x in fields[14:40]]
    out.append(f"1 {fields[0]}")
    print(" ".join(out))
