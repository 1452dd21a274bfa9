// The JVM's ways to files: java.io, java.nio, channels, mappings, walks, zip, process.
import java.io.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.nio.file.attribute.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class Files {
  static String md5(byte[] b) throws Exception { return String.format("%032x", new java.math.BigInteger(1, MessageDigest.getInstance("MD5").digest(b))); }
  static void say(Object... a) { System.out.println(Arrays.stream(a).map(String::valueOf).collect(Collectors.joining(" "))); }
  interface Act { void run() throws Exception; }
  static void error(String name, Act act) { try { act.run(); say(name, "worked"); } catch (Exception e) { say(name, e.getClass().getName(), e.getMessage()); } }

  public static void main(String[] args) throws Exception {
    Path root = Path.of(args[0]), scratch = Path.of(args[1]);
    List<Path> files;
    try (Stream<Path> s = java.nio.file.Files.walk(root)) { files = s.sorted().collect(Collectors.toList()); }
    for (Path p : files) {
      PosixFileAttributes a = java.nio.file.Files.readAttributes(p, PosixFileAttributes.class);
      say(p, a.isDirectory(), a.isDirectory() ? 0 : a.size(), PosixFilePermissions.toString(a.permissions()), a.lastModifiedTime(), java.nio.file.Files.getAttribute(p, "unix:nlink"));
    }
    files.removeIf(p -> java.nio.file.Files.isDirectory(p));
    for (Path p : files) say("bytes", p, md5(java.nio.file.Files.readAllBytes(p)));
    for (Path p : files.subList(0, 40)) {
      try (FileInputStream in = new FileInputStream(p.toFile())) { say("stream", p, md5(in.readAllBytes()), new File(p.toString()).length(), p.toFile().lastModified()); }
      try (FileChannel c = FileChannel.open(p)) {
        ByteBuffer b = ByteBuffer.allocateDirect(1000); int n = c.read(b, c.size() / 2); b.flip(); byte[] x = new byte[b.remaining()]; b.get(x); say("channel", n, md5(x), c.size());
        if (c.size() > 0) { MappedByteBuffer m = c.map(FileChannel.MapMode.READ_ONLY, 0, c.size()); m.load(); byte[] y = new byte[m.remaining()]; m.get(y); say("mapped", md5(y)); }
      }
      try (RandomAccessFile r = new RandomAccessFile(p.toFile(), "r")) { r.seek(r.length() / 3); say("random", r.length(), r.read(), r.getFilePointer()); }
    }
    try (BufferedReader r = java.nio.file.Files.newBufferedReader(root.resolve("text/00.txt"))) { say("lines", r.lines().mapToInt(String::length).sum()); }
    try (Scanner s = new Scanner(root.resolve("text/01.txt"))) { s.nextInt(); say("scanner", s.nextLine()); }
    try (DirectoryStream<Path> d = java.nio.file.Files.newDirectoryStream(root.resolve("images/n01"), "*.JPEG")) { TreeSet<String> t = new TreeSet<>(); for (Path p : d) t.add(p.getFileName().toString()); say("glob", t); }
    String[] list = root.resolve("odd").toFile().list(); Arrays.sort(list); say("list", Arrays.asList(list));
    ExecutorService pool = Executors.newFixedThreadPool(16); List<Future<String>> sums = new ArrayList<>();
    for (Path p : files) sums.add(pool.submit(() -> md5(java.nio.file.Files.readAllBytes(p))));
    StringBuilder all = new StringBuilder(); for (Future<String> f : sums) all.append(f.get()); pool.shutdown(); say("threads", md5(all.toString().getBytes()));
    AsynchronousFileChannel async = AsynchronousFileChannel.open(root.resolve("sizes/00110000.bin")); ByteBuffer ab = ByteBuffer.allocate(5000); say("async", async.read(ab, 104000).get(), md5(ab.array())); async.close();
    java.nio.file.Files.copy(root.resolve("sizes/01048577.bin"), scratch.resolve("copy"), StandardCopyOption.REPLACE_EXISTING);
    try (FileChannel in = FileChannel.open(root.resolve("sizes/05242883.bin")); FileChannel out = FileChannel.open(scratch.resolve("sent"), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) { say("transfer", in.transferTo(0, in.size(), out)); }
    say("real", root.resolve("odd/../text/00.txt").toRealPath(), root.toFile().getCanonicalPath(), new File(root + "/text/../text").getCanonicalFile());
    File f = root.resolve("text/00.txt").toFile(); say("can", f.exists(), f.canRead(), f.canWrite(), f.canExecute(), f.isFile(), new File(root + "/none").exists(), f.delete(), f.setReadable(false), f.renameTo(new File(root + "/x")));
    say("same", java.nio.file.Files.isSameFile(root.resolve("text/00.txt"), root.resolve("images/../text/00.txt")), java.nio.file.Files.probeContentType(f.toPath()), java.nio.file.Files.size(f.toPath()), java.nio.file.Files.mismatch(f.toPath(), root.resolve("text/01.txt")));
    FileStore store = java.nio.file.Files.getFileStore(scratch); say("store", store != null);
    error("missing", () -> java.nio.file.Files.readAllBytes(root.resolve("none"))); error("missing io", () -> new FileInputStream(root + "/none").close()); error("notdir", () -> java.nio.file.Files.list(root.resolve("text/00.txt")).close());
    error("write", () -> java.nio.file.Files.write(root.resolve("text/00.txt"), new byte[1])); error("create", () -> java.nio.file.Files.createFile(root.resolve("new"))); error("createdir", () -> java.nio.file.Files.createDirectory(root.resolve("new")));
    error("delete", () -> java.nio.file.Files.delete(root.resolve("text/00.txt"))); error("move", () -> java.nio.file.Files.move(root.resolve("text/00.txt"), root.resolve("x"))); error("rw", () -> new RandomAccessFile(root + "/text/00.txt", "rw").close());
    java.nio.file.Files.createSymbolicLink(scratch.resolve("link"), root.resolve("text")); say("symlink", md5(java.nio.file.Files.readAllBytes(scratch.resolve("link/05.txt"))), scratch.resolve("link/05.txt").toRealPath(), java.nio.file.Files.list(scratch.resolve("link")).count());
    for (String mode : new String[] {"POSIX_SPAWN", "FORK", "VFORK"}) {
      System.setProperty("jdk.lang.Process.launchMechanism", mode);
      Process p = new ProcessBuilder("sh", "-c", "pwd; ls | wc -l; wc -c < 00.txt; md5sum").directory(root.resolve("text").toFile()).redirectInput(root.resolve("text/07.txt").toFile()).redirectErrorStream(true).start();
      say("process", mode, new String(p.getInputStream().readAllBytes()).replace("\n", "|"), p.waitFor());
    }
  }
}
