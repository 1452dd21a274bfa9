// Runs a fuzz target without libFuzzer.
//
//   build/replay/NAME [ROUNDS]        the seeds, then so many mutations of them; 200,000 unless given. Ends by a signal
//   if
//                                     one breaks a promise, after its bytes were written to stderr
//   build/replay/NAME --seeds FOLDER  writes the seeds as files, for libFuzzer
//   build/replay/NAME FILE...         inputs that libFuzzer found
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/fuzz.h"

namespace {

std::string current;

// The input, as \xNN: enough to make a test of it.
void tell(int sig) {
  static const char kDigits[] = "0123456789abcdef";
  for (unsigned char c : current) {
    const char out[4] = {'\\', 'x', kDigits[c >> 4], kDigits[c & 15]};
    (void)!write(2, out, sizeof out);
  }
  (void)!write(2, "\n", 1);
  signal(sig, SIG_DFL);
  raise(sig);
}

void run(std::string input) {
  current = std::move(input);
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(current.data()), current.size());
}

using Random = std::mt19937_64;

size_t below(Random& random, size_t n) {
  return n ? random() % n : 0;
}

void mutate_once(std::string& text, const std::string& other, Random& random) {
  static const char kEdges[] = {0, 1, 0x7f, static_cast<char>(0x80), static_cast<char>(0xff), '\n', '/', '"'};
  const size_t at = below(random, text.size() + 1);
  switch (random() % 7) {
    case 0:
      text.insert(at, 1, static_cast<char>(random()));
      break;
    case 1:
      text.erase(at, 1 + below(random, 8));
      break;
    case 2:
      text.resize(at);
      break;
    case 3:
      text.insert(at, other, below(random, other.size()), below(random, 64));
      break;
    case 4:
      text.insert(at, text, at, below(random, 32));
      break;
    case 5:
      if (at < text.size()) text[at] = kEdges[random() % sizeof kEdges];
      break;
    default:
      if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << random() % 8));
  }
}

int replay(const std::vector<std::string>& seeds, unsigned long rounds) {
  Random random(1);
  for (const std::string& seed : seeds)
    run(seed);
  for (unsigned long i = 0; i < rounds; ++i) {
    std::string text = seeds[i % seeds.size()];
    const std::string& other = seeds[below(random, seeds.size())];
    for (size_t n = 1 + below(random, 5); n > 0; --n)
      mutate_once(text, other, random);
    run(std::move(text));
  }
  printf("%lu inputs\n", seeds.size() + rounds);
  return 0;
}

int write_seeds(const std::vector<std::string>& seeds, const std::string& folder) {
  for (size_t i = 0; i < seeds.size(); ++i) {
    std::ofstream file(folder + "/seed-" + std::to_string(i), std::ios::binary);
    if (!(file << seeds[i]).flush()) return fprintf(stderr, "cannot write into %s\n", folder.c_str()), 1;
  }
  return 0;
}

int run_files(int count, char** names) {
  for (int i = 0; i < count; ++i) {
    std::ifstream file(names[i], std::ios::binary);
    if (!file) return fprintf(stderr, "cannot read %s\n", names[i]), 1;
    run({std::istreambuf_iterator<char>(file), {}});
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> seeds = fuzz_seeds();
  if (seeds.empty()) return fputs("a target without seeds\n", stderr), 2;
  if (argc == 3 && !strcmp(argv[1], "--seeds")) return write_seeds(seeds, argv[2]);
  for (int sig : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP})
    signal(sig, tell);
  char* end = argv[argc - 1];
  const unsigned long rounds = argc == 2 ? strtoul(argv[1], &end, 10) : 200000;
  return argc == 1 || *end == 0 ? replay(seeds, rounds) : run_files(argc - 1, argv + 1);
}
