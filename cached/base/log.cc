#include "cached/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

namespace larder {

static Result<spdlog::sink_ptr> make_sink(const std::string& file) {
  if (file.empty()) return spdlog::sink_ptr(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  try {
    return spdlog::sink_ptr(std::make_shared<spdlog::sinks::basic_file_sink_mt>(file));
  } catch (const spdlog::spdlog_ex& e) {
    return make_error(EIO, "cannot write the log file " + file + ": " + e.what() + "; choose another with --log-file");
  }
}

Status set_up_log(const std::string& file, const std::string& level) {
  spdlog::level::level_enum parsed = spdlog::level::from_str(level);
  if (parsed == spdlog::level::off)
    return make_error(EINVAL, "unknown log_level \"" + level + "\"; use trace, debug, info, warn or error");
  Result<spdlog::sink_ptr> sink = make_sink(file);
  if (!sink) return sink.error();
  auto logger = std::make_shared<spdlog::logger>("larderd", *sink);
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(logger);
  return {};
}

}  // namespace larder
