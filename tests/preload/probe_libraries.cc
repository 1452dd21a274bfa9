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

// What a program looks up in libc itself is what it finds in the whole program.
void say_functions_of_libc() {
  void* libc = dlopen("libc.so.6", RTLD_NOW);
  const std::string text = root + "/text.so";
  const int fd = reinterpret_cast<int (*)(const char*, int)>(dlsym(libc, "open"))(text.c_str(), 0);
  char buffer[16] = {};
  const ssize_t n = reinterpret_cast<ssize_t (*)(int, void*, size_t)>(dlsym(libc, "read"))(fd, buffer, 15);
  printf("open and read in libc: %d %zd %s\n", fd >= 0, n, buffer);
  int same = 0;
  for (const char* name : {"open", "fopen64", "stat", "mmap", "write", "getdents64", "dlsym", "syscall", "malloc"})
    same += dlsym(libc, name) == dlsym(RTLD_DEFAULT, name) && dlsym(libc, name) != nullptr;
  printf("the same functions: %d, none: %d\n", same,
         dlsym(libc, "no_such_function") == nullptr && dlerror() != nullptr);
  void* math = dlopen("libm.so.6", RTLD_NOW);
  printf("through what needs libc: %d\n", dlsym(math, "open") == dlsym(RTLD_DEFAULT, "open"));
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
  say_functions_of_libc();
  std::set<std::string> names;
  dl_iterate_phdr(note_name, &names);
  for (const auto& name : names)
    puts(name.c_str());
}
