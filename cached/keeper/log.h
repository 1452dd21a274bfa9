// The keeper's lines in larderd's log, in larderd's form: one write each, on stderr.
#pragma once

namespace larder::keeper {

[[gnu::format(printf, 2, 3)]] void log(const char* level, const char* format, ...);

}  // namespace larder::keeper
