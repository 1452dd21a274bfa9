"""Coreutils and their kin, git, archivers and bash: the same results, bytes and exit status on a dataset as on a plain folder."""
import os
import unittest

from harness import PYTHON
from harness.compat import Compat, tool


class Shell(Compat):
    # ---- listing ----

    def test_ls(self):
        self.same("ls -la --time-style=full-iso $D | grep -v ' \\.\\.$'", lines=8)
        self.same("ls -lR --time-style=full-iso $D", lines=170)
        self.same("ls -U1 $D/images/n00 | sort", lines=20)
        self.same("ls -ld $D/images $D/sizes/ $D/text/00.txt", lines=3)
        self.same("ls $D/missing", status=2, lines=0)

    def test_ls_inodes_agree_with_stat(self):
        """A file has one inode number, whichever call asks."""
        check = "set -e; for f in $D/text/*; do a=$(ls -i $f | cut -d' ' -f1); b=$(stat -c %i $f); c=$(stat -Lc %i - < $f); " \
                "test $a = $b && test $b = $c && echo same; done"
        self.assertEqual(self.same(check, lines=20).out, [b"same"] * 20)

    def test_stat(self):
        self.same("find $D -type f -print0 | sort -z | xargs -0 stat -c '%n %s %a %F %h %u %g %y %b %B'", lines=160)
        self.same("find $D -type d -print0 | sort -z | xargs -0 stat -c '%n %a %F %h %u %g %y'", lines=20)

    def test_find(self):
        self.same("find $D -type f", sort=True, lines=160)
        self.same("find $D -name '*.JPEG' -size +10k -printf '%p %s %m %TY %d %P\\n'", sort=True, lines=20)
        self.same("find $D -newer $D/sizes/00004095.bin -type f", sort=True, lines=20)
        self.same("find $D -empty", sort=True, lines=1)
        self.same("find $D/text -type f -exec md5sum {} \\;", sort=True, lines=20)
        self.same("find $D/text -type f -execdir md5sum {} +", sort=True, lines=20)
        self.same("cd $D && find . -depth -path './odd/*' -print0 | sort -z | tr '\\0' '\\n'", lines=7)
        self.same("find $D -samefile $D/text/03.txt", lines=1)
        self.same("find -L $D/missing $D/text -maxdepth 1", status=1, sort=True, lines=20)
        self.same("find $D/deep -delete", status=1, sort=True, lines=0)

    def test_du_df_tree_walkers(self):
        self.same("du -a --apparent-size $D", sort=True, lines=170)
        self.same("du -sb $D/images $D/text", lines=2)
        self.same("du -sh $D/sizes", lines=1)
        self.same("df $D/text > /dev/null && stat -f -c '%S' $D > /dev/null && echo asked", lines=1)
        self.same("test -w $D/text/00.txt; echo $?; test -r $D/text/00.txt; echo $?; test -x $D; echo $?; test $D/text -ef $D/images/../text; echo $?")

    # ---- copies ----

    def test_cp(self):
        self.same("cp -a $D $W/copy", lines=180)
        self.same("cp -r $D/images/. $W/", lines=120)
        self.same("cp --sparse=always --reflink=auto $D/sizes/*.bin $W/", lines=10)
        self.same("cp $D/text/00.txt $D/text/copy", status=1, lines=0)
        self.same("mv $D/text/00.txt $W/", status=1)
        self.same("cp -s $D/text/00.txt $W/link && cat $W/link", lines=1500)
        self.same("install -m 600 $D/text/00.txt $W/installed", lines=1)

    def test_tar(self):
        self.same("tar c --sort=name --numeric-owner -C $D . | sha256sum")
        self.same("tar c --sort=name -C $D images text -f $W/a.tar && tar tvf $W/a.tar && tar xf $W/a.tar -C $W", lines=140)
        self.same("tar c --sort=name -C $W -T /dev/null -f $W/b.tar && tar df $W/b.tar -C $D; echo $?")
        self.same("tar c --sort=name -C $D . -f $W/a.tar && tar df $W/a.tar -C $D && echo equal", lines=1)

    def test_rsync(self):
        tool("rsync")
        self.same("rsync -ac $D/ $W/ && rsync -aci $D/ $W/ | wc -l", lines=170)
        self.same("rsync -r --size-only --itemize-changes $D/images/ $W/", sort=True, lines=120)
        self.same("rsync -a $D/text/00.txt $D/text/new 2>/dev/null; echo $?; rsync -a --list-only $D/text/", lines=20)

    def test_diff_and_cmp(self):
        self.same("cp -r $D/text $W/text; chmod -R u+w $W; echo changed >> $W/text/03.txt; rm $W/text/04.txt; diff -r $D/text $W/text", status=1, lines=3)
        self.same("cmp $D/sizes/00004096.bin $D/sizes/00004097.bin", status=1)
        self.same("cmp $D/text/00.txt $D/text/00.txt && diff $D/text/00.txt $D/text/00.txt && echo equal")

    def test_zip(self):
        tool("zip"), tool("unzip")
        self.same("cd $D && zip -qrX $W/a.zip images odd && cd $W && unzip -q a.zip && rm a.zip", lines=120)
        self.same("cd $D && zip -q - text/*.txt | wc -c | grep -c '[0-9]'")

    # ---- readers ----

    def test_checksums(self):
        self.same("cd $D && md5sum -c --quiet MD5SUMS && echo all", lines=1)
        self.same("sha256sum $D/sizes/*.bin", lines=10)
        self.same("cat $D/sizes/*.bin | cksum; sum $D/text/*.txt; b2sum < $D/sizes/05242883.bin", lines=20)

    def test_grep(self):
        self.same("grep -r needle $D", sort=True, lines=300)
        self.same("grep -rlc needle $D/odd $D/text", sort=True, lines=25)
        self.same("grep -c '^7.*needle$' $D/text/*.txt", lines=20)
        self.same("grep needle $D/text/00.txt $D/missing", status=2, lines=1)
        self.same("cd $D/odd && grep -h needle ./* .hidden", lines=7)

    def test_text_tools(self):
        self.same("sort $D/text/*.txt | sha256sum; sort -m -n $D/text/00.txt $D/text/01.txt | md5sum; sort -u -T $W -S 1M $D/text/*.txt | wc -l", lines=3)
        self.same("wc $D/text/*.txt; wc -c < $D/sizes/00110000.bin; wc -l $D/sizes/*.bin", lines=30)
        self.same("head -n 3 $D/text/*.txt; head -c 100 $D/sizes/00065536.bin | od -c", lines=60)
        self.same("tail -n 3 $D/text/05.txt; tail -c 1000 $D/sizes/05242883.bin | md5sum; tail -c +1000000 $D/sizes/01048577.bin | md5sum; tail -qn1 $D/text/*", lines=20)
        self.same("cut -d' ' -f2 $D/text/00.txt | uniq -c | sort -rn | head; tac $D/text/01.txt | md5sum; nl $D/text/02.txt | tail -1; split -n 3 $D/text/00.txt $W/part", lines=5)
        self.same("sed -n '/needle/p' $D/text/07.txt; awk '/needle/ {n += $1} END {print n}' $D/text/*.txt; sed -i s/a/b/ $D/text/00.txt 2>&1 | sed 's/sed[A-Za-z0-9]*:/sed:/;s/.*: //'; exit 4", status=4, lines=10)
        self.same("join <(sort $D/text/00.txt) <(sort $D/text/01.txt) | md5sum; comm -12 <(sort $D/text/00.txt) <(sort $D/text/00.txt) | wc -l; paste $D/text/0[0-3].txt | md5sum", lines=3)
        self.same("od -An -tx1 -j 4000 -N 96 $D/sizes/00004097.bin; xargs -a $D/text/00.txt -n 100 echo | wc; shuf --random-source=$D/sizes/05242883.bin -i 1-100 | md5sum", lines=7)

    def test_dd(self):
        self.same("dd if=$D/sizes/05242883.bin of=$W/copy bs=1M status=none; dd if=$D/sizes/05242883.bin bs=777 skip=1001 count=13 status=none | md5sum", lines=2)
        self.same("dd if=$D/sizes/01048577.bin bs=4096 skip=3 iflag=fullblock,nofollow status=none | md5sum")
        self.same("dd if=/dev/zero of=$D/sizes/00004096.bin bs=1 count=1 conv=notrunc status=none", status=1, lines=0)

    def test_compressors(self):
        self.same("gzip -nc $D/text/00.txt | md5sum; gzip -nc < $D/text/00.txt | gunzip | cmp - $D/text/00.txt && echo back; base64 $D/sizes/00065536.bin | md5sum", lines=3)
        self.same("xz -c $D/text/01.txt | xz -dc | md5sum; bzip2 -c $D/text/01.txt | bzip2 -dc | md5sum", lines=2)

    def test_git(self):
        tool("git")
        self.same("cd $D && find . -type f | sort | git hash-object --stdin-paths", lines=160)
        self.same("cd $W && git -c init.defaultBranch=main init -q . && git --work-tree=$D add -A && git ls-files -s && git --work-tree=$D status --short && rm .git/index", lines=160)
        self.same("git diff --no-index --stat $D/text/00.txt $D/text/01.txt", status=1)

    # ---- writes are refused as by a read-only mount ----

    def test_writes(self):
        for command in ("touch $D/new", "touch $D/text/00.txt", "mkdir $D/new", "rmdir $D/text", "rm -f $D/text/00.txt", "chmod 600 $D/text/00.txt",
                        "ln -s x $D/new", "ln $D/text/00.txt $D/new", "truncate -s 0 $D/text/00.txt", "mkfifo $D/new", "mktemp $D/XXXX",
                        "chown 1 $D/text/00.txt", "tee $D/new < /dev/null", "mv $D/text $D/text2", "cp /dev/null $D/new", "rm -rf $D/text/00.txt"):
            with self.subTest(command=command):
                self.same(command, status=1, lines=0)

    def test_temporary_names(self):
        code = "import ctypes,os,sys;c=ctypes.CDLL(None,use_errno=True)\nfor p in sys.argv[1:]:\n for f in (c.mkstemp,c.mkdtemp):\n  b=ctypes.create_string_buffer(p.encode());f.restype=ctypes.c_void_p;r=f(b)or 0;e=ctypes.get_errno();print(p,r not in(0,2**32-1,2**64-1),e,os.path.exists(b.value),b.value[:-6]);ctypes.set_errno(0)"
        self.same(f"cd $D/text && {PYTHON} -c '{code}' newXXXXXX $D/XXXXXX $D/none/aXXXXXX ../bXXXXXX ../../scratch/cXXXXXX $W/dXXXXXX | sort; ls $W | cut -c1; rm -rf $W/*; ls", lines=32)

    # ---- bash ----

    def test_bash_redirections(self):
        self.same("cat < $D/text/00.txt | md5sum; exec 3< $D/text/01.txt; read -u 3 a b; echo $a $b; head -n 2 <&3 >/dev/null; cat <&3 | wc -l; exec 3<&-", lines=3)
        self.same("n=0; while read -r x rest; do n=$((n + x)); done < $D/text/02.txt; echo $n; mapfile -t l < $D/text/03.txt; echo ${#l[@]} ${l[7]}", lines=2)
        self.same("exec {fd}< $D/text/00.txt; echo moved; cat /dev/fd/$fd | md5sum; cat /proc/self/fd/$fd | md5sum; wc -c <&$fd; exec {fd}<&-", lines=3)
        self.same("echo $(< $D/text/00.txt) | md5sum; source <(head -c 0 $D/text/00.txt); : < $D/missing", status=1)
        self.same("echo no > $D/text/00.txt", status=1, lines=0)
        self.same("echo no >> $D/new", status=1, lines=0)
        self.same("(exec < $D/text/00.txt; sed -n 5p; sed -n 1p)", lines=1)

    def test_bash_paths(self):
        self.same("cd $D/text && ls | wc -l && pwd && cd ../images/n00 && pwd -P && ls -a .. && cd - && cd ../.. && pwd", lines=8)
        self.same("cd $D && echo */ && echo text/0*.txt && echo **/leaf && shopt -s globstar && echo **/leaf && compgen -f images/n0 | sort", lines=5)
        self.same("for t in e f d r w x s L h; do for p in . text text/00.txt sizes/00000000.bin none; do test -$t $D/$p; echo $t $p $?; done; done", lines=45)
        self.same("test $D/text/01.txt -nt $D/text/00.txt; echo $?; [[ $D/text -ef $D/./text ]]; echo $?; realpath $D/odd/../text/./00.txt; readlink -f $D/text", lines=4)
        self.same("cd $D/deep/level0/level1 && (cd level2 && pwd) && bash -c 'pwd; ls' && sh -c 'cat level2/level3/level4/level5/level6/level7/level8/level9/level10/level11/leaf'", lines=4)

    def test_scripts(self):
        self.same("bash $D/script.sh a b", lines=1)
        self.same("cd $D && sh ./script.sh", lines=1)
        self.same("$D/script.sh", status=126, lines=0)
        self.same("cp $D/script.sh $W/ && chmod +x $W/script.sh && cd $D && $W/script.sh x", lines=1)

    # ---- links that lead in ----

    def test_symlinks_into_the_dataset(self):
        """S8: Outside the mount, symlinks work as always, including those that lead into a dataset."""
        self.same("ln -s $D/text $W/dir; ln -s $D/text/00.txt $W/file; ln -s $D/none $W/dangling; ls -l $W/dir/ | wc -l; md5sum $W/file $W/dir/01.txt; "
                  "cat $W/dangling; realpath $W/dir/00.txt; cd $W/dir && pwd && pwd -P && ls | wc -l; cd .. ; pwd", lines=5)
        self.same("ln -s $D $W/a; ln -s a/text $W/b; cd $W; ls b/ | wc -l; cat b/00.txt | md5sum; find -L b -type f | wc -l; test -f b/00.txt; echo $?; du -L b | wc -l; "
                  "tar ch --sort=name b | md5sum", lines=5)

    def test_the_folders_above(self):
        self.same("cd $D && /bin/ls .. && cat ../scratch/../data/text/00.txt | wc -l && cd .. && /bin/pwd && ls", lines=6)
        self.same("cd $D && touch ../scratch/new && ls ../scratch && mkdir -p ../scratch/x/y && mv ../scratch/new ../scratch/x/ && cp text/00.txt ../scratch/", lines=4)
        self.same("printf '#!/bin/sh\\necho ${0##*/} $(pwd)\\n' > $W/run; chmod +x $W/run; cd $D && ../scratch/run && cd text && ../../scratch/run | sed 's/.*scratch//'", lines=2)
        self.same("cd $D/text && realpath ../.. ../../scratch . ../images && readlink -f ../../data/text && find .. -maxdepth 1 | sort && find ../.. -maxdepth 2 -path '*text*' | sort && stat -c %n%F ../..", lines=12)

    def test_a_link_to_the_mount_point(self):
        """A program may know only a link to the folder on disk that the mount covers."""
        self.same("ln -s $D $W/link; ls $W/link; ls $W/link/text | wc -l; cat $W/link/text/00.txt | wc -l; find $W/link/ -type f | wc -l; stat -Lc %s $W/link; "
                  "cd $W/link && ls | wc -l; pwd -P; find -L $W -name leaf; du -sbL $W/link; test $W/link -ef $D; echo $?; tar ch -C $W link | wc -c", lines=15)

    def test_the_parent_lists_the_mount(self):
        """S9: If it does, the mount covers what is there. S9: The folders above it list it."""
        self.same("find $D/.. -path '*data/text/0*' | sort", lines=10)
        self.same("ls -F $D/..", lines=3)
        self.assertEqual(os.listdir(self.data), ["decoy"])


if __name__ == "__main__":
    unittest.main()
