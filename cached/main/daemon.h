// larderd as a whole: makes its parts in order, serves, and ends them in order. cached/main/larderd.cc is its command
// line.
#pragma once
#include "cached/config/config.h"
#include "cached/home/descriptor_store.h"
#include "cached/namespace/datasets.h"
#include "larder/result.h"

namespace larder {

// Sets signals and limits, and disables core dumps. Call it before any thread starts.
void prepare_process();

// Serves until SIGTERM, SIGINT or `shutdown`. An error is one line: what is wrong, with which value, and the remedy.
// `passed` is what the process was started with.
Status run_daemon(const Config& config, StoreOpener open_store, StoredDescriptors passed = {});

}  // namespace larder
