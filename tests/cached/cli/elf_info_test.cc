#include "cached/cli/elf_info.h"

#include <elf.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>

namespace larder::cli {
namespace {

namespace fs = std::filesystem;

class ElfInfo : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "larder-elf-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& bytes, mode_t mode = 0755) {
    std::string path = folder_ + "/" + name;
    std::ofstream(path, std::ios::binary) << bytes;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }

  // The start of an ELF program; `interpreter` empty: a static one.
  static std::string elf(const std::string& interpreter, uint16_t machine = native()) {
    Elf64_Ehdr h{};
    memcpy(h.e_ident, ELFMAG, SELFMAG);
    h.e_ident[EI_CLASS] = ELFCLASS64;
    h.e_ident[EI_DATA] = ELFDATA2LSB;
    h.e_ident[EI_VERSION] = EV_CURRENT;
    h.e_version = EV_CURRENT;
    h.e_ehsize = sizeof h;
    h.e_phentsize = sizeof(Elf64_Phdr);
    h.e_type = ET_DYN;
    h.e_machine = machine;
    h.e_phoff = sizeof h;
    h.e_phnum = 1;
    Elf64_Phdr p{};
    p.p_type = interpreter.empty() ? PT_LOAD : PT_INTERP;
    p.p_offset = sizeof h + sizeof p;
    p.p_filesz = interpreter.size() + 1;
    return std::string(reinterpret_cast<char*>(&h), sizeof h) + std::string(reinterpret_cast<char*>(&p), sizeof p) +
           interpreter + '\0';
  }
  static uint16_t native() {
#if defined(__aarch64__)
    return EM_AARCH64;
#else
    return EM_X86_64;
#endif
  }

  std::string folder_;
};

TEST_F(ElfInfo, AProgramOfThisMachineIsDynamic) {
  auto info = inspect_file("/bin/sh");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->kind, ProgramKind::kDynamic);
  EXPECT_NE(info->interpreter.find("ld-linux"), std::string::npos) << info->interpreter;
  EXPECT_EQ(why_not_served({*info}), "");
}

TEST_F(ElfInfo, AStaticProgramIsToldSo) {
  auto info = inspect_file(write("static", elf("")));
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->kind, ProgramKind::kStatic);
  EXPECT_NE(why_not_served({*info}).find("statically linked"), std::string::npos);
}

TEST_F(ElfInfo, MuslAndOtherMachines) {
  auto musl = inspect_file(write("musl", elf("/lib/ld-musl-x86_64.so.1")));
  ASSERT_TRUE(musl.ok());
  EXPECT_TRUE(musl->musl);
  EXPECT_NE(why_not_served({*musl}).find("musl"), std::string::npos);
  auto other = inspect_file(write("other", elf("/lib/ld.so", EM_S390)));
  ASSERT_TRUE(other.ok());
  EXPECT_TRUE(other->other_machine);
  EXPECT_NE(why_not_served({*other}).find("architecture"), std::string::npos);
}

TEST_F(ElfInfo, ASetUserIdProgramIsToldSo) {
  std::string path = write("setuid", elf("/lib64/ld-linux-x86-64.so.2"));
  bool root = geteuid() == 0;
  if (root) {
    ASSERT_EQ(chown(path.c_str(), 1, 1), 0);
  }
  ASSERT_EQ(chmod(path.c_str(), 04755), 0);
  auto info = inspect_file(path);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->secure, root) << "a program that is set-user-ID to the caller changes nothing";
  if (root) {
    EXPECT_NE(why_not_served({*info}).find("set-user-ID"), std::string::npos);
  }
}

TEST_F(ElfInfo, ScriptsAreFollowedToTheirProgram) {
  std::string tool = write("tool", elf(""));
  std::string inner = write("inner", "#! " + tool + " -x\nbody\n");
  std::string outer = write("outer", "#!/usr/bin/env -S NAME=1 " + inner + " -y\n");
  auto chain = inspect_command(outer);
  ASSERT_TRUE(chain.ok()) << chain.error().message;
  ASSERT_EQ(chain->size(), 3u);
  EXPECT_EQ((*chain)[0].kind, ProgramKind::kScript);
  EXPECT_EQ((*chain)[0].interpreter, "/usr/bin/env");
  EXPECT_EQ((*chain)[1].path, inner);
  EXPECT_EQ((*chain)[2].path, tool);
  EXPECT_NE(why_not_served(*chain).find("statically linked"), std::string::npos);
}

TEST_F(ElfInfo, AScriptThatReadsItselfEnds) {
  std::string path = folder_ + "/loop";
  write("loop", "#!" + path + "\n");
  auto chain = inspect_command(path);
  ASSERT_TRUE(chain.ok());
  EXPECT_EQ(chain->size(), 5u);
}

TEST_F(ElfInfo, FindsCommandsAsExecvpDoes) {
  write("here", elf("x"));
  write("plain", "text", 0644);
  std::string old = getenv("PATH");
  setenv("PATH", ("/nowhere:" + folder_).c_str(), 1);
  auto here = find_command("here"), plain = find_command("plain"), none = find_command("none"),
       empty = find_command("");
  setenv("PATH", old.c_str(), 1);
  ASSERT_TRUE(here.ok());
  EXPECT_EQ(*here, folder_ + "/here");
  ASSERT_FALSE(none.ok() || empty.ok() || plain.ok());
  EXPECT_EQ(plain.error().code, EACCES);
  EXPECT_EQ(none.error().code, ENOENT);
  EXPECT_EQ(empty.error().code, ENOENT);
  EXPECT_EQ(find_command(folder_).error().code, EACCES) << "a folder is no command";
  EXPECT_EQ(find_command("/bin/sh/x").error().code, ENOENT);
}

TEST_F(ElfInfo, NeededGlibcOfARealLibrary) {
  auto needs = needed_glibc("/proc/self/exe");
  ASSERT_TRUE(needs.ok()) << needs.error().message;
  EXPECT_EQ(needs->rfind("2.", 0), 0u) << *needs;
  EXPECT_EQ(needed_glibc(write("text", "no ELF")).error().code, ENOEXEC);
  EXPECT_EQ(needed_glibc(folder_ + "/none").error().code, ENOENT);
}

// Whatever a file claims, reading it ends and stays inside the file.
TEST_F(ElfInfo, BrokenFilesAreHarmless) {
  std::ifstream self("/proc/self/exe", std::ios::binary);
  std::string good(200000, '\0');
  self.read(good.data(), static_cast<std::streamsize>(good.size()));
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string bad = good.substr(0, round % 3 ? good.size() : random() % good.size());
    for (int i = 0; i < 20 && bad.size() > 64; ++i)
      bad[16 + random() % 48] = static_cast<char>(random());
    std::string path = write("bad", bad);
    auto info = inspect_file(path);
    ASSERT_TRUE(info.ok());
    (void)needed_glibc(path);
  }
  for (const char* text : {"", "#", "#!", "#!\n", "#! \t \n",
                           "\x7f"
                           "ELF"}) {
    auto info = inspect_file(write("odd", text));
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->kind, ProgramKind::kUnknown) << text;
  }
}

}  // namespace
}  // namespace larder::cli
