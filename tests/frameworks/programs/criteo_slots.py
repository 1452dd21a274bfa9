# What a PaddleRec user writes: one line of Criteo text in, one line of "count values..." for every slot out.
import sys
for line in sys.stdin:
    fields = line.rstrip("\n").split("\t")
    out = ["13 " + " ".join(x or "0" for x in fields[1:14])]
    out += [f"1 {int(x, 16) % 1000 if x else 0}" for x in fields[14:40]]
    out.append(f"1 {fields[0]}")
    print(" ".join(out))
