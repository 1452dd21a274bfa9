// larderd as a whole: makes the parts, in order; serves; ends in order. cached/main/larderd.cc is its command line.
#pragma once
#include "cached/config/config.h"
#include "cached/namespace/datasets.h"
#include "larder/result.h"

namespace larder {

// Before any thread is started: signals, limits, no core dumps.
void prepare_process();

// Serves until it is told to end. An error is one line: what is wrong, with what value, and the remedy.
Status run_daemon(const Config& config, StoreOpener open_store);

}  // namespace larder
