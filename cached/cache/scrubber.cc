#include "cached/cache/scrubber.h"

#include "cached/base/files.h"
#include "cached/base/log.h"
#include "cached/cache/body_hash.h"

namespace larder {

static constexpr size_t kPiece = 1 << 20;

static Result<uint64_t> sum_of(int fd) {
  static thread_local std::vector<std::byte> buffer(kPiece);
  BodyHash hash;
  for (off_t at = 0;;) {
    ssize_t n = ::pread(fd, buffer.data(), buffer.size(), at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error("cannot read a cache file");
    if (n == 0) return hash.value();
    hash.update(std::span(buffer).first(static_cast<size_t>(n)));
    at += n;
  }
}

static void verify_file(ObjectCache& cache, const std::shared_ptr<Dataset>& d, const CatalogVersion& v, uint32_t entry,
                        const Sums& sums, CheckCounts& counts) {
  const CatalogEntry& e = v.catalog().entries[entry];
  std::optional<uint64_t> want = sums.find(e.oid);
  if (!want) return;  // published after the checksums were read
  Result<uint64_t> have = make_error(ENOENT, "");
  if (Result<Fd> fd = cache.open_resident(*d, entry)) have = sum_of(fd->get());
  if (!have && have.error().code == ENOENT) return;
  counts.files += 1;
  counts.bytes += e.size;
  if (have && *have == *want) return;
  std::string path = v.path_of(entry);
  spdlog::error("{}: the cache file of {} is corrupt; it is dropped", d->label(), shown(path));
  cache.drop_corrupt(*d, v, entry);
  counts.corrupt.emplace_back(d, std::move(path));
}

static void verify_chunks(ObjectCache& cache, const std::shared_ptr<Dataset>& d, const CatalogVersion& v,
                          uint32_t entry, CheckCounts& counts) {
  ChunkHolder::Scrubbed s = cache.scrub_chunks(*d, v.catalog().entries[entry].oid);
  counts.files += s.bytes > 0;
  counts.bytes += s.bytes;
  if (s.bad > 0) counts.corrupt.emplace_back(d, v.path_of(entry));
}

Status verify(ObjectCache& cache, const std::shared_ptr<Dataset>& d, const std::string& path, CheckCounts& counts,
              const std::function<bool(const CheckCounts&)>& go_on) {
  std::shared_ptr<CatalogVersion> v = d->version();
  uint32_t top = v ? v->find(path) : kNoEntry;
  if (top == kNoEntry) return make_error(ENOENT, "there is no " + shown(path) + " in " + d->label());
  Result<Sums> sums = d->sums->load();
  if (!sums) return sums.error();
  const CatalogEntry* entries = v->catalog().entries;
  std::vector<uint32_t> todo{top};
  while (!todo.empty()) {
    uint32_t i = todo.back();
    todo.pop_back();
    for (uint32_t k = 0; entries[i].is_dir() && k < entries[i].dir.child_count; ++k)
      todo.push_back(entries[i].dir.first_child + k);
    if (entries[i].is_dir() || v->state(i) == kAbsent) continue;
    if (!go_on(counts)) return make_error(ECANCELED, "the check was cancelled");
    if (d->version() != v) return make_error(ESTALE, d->label() + " was refreshed during the check; check again");
    if (v->state(i) == kLazy)
      verify_chunks(cache, d, *v, i, counts);
    else
      verify_file(cache, d, *v, i, *sums, counts);
  }
  return {};
}

}  // namespace larder
