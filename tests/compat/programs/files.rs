// std::fs: read_dir, metadata, File, seek, copy, canonicalize, symlinks, errors, threads, child processes.
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn hash(b: &[u8]) -> u64 { let mut h = DefaultHasher::new(); h.write(b); h.finish() }

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap()).collect();
    entries.sort_by_key(|e| e.file_name());
    for e in entries {
        let (t, m) = (e.file_type().unwrap(), e.metadata().unwrap());
        println!("{:?} {} {} {:o} {}", e.path(), t.is_dir(), t.is_symlink(), m.permissions().mode(), m.mtime());
        assert_eq!(e.ino(), m.ino());
        if t.is_dir() { walk(&e.path(), files) } else { files.push(e.path()) }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (root, scratch) = (Path::new(&args[1]), Path::new(&args[2]));
    let mut files = vec![];
    walk(root, &mut files);
    for f in &files { println!("read {:?} {:x} {}", f, hash(&fs::read(f).unwrap()), fs::symlink_metadata(f).unwrap().len()); }
    let sums: Vec<_> = std::thread::scope(|s| files.chunks(10).map(|c| s.spawn(move || c.iter().map(|f| hash(&fs::read(f).unwrap())).fold(0u64, |a, b| a.wrapping_add(b)))).collect::<Vec<_>>().into_iter().map(|t| t.join().unwrap()).collect());
    println!("threads {:?}", sums);
    let mut f = File::open(root.join("sizes/00110000.bin")).unwrap();
    let mut buf = vec![0u8; 5000];
    println!("seek {}", f.seek(SeekFrom::End(-7000)).unwrap());
    f.read_exact(&mut buf).unwrap();
    println!("read {:x} at {}", hash(&buf), f.stream_position().unwrap());
    println!("read_at {} {:x}", f.read_at(&mut buf, 50_000).unwrap(), hash(&buf));
    println!("fstat {} {}", f.metadata().unwrap().len(), f.metadata().unwrap().ino() == fs::metadata(root.join("sizes/00110000.bin")).unwrap().ino());
    let clone = f.try_clone().unwrap();
    println!("clone {}", clone.metadata().unwrap().len());
    println!("lines {}", BufReader::new(File::open(root.join("text/00.txt")).unwrap()).lines().map(|l| l.unwrap().len()).sum::<usize>());
    println!("copy {}", fs::copy(root.join("sizes/05242883.bin"), scratch.join("copy")).unwrap());
    println!("canonical {:?}", fs::canonicalize(root.join("odd/../text/00.txt")).unwrap());
    std::os::unix::fs::symlink(root.join("text"), scratch.join("link")).unwrap();
    println!("symlink {:?} {}", fs::canonicalize(scratch.join("link/03.txt")).unwrap(), fs::read_dir(scratch.join("link")).unwrap().count());
    println!("exists {} {}", root.join("text").exists(), root.join("none").exists());
    println!("nofollow {:?}", fs::OpenOptions::new().read(true).custom_flags(0o400000).open(root.join("text/00.txt")).is_ok());
    println!("missing {:?}", File::open(root.join("none")).unwrap_err());
    println!("write {:?}", File::create(root.join("text/00.txt")).unwrap_err());
    println!("new {:?}", File::create(root.join("new")).unwrap_err());
    println!("append {:?}", fs::OpenOptions::new().append(true).open(root.join("text/00.txt")).unwrap_err());
    println!("mkdir {:?}", fs::create_dir(root.join("new")).unwrap_err());
    println!("remove {:?} {:?}", fs::remove_file(root.join("text/00.txt")).unwrap_err(), fs::remove_dir_all(root.join("deep")).unwrap_err());
    println!("rename {:?}", fs::rename(root.join("text/00.txt"), root.join("b")).unwrap_err());
    println!("not a folder {:?}", fs::read_dir(root.join("text/00.txt")).err());
    println!("read a folder {:?}", fs::read(root.join("text")).err());
    let out = Command::new("sh").args(["-c", "pwd; ls | wc -l; md5sum"]).current_dir(root.join("text")).stdin(Stdio::from(File::open(root.join("text/01.txt")).unwrap())).output().unwrap();
    println!("child {:?} {}", out.status, String::from_utf8_lossy(&out.stdout));
    std::env::set_current_dir(root.join("images")).unwrap();
    println!("cwd {:?} {}", std::env::current_dir().unwrap(), fs::read_dir(".").unwrap().count());
}
