// The mounts that larderd left written beside its socket (kMountsFileSuffix), for a program that nobody answers: what
// is in them is neither there nor missing, so calls wait (await_daemon(), state.h) instead of saying ENOENT.
#pragma once
#include "larder/shm.h"

namespace larder {

// Reads the mounts file of the first socket that has one; null if none has, or if it is not what it should be. The copy
// is overwritten by the next call: under the build lock.
const Control* read_mounts_file();

// Prints one line on stderr, at most once a process, and only if descriptor 2 still is what it was when the process
// started: it may be a data file by now. LARDER_QUIET silences it. No heap, no lock; errno is kept.
enum class Notice { kNobodyAtSocket, kNobodyForPath };
void configure_notices(bool quiet);
void give_notice(Notice what, const char* path);

}  // namespace larder
