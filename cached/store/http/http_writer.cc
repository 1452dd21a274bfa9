#include "cached/store/http/http_writer.h"

#include <fmt/format.h>

#include <charconv>
#include <future>
#include <optional>

#include "cached/store/api/content_type.h"
#include "cached/store/checksum/digest.h"

namespace larder {
namespace {

constexpr size_t kMaxReplyBody = 4 << 20;  // a removal's reply may name 1,000 keys
// A store may need minutes to put 10,000 parts together; what it sends meanwhile, if anything, is white space.
constexpr std::chrono::minutes kCompletePatience{5};
constexpr std::chrono::minutes kDataPatience{1};  // for the reply, once the last byte was sent

// What the judge of a reply may say: right, wrong for good, wrong now.
struct Judgement {
  Status status;
  bool again = false;
};
using Judge = std::function<Judgement(const HttpReply&)>;

// One request that changes something, and somebody who waits for its reply.
class Command final : public StoreExchange {
 public:
  Command(std::shared_ptr<StoreContext> store, StoreCall call, Judge judge)
      : StoreExchange(std::move(store), false), call_(std::move(call)), judge_(std::move(judge)) {}
  std::future<Result<HttpReply>> answer() { return promise_.get_future(); }

 protected:
  StoreCall call() const override { return call_; }
  std::string object() const override { return store_->dialect->name(call_.key); }
  void count_attempt() override {}
  uint64_t progress() const override { return 0; }
  Status head(const HttpReply& reply) override {
    reply_ = reply;
    reply_.body.clear();
    return {};
  }
  Status body(std::span<const std::byte> data) override {
    if (reply_.body.size() + data.size() > kMaxReplyBody)
      return make_error(EIO, object() + ": a reply of more than 4 MiB");
    reply_.body.append(reinterpret_cast<const char*>(data.data()), data.size());
    return {};
  }
  Status complete() override {
    if (!judge_) return {};
    Judgement judgement = judge_(reply_);
    if (judgement.status.ok() || !judgement.again) return std::move(judgement.status);
    return again(judgement.status.error().message);
  }
  void finish(Status status) override {
    if (status.ok()) {
      promise_.set_value(std::move(reply_));
    } else {
      promise_.set_value(status.error());
    }
  }

 private:
  const StoreCall call_;
  const Judge judge_;
  HttpReply reply_;
  std::promise<Result<HttpReply>> promise_;
};

Result<HttpReply> run(HttpEngine& engine, const std::shared_ptr<StoreContext>& store, StoreCall call, Judge judge) {
  auto command = std::make_shared<Command>(store, std::move(call), std::move(judge));
  auto answer = command->answer();
  engine.submit(std::move(command), false);
  return answer.get();
}

std::string_view text(Bytes data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

StoreCall object_call(const char* method, const std::string& key, NameValues query = {}) {
  StoreCall call;
  call.method = method;
  call.key = key;
  call.query = std::move(query);
  return call;
}

StoreCall part_call(const std::string& key, const std::string& upload, int number) {
  StoreCall call = object_call("PUT", key, {{"partNumber", std::to_string(number)}, {"uploadId", upload}});
  call.headers.emplace_back("content-type", "application/octet-stream");  // libcurl would say that it is a form
  return call;
}

// "1700000000.123456789", as rclone writes and reads it.
std::string seconds_text(int64_t ns) {
  int64_t seconds = ns / 1'000'000'000, rest = ns % 1'000'000'000;
  if (rest < 0) {
    --seconds;
    rest += 1'000'000'000;
  }
  return fmt::format("{}.{:09}", seconds, rest);
}

Error with_key(const std::string& object, const ServiceError& said, int status) {
  return make_error(errno_of(status, said.code), describe(object, status, said));
}

// What the body of a 200 says.
Judgement judge_end(const std::string& object, const ServiceError& said, int status) {
  if (said.code.empty()) return {};
  return {with_key(object, said, said.code == "NoSuchUpload" ? 404 : status), worth_retrying(status, said.code)};
}

}  // namespace

HttpWriter::HttpWriter(std::shared_ptr<StoreContext> store, HttpEngine& engine)
    : store_(std::move(store)), engine_(engine), words_(*store_->dialect->writing()) {}

void HttpWriter::add_type(const NewObject& object, NameValues& headers) const {
  const std::string_view type = object.content_type.empty() ? content_type(object.key) : object.content_type;
  headers.emplace_back("content-type", type);
}

void HttpWriter::add_meta(const NewObject& object, NameValues& headers) const {
  if (object.mtime_ns != 0)
    headers.emplace_back(std::string(words_.meta_prefix()) + "mtime", seconds_text(object.mtime_ns));
}

// Sends data that must arrive unchanged.
Result<HttpReply> HttpWriter::send(StoreCall call, Bytes data) {
  call.body = text(data);
  call.patience = kDataPatience;
  std::optional<Md5> md5;
  if (store_->options.content_md5) {
    Md5Stream stream;
    stream.update(data);
    md5 = stream.finish();
    call.headers.emplace_back("content-md5", base64(*md5));
  }
  const std::string object = store_->dialect->name(call.key);
  return run(engine_, store_, std::move(call), [&](const HttpReply& reply) -> Judgement {
    const BodyChecksum theirs = store_->dialect->checksum(reply);
    const bool wrong = (theirs.md5 && md5 && *theirs.md5 != *md5) ||
                       (theirs.crc && crc_update(theirs.crc->kind, 0, data) != theirs.crc->value);
    if (!wrong) return {};
    return {make_error(EIO, object + ": the store's checksum of what it received is not that of what was sent"), true};
  });
}

Status HttpWriter::put(const NewObject& object, Bytes data) {
  StoreCall call = object_call("PUT", object.key);
  add_type(object, call.headers);
  add_meta(object, call.headers);
  auto reply = send(std::move(call), data);
  return reply.ok() ? Status() : reply.error();
}

Result<std::string> HttpWriter::create_upload(const NewObject& object) {
  StoreCall call = object_call("POST", object.key, {{"uploads", ""}});
  add_type(object, call.headers);
  if (!words_.meta_at_completion()) add_meta(object, call.headers);
  auto reply = run(engine_, store_, std::move(call), {});
  if (!reply.ok()) return reply.error();
  auto id = words_.parse_upload(reply->body);
  if (!id.ok()) return make_error(EIO, store_->dialect->name(object.key) + ": " + id.error().message);
  return id;
}

Result<std::vector<PartInfo>> HttpWriter::list_parts(const NewObject& object, const std::string& upload) {
  std::vector<PartInfo> out;
  int after = 0;
  do {
    auto reply = run(engine_, store_, object_call("GET", object.key, words_.parts_query(upload, after)), {});
    if (!reply.ok()) return reply.error();
    auto page = words_.parse_parts(reply->body);
    if (!page.ok()) return make_error(EIO, store_->dialect->name(object.key) + ": " + page.error().message);
    if (page->next != 0 && page->next <= after)
      return make_error(EIO, store_->dialect->name(object.key) + ": the store's list of parts does not advance");
    after = page->next;
    out.insert(out.end(), page->parts.begin(), page->parts.end());
  } while (after != 0);
  return out;
}

Result<PartInfo> HttpWriter::put_part(const NewObject& object, const std::string& upload, int number, Bytes data) {
  StoreCall call = part_call(object.key, upload, number);
  auto reply = send(std::move(call), data);
  if (!reply.ok()) return reply.error();
  PartInfo part{number, data.size(), clean_etag(reply->header("etag"))};
  if (part.etag.empty()) return make_error(EIO, store_->dialect->name(object.key) + ": the store gave a part no ETag");
  return part;
}

Status HttpWriter::complete_upload(const NewObject& object, const std::string& upload,
                                   const std::vector<PartInfo>& parts) {
  const std::string body = words_.complete_body(parts), name = store_->dialect->name(object.key);
  StoreCall call = object_call("POST", object.key, {{"uploadId", upload}});
  call.headers.emplace_back("content-type", words_.body_type());
  if (words_.meta_at_completion()) add_meta(object, call.headers);
  call.body = body;
  call.hash_body = true;
  call.patience = kCompletePatience;
  auto reply = run(engine_, store_, std::move(call),
                   [&](const HttpReply& r) { return judge_end(name, words_.parse_complete(r.body), r.status); });
  if (reply.ok()) return {};
  // An attempt whose reply was lost may have done it.
  if (reply.error().code == ENOENT && is_there(object, parts)) return {};
  return reply.error();
}

Result<CopyReply> HttpWriter::have_copied(StoreCall call, const StoredObject& original,
                                          const std::optional<ByteRange>& range) {
  for (auto& header : words_.copy_headers(original, range))
    call.headers.push_back(std::move(header));
  call.patience = kCompletePatience;
  const std::string name = store_->dialect->name(call.key);
  CopyReply said;
  auto reply = run(engine_, store_, std::move(call), [&](const HttpReply& r) {
    said = words_.parse_copied(r.body);
    return judge_end(name, said.error, r.status);
  });
  if (!reply.ok()) return reply.error();
  return said;
}

Status HttpWriter::copy(const NewObject& object, const StoredObject& original) {
  StoreCall call = object_call("PUT", object.key);
  add_type(object, call.headers);
  add_meta(object, call.headers);
  auto copied = have_copied(std::move(call), original, {});
  return copied.ok() ? Status() : copied.error();
}

Result<PartInfo> HttpWriter::copy_part(const NewObject& object, const std::string& upload, int number,
                                       const StoredObject& original) {
  const ByteRange range{part_offset(object, number), part_size(object, number)};
  auto copied = have_copied(part_call(object.key, upload, number), original, range);
  if (!copied.ok()) return copied.error();
  // A store that does not know the headers (rclone's) took the empty body for the part, and says so by an empty body.
  if (copied->etag.empty())
    return make_error(ENOTSUP, store_->dialect->name(object.key) + ": the store did not say what it copied");
  return PartInfo{number, range.length, copied->etag};
}

bool HttpWriter::is_there(const NewObject& object, const std::vector<PartInfo>& parts) {
  const std::string wanted = words_.composite_etag(parts);
  if (wanted.empty()) return false;
  auto reply = run(engine_, store_, object_call("HEAD", object.key), {});
  return reply.ok() && store_->dialect->etag(*reply) == wanted;
}

Status HttpWriter::abort_upload(const NewObject& object, const std::string& upload) {
  auto reply = run(engine_, store_, object_call("DELETE", object.key, {{"uploadId", upload}}), {});
  if (reply.ok() || reply.error().code == ENOENT) return {};
  return reply.error();
}

std::vector<RemoveFailure> HttpWriter::remove(const std::vector<std::string>& keys) {
  std::vector<RemoveFailure> failures;
  std::vector<std::string> batch;
  for (auto& key : keys) {
    const bool single = keys.size() == 1 || no_batches_.load() || !words_.batch_can_name(key);
    if (single) {
      remove_one(key, failures);
    } else {
      batch.push_back(key);
    }
  }
  if (!batch.empty()) remove_many(batch, failures);
  return failures;
}

void HttpWriter::remove_one(const std::string& key, std::vector<RemoveFailure>& failures) {
  auto reply = run(engine_, store_, object_call("DELETE", key), {});
  if (!reply.ok() && reply.error().code != ENOENT) failures.push_back({key, reply.error()});
}

void HttpWriter::remove_many(const std::vector<std::string>& keys, std::vector<RemoveFailure>& failures) {
  const std::string& prefix = store_->dialect->prefix();
  std::vector<std::string> full;
  for (auto& key : keys)
    full.push_back(prefix + key);
  const std::string body = words_.remove_body(full);
  StoreCall call;
  call.method = "POST";
  call.bucket = true;
  call.query = {{"delete", ""}};
  call.body = body;
  call.hash_body = true;
  call.patience = kDataPatience;
  Md5Stream md5;
  md5.update(std::as_bytes(std::span(body)));
  call.headers = {{"content-type", std::string(words_.body_type())},
                  {"content-md5", base64(md5.finish())}};  // S3 demands it
  auto reply = run(engine_, store_, std::move(call), {});
  auto refused = reply.ok() ? words_.parse_removed(reply->body) : Result<std::vector<RemoveRefusal>>(reply.error());
  if (!refused.ok()) {  // no such operation here, or no word on what was removed: one by one tells
    if (!reply.ok() && reply.error().code != EACCES) no_batches_.store(true);
    for (auto& key : keys)
      remove_one(key, failures);
    return;
  }
  for (auto& refusal : *refused) {
    const std::string key = refusal.key.starts_with(prefix) ? refusal.key.substr(prefix.size()) : refusal.key;
    if (worth_retrying(0, refusal.error.code)) {
      remove_one(key, failures);
    } else {
      failures.push_back({key, with_key(store_->dialect->name(key), refusal.error, 200)});
    }
  }
}

Status HttpWriter::check_key(std::string_view key) const {
  constexpr size_t kMaxKey = 1024;  // bytes, both stores
  if (store_->dialect->prefix().size() + key.size() > kMaxKey)
    return make_error(EINVAL, "the key is longer than 1,024 bytes");
  return {};
}

}  // namespace larder
