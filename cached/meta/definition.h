// What every metadata engine checks and stores of a dataset's definition. Threads: any; nothing blocks.
#pragma once
#include <string>
#include <string_view>

#include "cached/meta/meta.h"

namespace larder {

bool valid_dataset_name(std::string_view name);

// EINVAL: an invalid name, no id, or an option that is a secret.
Status check_definition(const DatasetDef& def);

std::string options_text(const StoreOptions& options);
// `text` is untrusted. EIO, with a message that names the dataset, if it does not parse.
Result<StoreOptions> parse_options_text(std::string_view dataset, std::string_view text);

Error no_dataset(std::string_view name);  // ENOENT

}  // namespace larder
