// fgetwc and its family on streams of lazy objects (stdio.cc). libc gives a stream of fopencookie no wide half: its
// wide functions would follow a null pointer. So these read the stream's bytes and decode them; positions, the end and
// errors are then the stream's own. Every other stream pays a load and a compare.
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <wchar.h>

#include <atomic>

#include "preload/base/next.h"
#include "preload/base/sys.h"
#include "preload/lazy/lazy_read.h"
#include "preload/wrap/open.h"

namespace larder {
namespace {

constexpr int kEndSeen = 0x10, kErrorSeen = 0x20;  // of FILE::_flags, since glibc 2.0

// True for a stream that libc made for bytes alone.
inline bool bytes_alone(const FILE* stream) {
  return __builtin_expect(reinterpret_cast<intptr_t>(stream->_wide_data) == -1, 0);
}

// Which such streams were read as wide ones, for fwide(): a hint, one place a hash.
constinit std::atomic<const FILE*> wide_streams[64] = {};
std::atomic<const FILE*>& wide_place(const FILE* stream) {
  return wide_streams[reinterpret_cast<uintptr_t>(stream) / 64 % 64];
}
void note_wide(const FILE* stream) {
  if (wide_place(stream).load(std::memory_order_relaxed) != stream)
    wide_place(stream).store(stream, std::memory_order_relaxed);
}

class StreamLock {
 public:
  explicit StreamLock(FILE* stream) : stream_(stream) { ::flockfile(stream_); }
  ~StreamLock() { ::funlockfile(stream_); }
  StreamLock(const StreamLock&) = delete;
  StreamLock& operator=(const StreamLock&) = delete;

 private:
  FILE* stream_;
};

// Bytes that are no character stay unread.
wint_t wrong_bytes(FILE* stream, const char* bytes, size_t n) {
  while (n > 0)
    ::ungetc(static_cast<unsigned char>(bytes[--n]), stream);
  stream->_flags |= kErrorSeen;
  errno = EILSEQ;
  return WEOF;
}

// The stream is locked, or the caller's alone.
wint_t read_wide(FILE* stream) {
  note_wide(stream);
  mbstate_t state = {};
  char bytes[MB_LEN_MAX];
  for (size_t i = 0;; ++i) {
    const int c = i < MB_LEN_MAX ? ::getc_unlocked(stream) : EOF;
    if (c == EOF) return i > 0 && (stream->_flags & kErrorSeen) == 0 ? wrong_bytes(stream, bytes, 0) : WEOF;
    bytes[i] = static_cast<char>(c);
    wchar_t wide;
    const size_t n = ::mbrtowc(&wide, &bytes[i], 1, &state);
    if (n == static_cast<size_t>(-1)) return wrong_bytes(stream, bytes, i + 1);
    if (n != static_cast<size_t>(-2)) return static_cast<wint_t>(wide);
  }
}

wchar_t* read_line(wchar_t* out, int size, FILE* stream) {
  if (size <= 0) return nullptr;
  const int before = stream->_flags & kErrorSeen;
  stream->_flags &= ~kErrorSeen;
  int n = 0;
  wint_t c = 0;
  while (n < size - 1 && c != L'\n' && (c = read_wide(stream)) != WEOF)
    out[n++] = static_cast<wchar_t>(c);
  const bool failed = (stream->_flags & kErrorSeen) != 0;
  stream->_flags |= before;
  if ((n == 0 && size > 1) || failed) return nullptr;
  out[n] = 0;
  return out;
}

wint_t push_back(wint_t c, FILE* stream) {
  if (c == WEOF) return WEOF;
  note_wide(stream);
  mbstate_t state = {};
  char bytes[MB_LEN_MAX];
  const size_t n = ::wcrtomb(bytes, static_cast<wchar_t>(c), &state);
  if (n == static_cast<size_t>(-1)) return wrong_bytes(stream, bytes, 0);
  for (size_t i = n; i > 0; --i)
    if (::ungetc(static_cast<unsigned char>(bytes[i - 1]), stream) == EOF) return WEOF;
  return c;
}

int orientation(FILE* stream, int mode) {
  if (wide_place(stream).load(std::memory_order_relaxed) == stream) return 1;
  if (stream->_IO_read_base != nullptr) return -1;  // bytes were read
  if (mode > 0) note_wide(stream);
  return mode > 0 ? 1 : mode < 0 ? -1 : 0;
}

// The object, whole, as an ordinary stream that stands where `stream` does; null and errno (EFBIG: it cannot fit).
FILE* ordinary_stream(FILE* stream) {
  Lazy lazy;
  const int found = find_lazy(stream->_fileno, &lazy);
  const off_t at = ::ftello(stream);
  const int fd = found == 0 ? open_whole(lazy) : found;
  if (fd < 0 || at < 0) return errno = fd < 0 ? -fd : errno, nullptr;
  FILE* ordinary = next.fdopen(fd, "r");
  if (ordinary == nullptr) return sys::close(fd), nullptr;
  if (::fseeko(ordinary, at, SEEK_SET) == 0) return ordinary;
  ::fclose(ordinary);
  return nullptr;
}

// scanf's own grammar is libc's business: it reads an ordinary stream of the same object.
template <typename Scan>
int scan_wide(FILE* stream, Scan scan) {
  StreamLock lock(stream);
  note_wide(stream);
  FILE* ordinary = ordinary_stream(stream);
  if (ordinary == nullptr) {
    stream->_flags |= kErrorSeen;
    return EOF;
  }
  const int fields = scan(ordinary);
  const int error = errno;
  const off_t at = ::ftello(ordinary);
  const int seen = ordinary->_flags & (kEndSeen | kErrorSeen);
  ::fclose(ordinary);
  if (at >= 0) ::fseeko(stream, at, SEEK_SET);
  stream->_flags |= seen;
  errno = error;
  return fields;
}

}  // namespace

void forget_wide(const FILE* stream) {
  if (wide_place(stream).load(std::memory_order_relaxed) == stream)
    wide_place(stream).store(nullptr, std::memory_order_relaxed);
}

}  // namespace larder

using namespace larder;

#define GETWC(name)                                     \
  wint_t larder_##name(FILE* stream) {                  \
    resolve_next();                                     \
    if (!bytes_alone(stream)) return next.name(stream); \
    StreamLock lock(stream);                            \
    return read_wide(stream);                           \
  }
GETWC(fgetwc)
GETWC(getwc)
#define GETWC_UNLOCKED(name)                                            \
  wint_t larder_##name(FILE* stream) {                                  \
    resolve_next();                                                     \
    return bytes_alone(stream) ? read_wide(stream) : next.name(stream); \
  }
GETWC_UNLOCKED(fgetwc_unlocked)
GETWC_UNLOCKED(getwc_unlocked)
wint_t larder_getwchar() {
  resolve_next();
  return bytes_alone(stdin) ? larder_fgetwc(stdin) : next.getwchar();
}
wint_t larder_getwchar_unlocked() {
  resolve_next();
  return bytes_alone(stdin) ? read_wide(stdin) : next.getwchar_unlocked();
}

wchar_t* larder_fgetws(wchar_t* out, int size, FILE* stream) {
  resolve_next();
  if (!bytes_alone(stream)) return next.fgetws(out, size, stream);
  StreamLock lock(stream);
  return read_line(out, size, stream);
}
wchar_t* larder_fgetws_unlocked(wchar_t* out, int size, FILE* stream) {
  resolve_next();
  return bytes_alone(stream) ? read_line(out, size, stream) : next.fgetws_unlocked(out, size, stream);
}
// libc ends the program if the buffer is too small: so it does here.
wchar_t* larder___fgetws_chk(wchar_t* out, size_t room, int size, FILE* stream) {
  resolve_next();
  if (!bytes_alone(stream) || static_cast<size_t>(size) > room) return next.__fgetws_chk(out, room, size, stream);
  return larder_fgetws(out, size, stream);
}
wchar_t* larder___fgetws_unlocked_chk(wchar_t* out, size_t room, int size, FILE* stream) {
  resolve_next();
  if (!bytes_alone(stream) || static_cast<size_t>(size) > room)
    return next.__fgetws_unlocked_chk(out, room, size, stream);
  return read_line(out, size, stream);
}

wint_t larder_ungetwc(wint_t c, FILE* stream) {
  resolve_next();
  if (!bytes_alone(stream)) return next.ungetwc(c, stream);
  StreamLock lock(stream);
  return push_back(c, stream);
}
int larder_fwide(FILE* stream, int mode) {
  resolve_next();
  return bytes_alone(stream) ? orientation(stream, mode) : next.fwide(stream, mode);
}

#define WSCANF(prefix)                                                                           \
  int larder_##prefix##vfwscanf(FILE* stream, const wchar_t* format, va_list values) {           \
    resolve_next();                                                                              \
    if (!bytes_alone(stream)) return next.prefix##vfwscanf(stream, format, values);              \
    return scan_wide(stream, [&](FILE* s) { return next.prefix##vfwscanf(s, format, values); }); \
  }                                                                                              \
  int larder_##prefix##vwscanf(const wchar_t* format, va_list values) {                          \
    return larder_##prefix##vfwscanf(stdin, format, values);                                     \
  }                                                                                              \
  int larder_##prefix##fwscanf(FILE* stream, const wchar_t* format, ...) {                       \
    va_list values;                                                                              \
    va_start(values, format);                                                                    \
    const int fields = larder_##prefix##vfwscanf(stream, format, values);                        \
    va_end(values);                                                                              \
    return fields;                                                                               \
  }                                                                                              \
  int larder_##prefix##wscanf(const wchar_t* format, ...) {                                      \
    va_list values;                                                                              \
    va_start(values, format);                                                                    \
    const int fields = larder_##prefix##vfwscanf(stdin, format, values);                         \
    va_end(values);                                                                              \
    return fields;                                                                               \
  }
WSCANF()
WSCANF(__isoc99_)
WSCANF(__isoc23_)
