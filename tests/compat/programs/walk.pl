# Perl's own ways to files: opendir, -X tests, File::Find, File::Copy, PerlIO, sysopen, glob, stat.
use strict; use warnings; use Cwd; use Digest::MD5; use Fcntl qw(:DEFAULT :seek :mode); use File::Copy; use File::Find; use File::stat ();
my ($root, $scratch) = @ARGV;
opendir(my $d, "$root/text") or die $!;
print "dir $_\n" for sort readdir $d;
rewinddir $d; my $n = () = readdir $d; print "again $n\n"; closedir $d;
for my $f ("text/00.txt", "sizes/00000000.bin", "images", "none") {
  my $p = "$root/$f";
  print join(" ", $f, map { defined $_ ? ($_ || 0) : "undef" } -e $p, -f $p, -d $p, -r $p, -w $p, -x $p, -s $p, -z $p, -l $p, -o $p, -T $p, -B $p), "\n";
}
find({ wanted => sub { print "find $File::Find::name ", -d $_ ? "d" : -s _, "\n" }, preprocess => sub { sort @_ } }, "$root/images", "$root/deep");
find({ wanted => sub { print "nochdir $_\n" if /leaf/ }, no_chdir => 1 }, $root);
for my $f (sort glob("$root/odd/*"), "$root/sizes/05242883.bin") {
  open(my $h, "<:raw", $f) or die "$f: $!"; print "md5 $f ", Digest::MD5->new->addfile($h)->hexdigest, "\n"; close $h;
}
sysopen(my $h, "$root/sizes/00110000.bin", O_RDONLY) or die $!;
sysseek($h, 100_000, SEEK_SET); my $got = sysread($h, my $buf, 20_000); print "sysread $got ", Digest::MD5::md5_hex($buf), "\n";
my $st = File::stat::stat("$root/text/00.txt"); my $st2 = File::stat::stat($h);
print "mode ", S_IMODE($st->mode), " size ", $st->size, " mtime ", $st->mtime, " nlink ", $st->nlink, " fd size ", $st2->size, "\n";
print "same inode ", (File::stat::stat("$root/sizes/00110000.bin")->ino == $st2->ino ? 1 : 0), "\n";
open(my $t, "<", "$root/text/03.txt") or die $!; my $sum = 0; while (<$t>) { $sum += $1 if /^(\d+)/; seek($t, 1000, SEEK_CUR) if $. == 700 } print "sum $sum at $.\n";
copy("$root/images/n00/img_0000.JPEG", "$scratch/copied") or die $!;
chdir "$root/text" or die $!; print "cwd ", getcwd(), " ", Cwd::abs_path("../odd"), " ", -s "00.txt", "\n";
for my $w (sub { open my $x, ">", "00.txt" }, sub { unlink "00.txt" }, sub { mkdir "new" }, sub { rename "00.txt", "a" }, sub { symlink "a", "b" }, sub { utime 1, 1, "00.txt" }) { $! = 0; my $ok = $w->(); print "write ", $ok ? 1 : 0, " $!\n"; }
print "child ", scalar(`wc -c < 00.txt; ls | wc -l`), "\n"; open(my $pipe, "-|", "cat", "$root/text/01.txt") or die $!; my @l = <$pipe>; print "pipe ", scalar(@l), "\n";
