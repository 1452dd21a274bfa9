// Opens, maps and lists with iostreams and std::filesystem. Built with -static-libstdc++, with ASan, and as it is.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <vector>

int main(int, char** argv) {
  std::map<std::string, uint64_t> sums;
  for (auto& e : std::filesystem::recursive_directory_iterator(argv[1])) {
    if (!e.is_regular_file()) continue;
    std::ifstream f(e.path(), std::ios::binary);
    std::vector<char> data((std::istreambuf_iterator<char>(f)), {});
    uint64_t h = 1469598103934665603ULL;
    for (char c : data)
      h = (h ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    sums[e.path().string() + " " + std::to_string(e.file_size())] = h + data.size();
  }
  for (auto& [name, sum] : sums)
    std::cout << name << " " << std::hex << sum << std::dec << "\n";
  std::error_code error;
  std::filesystem::remove(std::string(argv[1]) + "/MD5SUMS", error);
  std::cout << "remove " << error << "\n" << std::filesystem::exists(std::string(argv[1]) + "/none") << "\n";
  std::cout << std::filesystem::canonical(std::string(argv[1]) + "/text/../odd") << "\n";
  return 0;
}
