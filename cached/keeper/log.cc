#include "cached/keeper/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

namespace larder::keeper {

void log(const char* level, const char* format, ...) {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  tm broken;
  localtime_r(&now.tv_sec, &broken);
  char line[1024];
  size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &broken);
  n += static_cast<size_t>(snprintf(line + n, sizeof line - n, ".%03ld %s ", now.tv_nsec / 1'000'000, level));
  va_list args;
  va_start(args, format);
  const int more = vsnprintf(line + n, sizeof line - n - 1, format, args);
  va_end(args);
  if (more > 0) n += static_cast<size_t>(more);
  if (n > sizeof line - 2) n = sizeof line - 2;
  line[n++] = '\n';
  (void)!write(STDERR_FILENO, line, n);
}

}  // namespace larder::keeper
