#include "cached/store/bos/bos_write.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"
#include "cached/store/bos/bos.h"

namespace larder {
namespace {

using Json = nlohmann::json;

std::string text_of(const Json& object, const char* name) {
  auto it = object.find(name);
  return it != object.end() && it->is_string() ? it->get<std::string>() : std::string();
}

const Json* array_of(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto it = object.find(name);
  return it != object.end() && it->is_array() ? &*it : nullptr;
}

}  // namespace

Result<std::string> BosWriting::parse_upload(std::string_view body) const {
  const Json json = Json::parse(body, nullptr, false);
  std::string id = json.is_object() ? text_of(json, "uploadId") : "";
  if (id.empty()) return make_error(EIO, fmt::format("the store gave no uploadId: {}", printable(body, 120)));
  return id;
}

NameValues BosWriting::parts_query(const std::string& upload, int after) const {
  NameValues out{{"uploadId", upload}, {"maxParts", "1000"}};
  if (after > 0) out.emplace_back("partNumberMarker", std::to_string(after));
  return out;
}

Result<PartsPage> BosWriting::parse_parts(std::string_view body) const {
  const Json json = Json::parse(body, nullptr, false);
  const Json* parts = array_of(json, "parts");
  if (parts == nullptr) return make_error(EIO, fmt::format("the list of parts has no parts: {}", printable(body, 120)));
  PartsPage page;
  for (const Json& entry : *parts) {
    if (!entry.is_object() || !entry.contains("partNumber") || !entry["partNumber"].is_number_unsigned() ||
        !entry.contains("size") || !entry["size"].is_number_unsigned()) {
      return make_error(EIO, "the list of parts has a part without a number or size");
    }
    page.parts.push_back(
        {entry["partNumber"].get<int>(), entry["size"].get<uint64_t>(), clean_etag(text_of(entry, "eTag"))});
  }
  if (json.value("isTruncated", Json(false)) != Json(true)) return page;
  const Json next = json.value("nextPartNumberMarker", Json(0));
  page.next = next.is_number_unsigned() ? next.get<int>() : 0;
  if (page.next <= 0 && !page.parts.empty()) page.next = page.parts.back().number;
  if (page.next <= 0) return make_error(EIO, "the list of parts is truncated but has no marker");
  return page;
}

std::string BosWriting::complete_body(const std::vector<PartInfo>& parts) const {
  Json list = Json::array();
  for (auto& part : parts)
    list.push_back({{"partNumber", part.number}, {"eTag", part.etag}});
  return Json{{"parts", std::move(list)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

ServiceError BosWriting::parse_complete(std::string_view body) const {
  ServiceError error = parse_bos_error(body);
  if (!error.code.empty()) return error;
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || text_of(json, "key").empty()) {
    error.code = "InternalError";
    error.message = fmt::format("no reply to the end of an upload: {}", printable(body, 120));
  }
  return error;
}

NameValues BosWriting::copy_headers(const StoredObject& original, const std::optional<ByteRange>& range) const {
  NameValues out{{"x-bce-copy-source", percent_encode("/" + original.bucket + "/" + original.key, true)},
                 {"x-bce-copy-source-if-match", original.etag}};
  if (range) {
    out.emplace_back("x-bce-copy-source-range", range_text(*range));
  } else {
    out.emplace_back("x-bce-metadata-directive", "replace");
  }
  return out;
}

CopyReply BosWriting::parse_copied(std::string_view body) const {
  CopyReply out{parse_bos_error(body), {}};
  if (!out.error.code.empty()) return out;
  const Json json = Json::parse(body, nullptr, false);
  for (const char* name : {"eTag", "ETag"}) {
    if (json.is_object() && out.etag.empty()) out.etag = clean_etag(text_of(json, name));
  }
  if (out.etag.empty())
    out.error = {"InternalError", fmt::format("no reply to a copy: {}", printable(body, 120)), {}, {}};
  return out;
}

bool BosWriting::batch_can_name(std::string_view key) const {  // JSON is UTF-8
  const Json probe = std::string(key);
  return Json::parse(probe.dump(-1, ' ', false, Json::error_handler_t::ignore), nullptr, false) == probe;
}

std::string BosWriting::remove_body(const std::vector<std::string>& keys) const {
  Json list = Json::array();
  for (auto& key : keys)
    list.push_back({{"key", key}});
  return Json{{"objects", std::move(list)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<RemoveRefusal>> BosWriting::parse_removed(std::string_view body) const {
  std::vector<RemoveRefusal> out;
  if (body.find_first_not_of(" \t\r\n") == std::string_view::npos) return out;  // all are gone
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object())
    return make_error(EIO, fmt::format("the reply to a removal is no JSON: {}", printable(body, 120)));
  const Json* errors = array_of(json, "errors");
  if (errors == nullptr) return out;
  for (const Json& entry : *errors) {
    if (!entry.is_object()) continue;
    RemoveRefusal refusal{text_of(entry, "key"), {}};
    refusal.error.code = text_of(entry, "code");
    refusal.error.message = text_of(entry, "message");
    if (refusal.error.code != "NoSuchKey") out.push_back(std::move(refusal));
  }
  return out;
}

}  // namespace larder
