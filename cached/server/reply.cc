#include "cached/server/reply.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace larder {

ReplyPacket ReplyPacket::sign_of_life(Op op) {
  ReplyPacket p;
  p.header.magic = kWireMagic;
  p.header.version = kWireVersion;
  p.header.op = op;
  p.header.flags = kReplyMore;
  return p;
}

// ---- Outbox --------------------------------------------------------------------------------------

Result<std::unique_ptr<Outbox>> Outbox::make() {
  Fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event.valid()) return os_error("cannot make an eventfd");
  return std::unique_ptr<Outbox>(new Outbox(std::move(event)));
}

void Outbox::wake() {
  const uint64_t one = 1;
  (void)!::write(event_.get(), &one, sizeof one);
}

void Outbox::post(uint64_t connection, ReplyPacket packet) {
  MutexLock lock(mutex_);
  posted_.emplace_back(connection, std::move(packet));
  if (posted_.size() == 1) wake();
}

Outbox::Posted Outbox::take() {
  uint64_t count;
  (void)!::read(event_.get(), &count, sizeof count);
  MutexLock lock(mutex_);
  return std::exchange(posted_, {});
}

// ---- Replier -------------------------------------------------------------------------------------

void Replier::send(ReplyPacket packet) {
  packet.header.magic = kWireMagic;
  packet.header.version = kWireVersion;
  packet.header.op = op_;
  packet.header.payload_len = static_cast<uint32_t>(packet.payload.size());
  packet.header.fd_count = static_cast<uint32_t>(packet.fds.size() + (packet.reopen ? 1 : 0));
  std::function<void()> not_needed;  // destroyed without the lock
  MutexLock lock(mutex_);
  if (finished_ || gone_) return;
  if (packet.is_last()) {
    finished_ = true;
    not_needed.swap(when_gone_);
  }
  outbox_->post(connection_, std::move(packet));
}

void Replier::done() {
  send({});
}

void Replier::fail(int status) {
  ReplyPacket p;
  p.header.status = status;
  send(std::move(p));
}

void Replier::text(int status, std::string payload, bool more) {
  if (payload.size() + sizeof(Reply) > kMaxPacket) return fail(EMSGSIZE);
  ReplyPacket p;
  p.header.status = status;
  p.header.flags = more ? kReplyMore : 0;
  p.payload = std::move(payload);
  send(std::move(p));
}

void Replier::descriptors(std::vector<std::shared_ptr<Fd>> fds, uint64_t generation) {
  ReplyPacket p;
  p.fds = std::move(fds);
  p.header.generation = generation;
  send(std::move(p));
}

void Replier::fresh_descriptor(std::shared_ptr<Fd> file) {
  ReplyPacket p;
  p.reopen = std::move(file);
  send(std::move(p));
}

void Replier::when_gone(std::function<void()> callback) {
  {
    MutexLock lock(mutex_);
    if (finished_) return;
    if (!gone_) {
      when_gone_.swap(callback);
      return;
    }
  }
  callback();
}

void Replier::set_gone() {
  std::function<void()> callback;
  {
    MutexLock lock(mutex_);
    gone_ = true;
    outbox_ = nullptr;
    callback.swap(when_gone_);
  }
  if (callback) callback();
}

}  // namespace larder
