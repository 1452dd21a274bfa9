#include "cached/cli/socket_path.h"

#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "larder/wire.h"

namespace larder::cli {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = getenv(name);
  return value ? value : "";
}

bool is_directory(const std::string& path) {
  struct stat st {};
  return stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

// Only where anybody may make a folder (/tmp) could it be somebody else's.
Status own_folder(const std::string& folder) {
  struct stat st {};
  if (lstat(folder.c_str(), &st) != 0)
    return errno == ENOENT ? Status() : make_error(errno, folder + ": " + strerror(errno));
  if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 077) == 0) return {};
  return make_error(
      EACCES, fmt::format("'{}' is not a folder of yours with mode 0700, so its socket is not trusted: remove it, "
                          "or set LARDER_SOCKET or XDG_RUNTIME_DIR",
                          folder));
}

std::string tmp_folder() {
  return fmt::format("/tmp/larder-{}", geteuid());
}

Status check_length(const std::string& path) {
  if (path.size() < sizeof(sockaddr_un::sun_path)) return {};
  return make_error(ENAMETOOLONG, fmt::format("socket path '{}' has {} bytes and a Unix socket's has at most {}: set "
                                              "LARDER_SOCKET to a shorter one",
                                              path, path.size(), sizeof(sockaddr_un::sun_path) - 1));
}

std::string home_folder() {
  std::string home = environment("HOME");
  if (!home.empty()) return home;
  const passwd* pw = getpwuid(geteuid());
  return pw ? pw->pw_dir : "/";
}

Result<SocketPath> choose() {
  std::string set = environment("LARDER_SOCKET");
  if (!set.empty()) return SocketPath{fs::absolute(set).lexically_normal().string(), SocketOrigin::kEnvironment};
  if (access(kDefaultSocket, F_OK) == 0) return SocketPath{kDefaultSocket, SocketOrigin::kSystem};
  std::string runtime = environment("XDG_RUNTIME_DIR");
  if (!runtime.empty() && is_directory(runtime))
    return SocketPath{runtime + "/larder/larder.sock", SocketOrigin::kUser};
  if (Status own = own_folder(tmp_folder()); !own) return own.error();
  return SocketPath{tmp_folder() + "/larder.sock", SocketOrigin::kUser};
}

}  // namespace

Result<SocketPath> find_socket() {
  auto socket = choose();
  if (!socket) return socket;
  if (Status s = check_length(socket->path); !s) return s.error();
  return socket;
}

Status make_socket_folder(const SocketPath& socket) {
  std::string folder = fs::path(socket.path).parent_path().string();
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return make_error(errno, fmt::format("cannot create '{}' for the socket: {}", folder, strerror(errno)));
  return socket.path == tmp_folder() + "/larder.sock" ? own_folder(folder) : Status();
}

Result<std::string> user_state_folder() {
  std::string base = environment("XDG_STATE_HOME");
  if (base.empty() || base[0] != '/') base = home_folder() + "/.local/state";
  std::string folder = base + "/larder";
  std::error_code ec;
  fs::create_directories(folder, ec);
  if (ec)
    return make_error(ec.value(), fmt::format("cannot create '{}': {}; set XDG_STATE_HOME to a writable folder", folder,
                                              ec.message()));
  return folder;
}

}  // namespace larder::cli
