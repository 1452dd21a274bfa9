// What a command line says of itself, for people's shells and man(1): made from its description in CLI11, so that it is
// complete by construction. Threads: any.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace larder {

// A page of man(7): name, synopsis, each subcommand with its options. `rest` is roff that follows, such as files and
// exit statuses.
std::string manual_page(const CLI::App& app, int section, std::string_view rest);

// A script that completes subcommands, options and their values: for "bash", "zsh" or "fish"; nothing for others.
std::optional<std::string> completion_script(const CLI::App& app, std::string_view shell);

}  // namespace larder
