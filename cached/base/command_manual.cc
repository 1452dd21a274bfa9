#include "cached/base/command_manual.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

#include "cached/base/version.h"

namespace larder {
namespace {

using Options = std::vector<const CLI::Option*>;
using Apps = std::vector<const CLI::App*>;

Apps subcommands(const CLI::App& app) {
  Apps out;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App* s) { return !s->get_group().empty(); }))
    out.push_back(sub);
  return out;
}

Options options(const CLI::App& app, bool positional) {
  Options out;
  for (const CLI::Option* option : app.get_options())
    if (option->get_positional() == positional && !option->get_group().empty()) out.push_back(option);
  return out;
}

// "-q", "--quiet".
std::vector<std::string> flags_of(const CLI::Option& option) {
  std::vector<std::string> out;
  for (const std::string& name : option.get_snames())
    out.push_back("-" + name);
  for (const std::string& name : option.get_lnames())
    out.push_back("--" + name);
  return out;
}

bool takes_value(const CLI::Option& option) {
  return option.get_expected_max() > 0 && option.get_items_expected_max() > 0;
}

// "eager", "siblings", "off", of an option that has to be one of them.
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{'), close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

std::string value_of(const CLI::Option& option) {
  if (const auto words = choices(option); !words.empty()) return fmt::format("{}", fmt::join(words, "|"));
  const std::string type = option.get_type_name();
  return type == "TEXT" ? "VALUE" : type.substr(0, type.find_first_of(": "));
}

bool names_a_file(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type == "DIR" || type == "FILE" || option.get_positional();
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

// ---- man(7) -----------------------------------------------------------------------------------------

std::string roff(std::string text) {
  text = replaced(replaced(std::move(text), "\\", "\\e"), "-", "\\-");
  text = replaced(std::move(text), "\n  ", "\n.PP\n.nf\n  ");  // an example, at the end
  return text.starts_with('.') || text.starts_with('\'') ? "\\&" + text : text;
}

std::string roff_options(const CLI::App& app) {
  std::string out;
  for (const bool positional : {true, false}) {
    for (const CLI::Option* option : options(app, positional)) {
      std::string tag = positional ? fmt::format("\\fI{}\\fR", roff(option->get_name()))
                                   : fmt::format("\\fB{}\\fR", fmt::join(flags_of(*option), "\\fR, \\fB"));
      if (!positional) tag = replaced(std::move(tag), "-", "\\-");
      if (!positional && takes_value(*option)) tag += fmt::format(" \\fI{}\\fR", roff(value_of(*option)));
      out += fmt::format(".TP\n{}\n{}\n", tag, roff(option->get_description()));
    }
  }
  return out;
}

std::string synopsis(const CLI::App& app) {
  std::string out = "[OPTIONS]";
  for (const CLI::Option* option : options(app, true))
    out += option->get_required() ? " " + option->get_name() : fmt::format(" [{}]", option->get_name());
  return out;
}

std::string roff_subcommand(const CLI::App& sub) {
  std::string out = fmt::format(".SS {} {}\n{}.\n", sub.get_name(), roff(synopsis(sub)), roff(sub.get_description()));
  out += roff_options(sub);
  if (!sub.get_footer().empty()) out += fmt::format(".PP\n{}\n.fi\n", roff(sub.get_footer()));
  return out;
}

// ---- bash -------------------------------------------------------------------------------------------

std::string all_flags(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : options(app, false))
    for (std::string& flag : flags_of(*option))
      out.push_back(std::move(flag));
  return fmt::format("{}", fmt::join(out, " "));
}

std::string bash_values(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : options(app, false)) {
    if (!takes_value(*option)) continue;
    const auto words = choices(*option);
    const std::string values =
        words.empty() ? (names_a_file(*option) ? "-f" : "") : fmt::format("-W \"{}\"", fmt::join(words, " "));
    for (const std::string& flag : flags_of(*option))
      out += fmt::format("    {}:{}) values='{}'; takes=1 ;;\n", app.get_name(), flag, values);
  }
  return out;
}

constexpr const char* kBash = R"sh(# bash completion for {0}
_{0}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} sub= flags= values= takes= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${{COMP_WORDS[i]}} == -- ]]; then  # a command of its own
      if declare -F _command_offset >/dev/null; then _command_offset $((i + 1)); return; fi
      if ((COMP_CWORD == i + 1)); then COMPREPLY=($(compgen -c -- "$cur")); else COMPREPLY=($(compgen -f -- "$cur")); fi
      return
    fi
    [[ -z $sub && ${{COMP_WORDS[i]}} != -* ]] && sub=${{COMP_WORDS[i]}}
  done
  case $sub in
    '') COMPREPLY=($(compgen -W "{1}" -- "$cur")); return ;;
{2}  esac
  case $sub:$prev in
{3}  esac
  if [[ -n $takes ]]; then [[ -n $values ]] && eval "COMPREPLY=(\$(compgen $values -- \"\$cur\"))"
  elif [[ $cur == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  else COMPREPLY=($(compgen -f -- "$cur")); fi
}}
complete -o filenames -F _{0} {0}
)sh";

std::string bash(const CLI::App& app) {
  std::vector<std::string> names;
  std::string flags, values;
  for (const CLI::App* sub : subcommands(app)) {
    names.push_back(sub->get_name());
    flags += fmt::format("    {}) flags='{}' ;;\n", sub->get_name(), all_flags(*sub));
    values += bash_values(*sub);
  }
  return fmt::format(kBash, app.get_name(), fmt::join(names, " "), flags, values);
}

// ---- zsh, fish --------------------------------------------------------------------------------------

// Inside single quotes of either shell; zsh's _arguments also splits at ':' and '['.
std::string quoted_text(std::string text, bool zsh) {
  text = replaced(std::move(text), "'", zsh ? "'\\''" : "\\'");
  if (!zsh) return text;
  for (const char* special : {"[", "]", ":"})
    text = replaced(std::move(text), special, std::string("\\") + special);
  return text;
}

std::string zsh_option(const CLI::Option& option) {
  std::string value, out;
  if (takes_value(option)) {
    const auto words = choices(option);
    value = fmt::format(
        ":{}:{}", quoted_text(value_of(option), true),
        words.empty() ? (names_a_file(option) ? "_files" : "") : fmt::format("({})", fmt::join(words, " ")));
  }
  for (const std::string& flag : flags_of(option))
    out += fmt::format(" \\\n      '{}[{}]{}'", flag, quoted_text(option.get_description(), true), value);
  return out;
}

std::string zsh(const CLI::App& app) {
  std::string names, cases;
  for (const CLI::App* sub : subcommands(app)) {
    names += fmt::format("    '{}:{}'\n", sub->get_name(), quoted_text(sub->get_description(), true));
    cases += fmt::format("    {}) _arguments", sub->get_name());
    for (const CLI::Option* option : options(*sub, false))
      cases += zsh_option(*option);
    cases += sub->get_name() == "run" ? " \\\n      '*:::command:_normal' ;;\n" : " \\\n      '*:file:_files' ;;\n";
  }
  return fmt::format(
      "#compdef {0}\nlocal -a commands\ncommands=(\n{1})\nif ((CURRENT == 2)); then _describe command commands\nelse\n"
      "  local sub=${{words[2]}}\n  shift words; ((CURRENT--))\n  case $sub in\n{2}  esac\nfi\n",
      app.get_name(), names, cases);
}

std::string fish_option(const CLI::App& app, const CLI::App& sub, const CLI::Option& option) {
  std::string out = fmt::format("complete -c {} -n '__fish_seen_subcommand_from {}'", app.get_name(), sub.get_name());
  for (const std::string& name : option.get_snames())
    out += " -s " + name;
  for (const std::string& name : option.get_lnames())
    out += " -l " + name;
  if (takes_value(option)) {
    const auto words = choices(option);
    out += names_a_file(option) ? " -rF" : " -x";
    if (!words.empty()) out += fmt::format(" -a '{}'", fmt::join(words, " "));
  }
  return out + fmt::format(" -d '{}'\n", quoted_text(option.get_description(), false));
}

std::string fish(const CLI::App& app) {
  std::string out =
      fmt::format("# fish completion for {0}\ncomplete -c {0} -n __fish_use_subcommand -f\n", app.get_name());
  for (const CLI::App* sub : subcommands(app)) {
    out += fmt::format("complete -c {} -n __fish_use_subcommand -a {} -d '{}'\n", app.get_name(), sub->get_name(),
                       quoted_text(sub->get_description(), false));
    for (const CLI::Option* option : options(*sub, false))
      out += fish_option(app, *sub, *option);
  }
  return out;
}

}  // namespace

std::string manual_page(const CLI::App& app, int section, std::string_view rest) {
  std::string title = app.get_name();
  std::transform(title.begin(), title.end(), title.begin(), [](char c) { return static_cast<char>(std::toupper(c)); });
  const Apps subs = subcommands(app);
  std::string about = app.get_description();
  if (const size_t colon = about.find(": "); colon != std::string::npos) about.erase(0, colon + 2);
  std::string out = fmt::format(".TH {} {} \"\" \"Larder {}\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n.B {}\n{}\n", title,
                                section, kVersion, app.get_name(), roff(about), app.get_name(),
                                subs.empty() ? roff(synopsis(app)) : "\\fICOMMAND\\fR [OPTIONS]");
  out += ".SH OPTIONS\n" + roff_options(app);
  if (!subs.empty()) out += ".SH COMMANDS\n";
  for (const CLI::App* sub : subs)
    out += roff_subcommand(*sub);
  return out += rest;
}

std::optional<std::string> completion_script(const CLI::App& app, std::string_view shell) {
  if (shell == "bash") return bash(app);
  if (shell == "zsh") return zsh(app);
  if (shell == "fish") return fish(app);
  return std::nullopt;
}

}  // namespace larder
