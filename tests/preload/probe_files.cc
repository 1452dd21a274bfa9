// Calls that tell a file from a folder, on a file's descriptor: to the kernel, the descriptor of a lazy object is a
// directory. probe_files ROOT: one line a call, equal bare and preloaded; a/big is the file. Positions are printed,
// since a call that takes the file for a folder moves them.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>
#include <wchar.h>

#include <string>

extern char** environ;
extern "C" {
wchar_t* __fgetws_chk(wchar_t*, size_t, int, FILE*);
wchar_t* __fgetws_unlocked_chk(wchar_t*, size_t, int, FILE*);
// The names without a standard's prefix, which old programs have.
int old_fwscanf(FILE*, const wchar_t*, ...) __asm__("fwscanf");
int old_wscanf(const wchar_t*, ...) __asm__("wscanf");
int old_vfwscanf(FILE*, const wchar_t*, va_list) __asm__("vfwscanf");
int old_vwscanf(const wchar_t*, va_list) __asm__("vwscanf");
}

namespace {

std::string file, by_number;
int fd;
char buffer[4096];

const char* err() {
  return errno ? strerrorname_np(errno) : "0";
}

// The result, errno, and where the file stands.
void say(const char* what, long result) {
  const char* error = result < 0 ? err() : "0";
  printf("%s = %ld %s at %ld\n", what, result < 0 ? -1 : result, error, static_cast<long>(lseek(fd, 0, SEEK_CUR)));
}

#define CALL(expr)                    \
  do {                                \
    errno = 0;                        \
    const long result = (long)(expr); \
    say(#expr, result);               \
  } while (0)

// The same for calls that return a descriptor or a pointer: its value is not printed.
#define MADE(expr)             \
  do {                         \
    errno = 0;                 \
    const bool made = (expr);  \
    say(#expr, made ? 0 : -1); \
  } while (0)

int opened(int got) {
  if (got >= 0) close(got);
  return got < 0 ? -1 : 0;
}

void listings() {
  CALL(getdents64(fd, buffer, sizeof(buffer)));
  CALL(syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
#if defined(SYS_getdents)
  CALL(syscall(SYS_getdents, fd, buffer, sizeof(buffer)));
#endif
  off_t base = 0;
  CALL(getdirentries(fd, buffer, sizeof(buffer), &base));
  off64_t base64 = 0;
  CALL(getdirentries64(fd, buffer, sizeof(buffer), &base64));
  MADE(fdopendir(fd) != nullptr);
  MADE(opendir(by_number.c_str()) != nullptr);
  struct dirent** names;
  CALL(scandirat(fd, ".", &names, nullptr, nullptr));
  CALL(scandir(by_number.c_str(), &names, nullptr, nullptr));
}

void current_folder() {
  CALL(fchdir(fd));
  CALL(chdir(by_number.c_str()));
  CALL(chdir(file.c_str()));
  CALL(syscall(SYS_fchdir, fd));
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  int added = posix_spawn_file_actions_addfchdir_np(&actions, fd);
  char name[] = "true", *argv[] = {name, nullptr};
  pid_t pid;
  if (added == 0) added = posix_spawnp(&pid, "true", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  CALL(added == ENOTDIR ? 0 : -1);
}

void relative_reads() {
  struct stat st;
  struct statx x;
  for (const char* name : {"x", ".", "..", "./x", "../x", "x/y", "../../x", "./"}) {
    printf("-- %s\n", name);
    CALL(opened(openat(fd, name, O_RDONLY)));
    CALL(opened(openat(fd, name, O_RDONLY | O_DIRECTORY)));
    CALL(opened(openat(fd, name, O_PATH)));
    CALL(fstatat(fd, name, &st, 0));
    CALL(fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW));
    CALL(statx(fd, name, 0, STATX_BASIC_STATS, &x));
    CALL(faccessat(fd, name, R_OK, 0));
    CALL(readlinkat(fd, name, buffer, sizeof(buffer)));
    CALL(opened(openat(AT_FDCWD, (by_number + "/" + name).c_str(), O_RDONLY)) == 0 && name[0] == 'x' ? 0 : -1);
  }
  CALL(opened(openat(fd, "", O_RDONLY)));
  CALL(opened(openat(fd, file.c_str(), O_RDONLY)));
  CALL(opened(open(by_number.c_str(), O_RDONLY | O_DIRECTORY)));
  CALL(opened(open(by_number.c_str(), O_RDONLY)));
}

void relative_writes() {
  for (const char* name : {"x", ".", "..", "./x", "x/y"}) {
    printf("-- %s\n", name);
    CALL(opened(openat(fd, name, O_WRONLY | O_CREAT, 0600)));
    CALL(opened(openat(fd, name, O_RDWR)));
    CALL(opened(openat(fd, name, O_TMPFILE | O_WRONLY, 0600)));
    CALL(mkdirat(fd, name, 0700));
    CALL(mkfifoat(fd, name, 0600));
    CALL(mknodat(fd, name, S_IFREG | 0600, 0));
    CALL(symlinkat("there", fd, name));
    CALL(linkat(AT_FDCWD, file.c_str(), fd, name, 0));
    CALL(linkat(fd, name, AT_FDCWD, "/nowhere/x", 0));
    CALL(renameat(fd, name, AT_FDCWD, "/nowhere/x"));
    CALL(renameat(AT_FDCWD, file.c_str(), fd, name));
    CALL(unlinkat(fd, name, 0));
    CALL(unlinkat(fd, name, AT_REMOVEDIR));
    CALL(fchmodat(fd, name, 0600, 0));
    CALL(fchownat(fd, name, 0, 0, 0));
    CALL(utimensat(fd, name, nullptr, 0));
    CALL(futimesat(fd, name, nullptr));
  }
}

void descriptor_calls() {
  struct stat st;
  struct statfs fs;
  CALL(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1);
  CALL(stat(by_number.c_str(), &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1);
  CALL(fstatfs(fd, &fs));
  CALL(fcntl(fd, F_GETFL));
  CALL(fcntl(fd, F_GETFD));
  CALL(fcntl(fd, F_NOTIFY, 0));
  CALL(fcntl(fd, F_NOTIFY, DN_ACCESS));
  CALL(access(by_number.c_str(), R_OK));
  CALL(access(by_number.c_str(), X_OK));
  CALL(access(by_number.c_str(), W_OK));
  CALL(faccessat(fd, "", X_OK, AT_EMPTY_PATH));
  CALL(fsync(fd));
  CALL(fdatasync(fd));
  CALL(ftruncate(fd, 0));
  CALL(fallocate(fd, 0, 0, 1));
  CALL(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
  CALL(write(fd, "x", 1));
  CALL(pwrite(fd, "x", 1, 0));
  int unread = -1;
  CALL(ioctl(fd, FIONREAD, &unread) == 0 ? unread : -1);
  CALL(syscall(SYS_ioctl, fd, FIONREAD, &unread) == 0 ? unread : -1);
  CALL(ioctl(fd, TCGETS, buffer));
  CALL(copy_file_range(fd, nullptr, fd, nullptr, 1, 0));
  MADE(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
  MADE(mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
  MADE(mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 1) != MAP_FAILED);
  MADE(mmap(nullptr, 0, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
  CALL(execveat(fd, "", environ, environ, AT_EMPTY_PATH));
  CALL(execveat(fd, "x", environ, environ, 0));
}

// ---- wide streams ---------------------------------------------------------------------------------------------------

FILE* stream;

// How a stream stands: position, end and error.
void say_stream(const char* what, long result) {
  const char* error = result < 0 ? err() : "0";
  printf("%s = %ld %s at %ld eof %d error %d\n", what, result, error, ftell(stream), feof(stream) != 0,
         ferror(stream) != 0);
}
#define WIDE(expr)                   \
  do {                               \
    errno = 0;                       \
    const long result = (int)(expr); \
    say_stream(#expr, result);       \
  } while (0)

// A checksum of a line, or -1.
int line_sum(const wchar_t* line) {
  if (line == nullptr) return -1;
  unsigned sum = 5381;
  for (; *line != 0; ++line)
    sum = sum * 33 + static_cast<unsigned>(*line);
  return static_cast<int>(sum & 0x7fffffff);
}

int scan(FILE* from, const wchar_t* format, ...) {
  va_list values;
  va_start(values, format);
  const int fields = ftell(from) % 2 != 0 ? vfwscanf(from, format, values) : old_vfwscanf(from, format, values);
  va_end(values);
  return fields;
}
int scan_input(const wchar_t* format, ...) {
  va_list values;
  va_start(values, format);
  const int fields = ftell(stdin) % 2 != 0 ? vwscanf(format, values) : old_vwscanf(format, values);
  va_end(values);
  return fields;
}

void wide_characters() {
  wchar_t line[64];
  for (int i = 0; i < 40; ++i)
    WIDE(i % 2 != 0 ? fgetwc(stream) : getwc(stream));
  for (int i = 0; i < 20; ++i)
    WIDE(i % 2 != 0 ? fgetwc_unlocked(stream) : getwc_unlocked(stream));
  // libc's own positions are wrong after ungetwc: they are not compared.
  const long before = ftell(stream);
  const bool back = ungetwc(0x20ac, stream) == 0x20ac && fgetwc(stream) == 0x20ac && ungetwc(WEOF, stream) == WEOF;
  const long next = static_cast<long>(fgetwc(stream));
  WIDE(fseek(stream, before, SEEK_SET));
  WIDE(back);
  WIDE(next);
  WIDE(line_sum(fgetws(line, 64, stream)));
  WIDE(line_sum(fgetws(line, 5, stream)));
  WIDE(line_sum(fgetws(line, 1, stream)));
  WIDE(line_sum(fgetws_unlocked(line, 64, stream)));
  WIDE(line_sum(__fgetws_chk(line, 64, 64, stream)));
  WIDE(line_sum(__fgetws_unlocked_chk(line, 64, 64, stream)));
  WIDE(fwide(stream, 0));
  WIDE(fwide(stream, -1));
}

void wide_fields() {
  int number = 0, other = 0;
  wchar_t word[64] = L"";
  WIDE(fwscanf(stream, L"%d %63ls line %d", &number, word, &other));
  WIDE(number * 3 + other + line_sum(word) % 1000);
  WIDE(scan(stream, L"%d %63ls line %d", &number, word, &other));
  WIDE(number * 3 + other + line_sum(word) % 1000);
  WIDE(fwscanf(stream, L"never"));
  WIDE(fgetwc(stream));
  WIDE(old_fwscanf(stream, L"%d", &number));
  WIDE(number);
}

void wide_end() {
  wchar_t line[64];
  WIDE(fseek(stream, -40, SEEK_END));
  wchar_t* got = nullptr;
  for (int i = 0; i < 4; ++i)
    WIDE(line_sum(got = fgetws(line, 64, stream)));
  clearerr(stream);
  rewind(stream);
  WIDE(fwide(stream, 0));
  int lines = 0;
  unsigned sum = 0;
  while (fgetws(line, 64, stream) != nullptr)
    ++lines, sum = sum * 31 + static_cast<unsigned>(line_sum(line));
  WIDE(lines);
  WIDE(sum & 0x7fffffff);
}

void wide_input() {
  stream = stdin;
  for (int i = 0; i < 10; ++i)
    WIDE(i % 2 != 0 ? getwchar() : getwchar_unlocked());
  int number = 0;
  WIDE(wscanf(L"%*ls %d", &number));
  WIDE(number);
  WIDE(scan_input(L"%d", &number));
  WIDE(number);
  WIDE(old_wscanf(L"%*ls %*ls %d", &number));
  WIDE(number);
  WIDE(getwchar());
}

void wide(const char* root) {
  setlocale(LC_ALL, "C.UTF-8");
  const std::string words = std::string(root) + "/words";
  stream = fopen(words.c_str(), "r");
  WIDE(fwide(stream, 0));
  WIDE(fwide(stream, 1));
  wide_characters();
  wide_fields();
  wide_end();
  fclose(stream);
  stream = fopen(words.c_str(), "r");
  WIDE(fgetc(stream));
  WIDE(fwide(stream, 1));
  fclose(stream);
  stream = fopen(words.c_str(), "r,ccs=UTF-8");
  WIDE(stream != nullptr ? fgetwc(stream) : -1);
  fclose(stream);
}

// A program whose standard input is the file: it can only be one that was started so.
void start_with_input(const char* self, const char* root) {
  const std::string words = std::string(root) + "/words";
  fflush(stdout);
  const int in = open(words.c_str(), O_RDONLY);
  dup2(in, 0);
  execl(self, self, root, "input", nullptr);
}

}  // namespace

int main(int, char** argv) {
  setvbuf(stdout, nullptr, _IOLBF, 0);
  if (strcmp(argv[2], "input") == 0) {
    setlocale(LC_ALL, "C.UTF-8");
    return wide_input(), 0;
  }
  file = std::string(argv[1]) + "/a/big";
  fd = open(file.c_str(), O_RDONLY);
  if (fd < 0) return perror(file.c_str()), 1;
  by_number = "/proc/self/fd/" + std::to_string(fd);
  lseek(fd, 100, SEEK_SET);
  listings();
  current_folder();
  relative_reads();
  relative_writes();
  descriptor_calls();
  CALL(read(fd, buffer, 50));
  wide(argv[1]);
  start_with_input(argv[0], argv[1]);
}
