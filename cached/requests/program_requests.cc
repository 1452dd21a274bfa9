#include "cached/requests/program_requests.h"

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/catalog/directory_handles.h"
#include "cached/requests/may_read.h"
#include "larder/names.h"

namespace larder {

ProgramRequests::ProgramRequests(Parts parts)
    : p_(parts), null_(std::make_shared<Fd>(::open("/dev/null", O_RDONLY | O_CLOEXEC))) {}

// The daemon's own descriptors outlive every reply.
static std::shared_ptr<Fd> borrowed(const Fd& fd) {
  return {std::shared_ptr<void>(), const_cast<Fd*>(&fd)};
}

void ProgramRequests::hello(const IncomingRequest& r) {
  HelloView view = p_.publisher.hello();
  std::vector<std::shared_ptr<Fd>> fds = {borrowed(p_.dir.handle()), borrowed(p_.publisher.stats_fd())};
  for (const MountView& m : view.mounts)
    fds.push_back(may_read(r.peer, m.group) ? std::shared_ptr<Fd>(m.version, const_cast<Fd*>(&m.version->touch()))
                                            : null_);
  r.reply->descriptors(std::move(fds), view.generation);
}

// What a program gets for an error of a fetch. ENOSPC would say that the program wrote too much; larderd's own limits
// (EMFILE, ENOMEM) are not the program's.
static int fetch_errno(const Error& e) {
  for (int theirs : {ENOSPC, EPROTO, ECANCELED, EMFILE, ENFILE, ENOMEM, EAGAIN})
    if (e.code == theirs) return EIO;
  return to_errno(e);
}

void ProgramRequests::fetch(const IncomingRequest& r) {
  std::shared_ptr<Dataset> d = p_.datasets.find(r.header.dataset_id);
  std::shared_ptr<CatalogVersion> v = d ? d->version() : nullptr;
  if (!v) return r.reply->fail(ESTALE);  // unmounted: control says so
  if (!may_read(r.peer, d->group)) return r.reply->fail(EACCES);
  if (r.payload.empty() || r.payload.size() >= kMaxPathBytes) return r.reply->fail(EINVAL);
  uint32_t entry = v->find(r.payload);
  if (entry == kNoEntry) return r.reply->fail(ENOENT);
  if (!v->catalog().entries[entry].is_file()) return r.reply->fail(EISDIR);
  if (v->catalog().entries[entry].oid != r.header.oid) return r.reply->fail(ESTALE);
  d->used_now();
  if (v->state(entry) == kAbsent) p_.filler.missed(d, *v, entry);
  const Object object = object_at(d, *v, entry);
  if (v->state(entry) != kResident && p_.lazy.wants(object) && open_lazy(r, object)) return;
  std::shared_ptr<Replier> reply = r.reply;
  // The miss path: cached/fetch/miss_path.cc.
  const auto waits = [histogram = miss_waits_, since = std::chrono::steady_clock::now()] {
    histogram->add(std::chrono::steady_clock::now() - since);
  };
  uint64_t ticket = p_.flights.fetch(object, [reply, waits](const Status& s, std::shared_ptr<Fd> file) {
    waits();
    if (s)
      reply->fresh_descriptor(std::move(file));
    else
      reply->fail(fetch_errno(s.error()));
  });
  reply->when_gone([this, ticket] { p_.flights.cancel(ticket); });
}

// A handle, and its first chunk on the way. False: the object has become resident meanwhile.
bool ProgramRequests::open_lazy(const IncomingRequest& r, const Object& object) {
  Result<LazyPtr> file = p_.lazy.open(object);
  if (file && !*file) return false;
  Result<Fd> handle =
      file ? p_.dir.open_for_program(handle_path(object.dataset->id(), object.oid)) : Result<Fd>(file.error());
  if (!handle) {
    spdlog::warn("{}: {} cannot be opened: {}", object.dataset->label(), shown(object.path), handle.error().message);
    r.reply->fail(fetch_errno(handle.error()));
    return true;
  }
  r.reply->descriptors({std::make_shared<Fd>(std::move(*handle))}, 0);
  p_.chunks.advise(*file, 0, 1);
  return true;
}

// For a program that may not open them itself any more (Landlock), though it has the handle.
void ProgramRequests::lazy_files(const IncomingRequest& r, const LazyFile& f, uint64_t handle_inode) {
  const uint64_t id = f.object.dataset->id();
  Result<Fd> map = p_.dir.open_for_program(chunk_map_path(id, handle_inode), 0);
  Result<Fd> data = p_.dir.open_for_program(chunk_data_path(id, handle_inode), 0);
  if (!data) data = p_.dir.open_for_program(whole_chunks_path(id, f.object.oid), 0);  // whole by now
  if (!map || !data) return r.reply->fail(EIO);
  r.reply->descriptors({std::make_shared<Fd>(std::move(*map)), std::make_shared<Fd>(std::move(*data))}, 0);
}

void ProgramRequests::chunks(const IncomingRequest& r) {
  ChunkRequest q;
  if (r.payload.size() != sizeof q) return r.reply->fail(EINVAL);
  memcpy(&q, r.payload.data(), sizeof q);
  Result<LazyPtr> file = p_.lazy.find(q.handle_inode);
  if (!file) return r.reply->fail(fetch_errno(file.error()));
  const LazyPtr& f = *file;
  if (!may_read(r.peer, f->object.dataset->group)) return r.reply->fail(EACCES);
  std::shared_ptr<Replier> reply = r.reply;
  auto answer = [reply](const Status& s) {
    if (s) return reply->done();
    reply->fail(s.error().code == EFBIG ? EFBIG : fetch_errno(s.error()));
  };
  f->object.dataset->used_now();
  if (q.flags & kChunksFiles) return lazy_files(r, *f, q.handle_inode);
  if (q.flags & kChunksWhole) {
    p_.flights.fetch(f->object, [answer](const Status& s, std::shared_ptr<Fd>) { answer(s); });
    return;
  }
  bool good =
      q.count > 0 && q.count <= kMaxChunkCount && q.first < f->chunk_count() && q.count <= f->chunk_count() - q.first;
  if (!good) return r.reply->fail(EINVAL);
  if (q.flags & kChunksAdvise) {
    if (q.count == 1 && f->present(q.first))
      p_.chunks.passed(f, q.first);
    else
      p_.chunks.advise(f, q.first, q.count);
    return r.reply->done();
  }
  if (f->is_whole()) return r.reply->done();
  uint64_t ticket = p_.chunks.want(f, q.first, q.count, q.flags & kChunksAhead ? 1 : q.count, answer);
  reply->when_gone([this, ticket] { p_.chunks.cancel(ticket); });
}

Result<Fd> ProgramRequests::mirror(int mirrors, uint64_t hash, uint64_t dataset_id) {
  Result<Fd> made = open_mirror(mirrors, p_.dir.tmp_fd(), hash, dataset_id, p_.inodes);
  return made ? p_.dir.open_for_program(mirror_path(dataset_id, hash), O_DIRECTORY) : made.error();
}

Result<Fd> ProgramRequests::namespace_directory(const std::string& path) {
  std::shared_ptr<const Mapping> map = p_.publisher.namespace_catalog();
  Catalog c;
  if (!map || !c.attach(map->data(), map->size())) return make_error(ENOENT, "no mounts");
  uint32_t entry = c.find(path.data(), path.size());
  if (entry == kNoEntry) return make_error(ENOENT, "not a folder above a mount");
  return mirror(p_.dir.namespace_mirrors_fd(), c.entries[entry].dir_hash, 0);
}

Result<Fd> ProgramRequests::dataset_directory(const IncomingRequest& r) {
  std::shared_ptr<Dataset> d = p_.datasets.find(r.header.dataset_id);
  std::shared_ptr<CatalogVersion> v = d ? d->version() : nullptr;
  if (!v) return make_error(ESTALE, "not mounted");
  if (!may_read(r.peer, d->group)) return make_error(EACCES, "not in the group");
  uint32_t entry = v->find(r.payload);
  if (entry == kNoEntry) return make_error(ENOENT, "no such folder");
  if (!v->catalog().entries[entry].is_dir()) return make_error(ENOTDIR, "a file");
  return mirror(d->mirrors.get(), v->catalog().entries[entry].dir_hash, d->id());
}

void ProgramRequests::directory(const IncomingRequest& r) {
  if (r.payload.size() >= kMaxPathBytes) return r.reply->fail(EINVAL);
  Result<Fd> fd = r.header.dataset_id == 0 ? namespace_directory(r.payload) : dataset_directory(r);
  if (!fd) return r.reply->fail(to_errno(fd.error()));
  r.reply->descriptors({std::make_shared<Fd>(std::move(*fd))}, 0);
}

}  // namespace larder
