// A process that acts as a larderd with one lazy object: it answers kChunks, evicts at random, dies and comes back. Its
// data file shows wrong bytes on purpose while a chunk is absent: only the chunk's word says what may be read.
#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "preload/lazy/paged_mmap.h"
#include "preload/resolve/daemon_client.h"

namespace larder {

class FakeChunks {
 public:
  struct Knobs {
    std::atomic<int> evictions_per_ms{0};
    std::atomic<bool> hold{false};         // nobody is answered
    std::atomic<int> status{0};            // an errno for everybody
    std::atomic<bool> show_poison{false};  // absent chunks are full of kPoison when they are not holes
    std::atomic<uint64_t> requests{0}, fills{0}, evictions{0};
  };
  static constexpr char kPoison = '\xdd';

  FakeChunks(uint64_t size, uint32_t chunk_shift) : size_(size), shift_(chunk_shift) {
    char folder[] = "/dev/shm/larder-test-XXXXXX";
    folder_ = ::mkdtemp(folder);
    knobs_ = static_cast<Knobs*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    new (knobs_) Knobs;
    data_ = ::open((folder_ + "/data").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (data_ < 0 || ::ftruncate(data_, static_cast<off_t>(size)) != 0) throw std::runtime_error("no data file");
    make_map();
    configure_socket(socket().c_str(), nullptr);
    listen_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    start();
  }
  ~FakeChunks() {
    stop();
    for (int fd : {data_, map_fd_, files_data_})
      ::close(fd);
    ::munmap(map_, chunk_map_bytes(map_->chunk_count));
    ::munmap(knobs_, 4096);
    std::filesystem::remove_all(folder_);
  }
  FakeChunks(const FakeChunks&) = delete;

  Knobs& knobs() { return *knobs_; }
  uint64_t size() const { return size_; }
  uint64_t chunk_bytes() const { return 1ULL << shift_; }
  std::string folder() const { return folder_; }

  // The only right bytes.
  static char byte_at(uint64_t offset) {
    uint64_t x = (offset / 8 + 1) * 0x9e3779b97f4a7c15ULL;
    x ^= x >> 29;
    return static_cast<char>(x >> (offset % 8 * 8));
  }

  long map(size_t length, int prot = PROT_READ, int flags = MAP_SHARED, uint64_t offset = 0, uint32_t wait_ms = 20000,
           void* at = nullptr) {
    PagedFile what;
    what.dataset_id = 7;
    what.handle_inode = map_->handle_inode;
    what.wait_ms = wait_ms;
    LazyFiles files = {files_data_, nullptr, chunk_map_bytes(map_->chunk_count)};
    files.map = static_cast<ChunkMap*>(::mmap(nullptr, files.map_bytes, PROT_READ, MAP_SHARED, map_fd_, 0));
    if (files.map == MAP_FAILED) throw std::runtime_error("no chunk map");
    return map_paged(at, length, prot, flags, offset, files, what);
  }

  bool present(uint64_t offset) const { return map_->words[offset >> shift_].load() & kChunkPresent; }
  void evict(uint64_t offset) { evict_chunk(static_cast<uint32_t>(offset >> shift_)); }
  bool file_has(uint64_t offset) {  // is there a page in the data file?
    return ::lseek(data_, static_cast<off_t>(offset), SEEK_DATA) == static_cast<off_t>(offset);
  }

  void start() {
    sockaddr_un addr = {};
    addr.sun_family = AF_UNIX;
    std::strcpy(addr.sun_path, socket().c_str());
    ::unlink(addr.sun_path);
    ::close(listen_);
    listen_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (::bind(listen_, reinterpret_cast<sockaddr*>(&addr), sizeof addr) != 0 || ::listen(listen_, 128) != 0)
      throw std::runtime_error("no socket");
    daemon_ = ::fork();
    if (daemon_ == 0) {
      serve();
      ::_exit(0);
    }
  }
  void stop() {
    if (daemon_ <= 0) return;
    ::kill(daemon_, SIGKILL);
    ::waitpid(daemon_, nullptr, 0);
    daemon_ = -1;
    ::close(listen_);
    listen_ = -1;
  }

 private:
  std::string socket() const { return folder_ + "/s"; }

  void make_map() {
    const auto chunks = static_cast<uint32_t>((size_ + chunk_bytes() - 1) >> shift_);
    map_fd_ = ::open((folder_ + "/map").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (map_fd_ < 0 || ::ftruncate(map_fd_, static_cast<off_t>(chunk_map_bytes(chunks))) != 0)
      throw std::runtime_error("no map file");
    map_ = static_cast<ChunkMap*>(
        ::mmap(nullptr, chunk_map_bytes(chunks), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd_, 0));
    struct stat st;
    ::fstat(data_, &st);
    map_->magic = kChunkMapMagic;
    map_->format = kChunkMapFormat;
    map_->chunk_shift = shift_;
    map_->size = size_;
    map_->handle_inode = 4711;
    map_->data_inode = st.st_ino;
    map_->chunk_count = chunks;
    files_data_ = ::open((folder_ + "/data").c_str(), O_RDONLY | O_CLOEXEC);
  }

  // ---- the daemon's process ----

  void write_chunk(uint32_t chunk, bool right) {
    const uint64_t begin = uint64_t{chunk} << shift_, end = std::min(begin + chunk_bytes(), size_);
    std::vector<char> bytes(end - begin, kPoison);
    if (right)
      for (uint64_t i = begin; i < end; ++i)
        bytes[i - begin] = byte_at(i);
    if (::pwrite(data_, bytes.data(), bytes.size(), static_cast<off_t>(begin)) != static_cast<ssize_t>(bytes.size()))
      ::abort();
  }

  void fill(uint32_t chunk) {
    auto& word = map_->words[chunk];
    if (!(word & kChunkPresent)) {
      if (knobs_->show_poison) {
        write_chunk(chunk, false);
        std::this_thread::sleep_for(std::chrono::microseconds(300));
      }
      write_chunk(chunk, true);
      word.store((word + kChunkGeneration) | kChunkPresent, std::memory_order_release);
      ++knobs_->fills;
    }
  }

  void evict_chunk(uint32_t chunk) {
    auto& word = map_->words[chunk];
    if (word & kChunkPresent) {
      word.store((word + kChunkGeneration) & ~kChunkPresent);
      ::fallocate(data_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(uint64_t{chunk} << shift_),
                  static_cast<off_t>(chunk_bytes()));
      ++knobs_->evictions;
      if (knobs_->show_poison) write_chunk(chunk, false);
    }
  }

  struct Question {
    int fd;
    ChunkRequest chunks;
  };

  void hear(int fd) {
    struct {
      Request header;
      ChunkRequest chunks;
    } packet;
    if (::recv(fd, &packet, sizeof packet, 0) != sizeof packet) {
      ::close(fd);
      return;
    }
    ++knobs_->requests;
    questions_.push_back({fd, packet.chunks});
  }

  void answer(const Question& q) {
    Reply reply = {};
    reply.magic = kWireMagic;
    reply.version = kWireVersion;
    reply.op = Op::kChunks;
    reply.status = q.chunks.handle_inode == 4711 ? knobs_->status.load() : ESTALE;
    for (uint32_t i = 0; reply.status == 0 && i < q.chunks.count; ++i)
      fill(q.chunks.first + i);
    ::send(q.fd, &reply, sizeof reply, MSG_NOSIGNAL);
    ::close(q.fd);
  }

  // No thread: the process was forked from one that may have threads, and TSan promises nothing after that.
  void serve() {
    const pid_t parent = ::getppid();
    std::minstd_rand random(1);
    auto evicted = std::chrono::steady_clock::now();
    pollfd p = {listen_, POLLIN, 0};
    while (::getppid() == parent) {
      if (::poll(&p, 1, 1) > 0) {
        const int fd = ::accept(listen_, nullptr, nullptr);
        if (fd >= 0) hear(fd);
      }
      for (; !knobs_->hold && !questions_.empty(); questions_.pop_front())
        answer(questions_.front());
      for (; evicted < std::chrono::steady_clock::now(); evicted += std::chrono::milliseconds(1))
        for (int i = knobs_->evictions_per_ms; i > 0; --i)
          evict_chunk(static_cast<uint32_t>(random() % map_->chunk_count));
    }
  }

  uint64_t size_;
  uint32_t shift_;
  std::string folder_;
  Knobs* knobs_;
  int data_ = -1, map_fd_ = -1, listen_ = -1;
  ChunkMap* map_ = nullptr;
  int files_data_ = -1;  // as a program opens it
  pid_t daemon_ = -1;
  std::deque<Question> questions_;  // the daemon's
};

}  // namespace larder
