#include "preload/resolve/filters.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stdlib.h>

#include "preload/base/sys.h"
#include "preload/resolve/state.h"

#ifndef SECCOMP_RET_KILL_PROCESS
#define SECCOMP_RET_KILL_PROCESS 0x80000000U
#endif
#ifndef SECCOMP_RET_ACTION_FULL
#define SECCOMP_RET_ACTION_FULL 0xffff0000U
#endif

namespace larder {
namespace {

#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#else
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#endif
constexpr int kNumbers = 512;

// The kernel's machine for filters, on one call's numbers.
class Machine {
 public:
  Machine(const sock_fprog& program, const seccomp_data& data) : program_(program), data_(data) {}

  // What the filter returns. The kernel has checked the program, or will not take it: an odd one ends in "kill".
  uint32_t run() {
    for (uint32_t pc = 0, steps = 0; pc < program_.len && steps < BPF_MAXINSNS; ++pc, ++steps) {
      const sock_filter& i = program_.filter[pc];
      switch (BPF_CLASS(i.code)) {
        case BPF_LD:
          a_ = loaded(i);
          break;
        case BPF_LDX:
          x_ = loaded(i);
          break;
        case BPF_ST:
          memory_[i.k % BPF_MEMWORDS] = a_;
          break;
        case BPF_STX:
          memory_[i.k % BPF_MEMWORDS] = x_;
          break;
        case BPF_ALU:
          a_ = computed(i);
          break;
        case BPF_JMP:
          pc += BPF_OP(i.code) == BPF_JA ? i.k : taken(i) ? i.jt : i.jf;
          break;
        case BPF_RET:
          return BPF_RVAL(i.code) == BPF_A ? a_ : i.k;
        default:
          (BPF_MISCOP(i.code) == BPF_TAX ? x_ : a_) = BPF_MISCOP(i.code) == BPF_TAX ? a_ : x_;
      }
    }
    return SECCOMP_RET_KILL_PROCESS;
  }

 private:
  uint32_t loaded(const sock_filter& i) const {
    uint32_t word = 0;
    switch (BPF_MODE(i.code)) {
      case BPF_ABS:
        if (i.k <= sizeof(data_) - sizeof(word))
          memcpy(&word, reinterpret_cast<const char*>(&data_) + i.k, sizeof(word));
        return word;
      case BPF_LEN:
        return sizeof(data_);
      case BPF_MEM:
        return memory_[i.k % BPF_MEMWORDS];
      default:
        return i.k;
    }
  }
  uint32_t operand(const sock_filter& i) const { return BPF_SRC(i.code) == BPF_X ? x_ : i.k; }
  uint32_t computed(const sock_filter& i) const {
    const uint32_t b = operand(i);
    switch (BPF_OP(i.code)) {
      case BPF_ADD:
        return a_ + b;
      case BPF_SUB:
        return a_ - b;
      case BPF_MUL:
        return a_ * b;
      case BPF_DIV:
        return b != 0 ? a_ / b : 0;
      case BPF_OR:
        return a_ | b;
      case BPF_AND:
        return a_ & b;
      case BPF_XOR:
        return a_ ^ b;
      case BPF_LSH:
        return a_ << (b & 31);
      case BPF_RSH:
        return a_ >> (b & 31);
      default:
        return 0 - a_;
    }
  }
  bool taken(const sock_filter& i) const {
    const uint32_t b = operand(i);
    switch (BPF_OP(i.code)) {
      case BPF_JEQ:
        return a_ == b;
      case BPF_JGT:
        return a_ > b;
      case BPF_JGE:
        return a_ >= b;
      default:
        return (a_ & b) != 0;
    }
  }

  const sock_fprog& program_;
  const seccomp_data& data_;
  uint32_t a_ = 0, x_ = 0;
  uint32_t memory_[BPF_MEMWORDS] = {};
};

// A call as the library makes it, for filters that look at its arguments.
seccomp_data as_made(int number) {
  seccomp_data data = {};
  data.nr = number;
  data.arch = kMachine;
  switch (number) {
    case SYS_socket:
      data.args[0] = AF_UNIX;
      data.args[1] = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
      break;
    case SYS_openat:
      data.args[2] = O_RDONLY | O_CLOEXEC | O_NOFOLLOW;
      break;
    case SYS_mmap:
      data.args[2] = PROT_READ;
      data.args[3] = MAP_SHARED;
      break;
    case SYS_futex:
      data.args[1] = FUTEX_WAIT_PRIVATE;
      break;
    case SYS_fcntl:
      data.args[1] = F_DUPFD_CLOEXEC;
      break;
    default:
      break;
  }
  return data;
}

bool may_end_program(uint32_t verdict) {
  const uint32_t action = verdict & SECCOMP_RET_ACTION_FULL;
  return action == SECCOMP_RET_KILL_PROCESS || action == SECCOMP_RET_KILL || action == SECCOMP_RET_TRAP;
}

void forbid(FilterVerdict& v, int number) {
  v.forbidden[number / 64] |= 1ULL << (number % 64);
}

constexpr char kVariable[] = "LARDER_FORBIDDEN";

// The next program's library reads it before it makes a call.
void tell_children() {
  char text[8 * 16 + 1];
  for (int i = 0; i < 128; ++i)
    text[i] = "0123456789abcdef"[sys::filtered.forbidden[i / 16].load() >> (i % 16 * 4) & 15];
  text[128] = 0;
  ::setenv(kVariable, text, 1);
}

}  // namespace

bool FilterVerdict::any() const {
  for (const uint64_t word : forbidden)
    if (word != 0) return true;
  return false;
}

FilterVerdict judge_filter(const sock_fprog& program) {
  FilterVerdict v;
  for (int n = 0; n < kNumbers; ++n) {
    const seccomp_data data = as_made(n);
    if (may_end_program(Machine(program, data).run())) forbid(v, n);
  }
  return v;
}

FilterVerdict judge_strict() {
  FilterVerdict v;
  for (int n = 0; n < kNumbers; ++n)
    if (n != SYS_read && n != SYS_write && n != SYS_exit && n != SYS_rt_sigreturn) forbid(v, n);
  return v;
}

void obey_filter(const FilterVerdict& verdict, bool every_thread) {
  for (int i = 0; i < 8; ++i)
    sys::filtered.forbidden[i].fetch_or(verdict.forbidden[i]);
  if (every_thread) sys::filtered.free_low.store(~0ULL);
  if (!verdict.any()) return;
  sys::filtered.any.store(true);
  tell_children();
}

void inherit_filters(const char* text) {
  if (text == nullptr || strlen(text) != 128) return;
  for (int i = 0; i < 128; ++i) {
    const char c = text[i];
    const uint64_t digit = static_cast<uint64_t>(c >= 'a' && c <= 'f' ? c - 'a' + 10 : c - '0') & 15;
    sys::filtered.forbidden[i / 16].fetch_or(digit << (i % 16 * 4));
  }
  sys::filtered.any.store(true);
}

}  // namespace larder
