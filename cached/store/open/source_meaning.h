// What decides which bytes a source means, besides its URL: options, environment, profile. Two readings of one URL that
// differ in it may mean different objects. Pure but for reading the profile's files; asks no store.
#pragma once
#include <string>
#include <string_view>

#include "cached/store/api/source_meaning.h"
#include "cached/store/auth/credentials.h"

namespace larder {

// EINVAL: no store could be opened like that. Sources that the environment says nothing about have an empty meaning.
Result<SourceMeaning> source_meaning(std::string_view source, const StoreOptions& options, const Environment& env);

// What of `theirs` differs from `ours`, as "endpoint http://a, here http://b"; "": nothing.
std::string difference(const SourceMeaning& ours, const SourceMeaning& theirs);

// Names of the environment variables that source_meaning() looks at, as `larder run` tells a daemon. A secret's value
// is never told: "set" stands for it.
extern const char* const kMeaningVariables[];
extern const size_t kMeaningVariableCount;

}  // namespace larder
