// The standard streams of our own programs: larder, larderd, larder-exec. What they say must not end or change them, so
// a full disk, a closed descriptor, a pipe that nobody reads any more and `ulimit -f` are errnos of a write, which
// whoever prints a message ignores. libc alone.
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace larder {

namespace standard_streams {
inline constexpr int kSignals[] = {SIGPIPE, SIGXFSZ};
inline struct sigaction found[2];
inline bool saved = false;
}  // namespace standard_streams

// First in main(), before anything is opened. Of 0, 1 and 2, those that are closed are held by a descriptor that cannot
// be read or written (EBADF): no socket, log or database gets their number and then our messages. It closes on exec, so
// that a command gets what the caller gave.
inline void prepare_standard_streams() {
  for (int fd; (fd = ::open("/", O_PATH | O_CLOEXEC)) >= 0;) {
    if (fd <= STDERR_FILENO) continue;
    ::close(fd);
    break;
  }
  struct sigaction ignore = {};
  ignore.sa_handler = SIG_IGN;
  for (int i = 0; i < 2; ++i)
    ::sigaction(standard_streams::kSignals[i], &ignore, &standard_streams::found[i]);
  standard_streams::saved = true;
}

// Before exec of a command: ignored signals are inherited, and these were ours alone.
inline void restore_stream_signals() {
  for (int i = 0; i < 2 && standard_streams::saved; ++i)
    ::sigaction(standard_streams::kSignals[i], &standard_streams::found[i], nullptr);
}

}  // namespace larder
