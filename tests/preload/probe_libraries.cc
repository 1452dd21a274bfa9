// Loads libraries of a folder and prints what they return and what they are called. probe_libraries ROOT NAME...: equal
// bare and preloaded.
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

#include <set>
#include <string>

namespace {

std::string root;

std::string clean(const char* text) {
  std::string s = text != nullptr ? text : "none";
  for (size_t at; (at = s.find(root)) != std::string::npos;)
    s.replace(at, root.size(), "$R");
  return s;
}

int note_name(struct dl_phdr_info* info, size_t, void* names) {
  if (strstr(info->dlpi_name, root.c_str()) != nullptr)
    static_cast<std::set<std::string>*>(names)->insert(clean(info->dlpi_name));
  return 0;
}

void say_names(void* function, void* handle) {
  Dl_info info = {};
  void* map = nullptr;
  char origin[4096] = "";
  const int found = dladdr(function, &info);
  printf("  dladdr %d %s %s\n", found, clean(info.dli_fname).c_str(), clean(info.dli_sname).c_str());
  const int more = dladdr1(function, &info, &map, RTLD_DL_LINKMAP);
  printf("  dladdr1 %d %s\n", more, clean(info.dli_fname).c_str());
  const int r = dlinfo(handle, RTLD_DI_ORIGIN, origin);
  printf("  origin %d %s\n", r, clean(origin).c_str());
}

void* load(const std::string& path, int mode) {
  void* handle = dlopen(path.c_str(), mode);
  if (handle == nullptr) printf("%s: %s\n", clean(path.c_str()).c_str(), clean(dlerror()).c_str());
  return handle;
}

}  // namespace

int main(int argc, char** argv) {
  root = argv[1];
  for (int i = 2; i < argc; ++i) {
    const std::string path = root + "/" + argv[i];
    printf("%s not loaded: %d\n", argv[i], dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD) == nullptr);
    void* handle = load(path, RTLD_NOW);
    if (handle == nullptr) continue;
    void* function = dlsym(handle, "value");
    printf("%s: %d\n", argv[i], function != nullptr ? reinterpret_cast<int (*)()>(function)() : -1);
    say_names(function, handle);
    void* again = load(path, RTLD_NOW);
    printf("  the same again %d, there %d\n", again == handle, dlopen(path.c_str(), RTLD_NOW | RTLD_NOLOAD) == handle);
  }
  std::set<std::string> names;
  dl_iterate_phdr(note_name, &names);
  for (const auto& name : names)
    puts(name.c_str());
}
