#include "cached/store/s3/s3_write.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <pugixml.hpp>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"
#include "cached/store/checksum/etag_check.h"
#include "cached/store/s3/s3.h"
#include "cached/store/s3/s3_replies.h"

namespace larder {
namespace {

bool load(pugi::xml_document& document, std::string_view xml) {
  const unsigned flags = pugi::parse_escapes | pugi::parse_cdata | pugi::parse_ws_pcdata_single;
  return static_cast<bool>(document.load_buffer(xml.data(), xml.size(), flags, pugi::encoding_utf8));
}

template <typename T>
bool number(std::string_view text, T& value) {
  auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc() && end == text.data() + text.size();
}

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\t':
      case '\n':
      case '\r':  // a parser may turn them into spaces
        out += fmt::format("&#{};", static_cast<int>(c));
        break;
      default:
        out.push_back(c);
    }
  }
  return out;
}

// The length of the UTF-8 sequence at the front; 0: it is none.
size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80) return 0;
  }
  return length;
}

// Some stores leave the body empty. What is there must be one of the results, or nobody knows how it ended.
ServiceError parse_end(std::string_view body, std::initializer_list<std::string_view> results,
                       pugi::xml_document& document) {
  ServiceError error = parse_s3_error(body);
  if (!error.code.empty() || body.find_first_not_of(" \t\r\n") == std::string_view::npos) return error;
  if (load(document, body) &&
      std::find(results.begin(), results.end(), document.document_element().name()) != results.end())
    return error;
  error.code = "InternalError";
  error.message = fmt::format("no {}: {}", *results.begin(), printable(body, 120));
  return error;
}

}  // namespace

std::string s3_composite_etag(const std::vector<PartInfo>& parts) {
  std::vector<Md5> sums;
  for (auto& part : parts) {
    const auto md5 = md5_of_etag(part.etag);
    if (!md5) return {};
    sums.push_back(*md5);
  }
  return etag_of_parts(sums);
}

Result<std::string> S3Writing::parse_upload(std::string_view body) const {
  pugi::xml_document document;
  std::string id;
  if (load(document, body))
    id = document.document_element().child_value("UploadId");  // rclone's server has another root
  if (id.empty()) return make_error(EIO, fmt::format("the store gave no UploadId: {}", printable(body, 120)));
  return id;
}

NameValues S3Writing::parts_query(const std::string& upload, int after) const {
  NameValues out{{"uploadId", upload}, {"max-parts", "1000"}};
  if (after > 0) out.emplace_back("part-number-marker", std::to_string(after));
  return out;
}

Result<PartsPage> S3Writing::parse_parts(std::string_view body) const {
  pugi::xml_document document;
  if (!load(document, body)) return make_error(EIO, "the list of parts is no XML");
  const auto root = document.document_element();  // ListPartsResult; moto: ListPartsResponse
  if (!root.child("UploadId"))
    return make_error(EIO, fmt::format("the list of parts is of no upload: {}", printable(body, 120)));
  PartsPage page;
  for (const auto& node : root.children("Part")) {
    PartInfo part;
    part.etag = clean_etag(node.child_value("ETag"));
    if (!number(node.child_value("PartNumber"), part.number) || !number(node.child_value("Size"), part.size))
      return make_error(EIO, "the list of parts has a part without a number or size");
    page.parts.push_back(std::move(part));
  }
  if (std::string_view(root.child_value("IsTruncated")) != "true") return page;
  if (!number(root.child_value("NextPartNumberMarker"), page.next) || page.next <= 0)
    return make_error(EIO, "the list of parts is truncated but has no marker");
  return page;
}

std::string S3Writing::complete_body(const std::vector<PartInfo>& parts) const {
  std::string out = "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">";
  for (auto& part : parts)
    out += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>&quot;{}&quot;</ETag></Part>", part.number,
                       escaped(part.etag));
  return out + "</CompleteMultipartUpload>";
}

ServiceError S3Writing::parse_complete(std::string_view body) const {
  pugi::xml_document document;
  return parse_end(body, {"CompleteMultipartUploadResult"}, document);
}

CopyReply S3Writing::parse_copied(std::string_view body) const {
  pugi::xml_document document;
  // Baishan's store calls the result of a part like that of an object.
  ServiceError error = parse_end(body, {"CopyObjectResult", "CopyPartResult"}, document);
  return {std::move(error), clean_etag(document.document_element().child_value("ETag"))};
}

NameValues S3Writing::copy_headers(const StoredObject& original, const std::optional<ByteRange>& range) const {
  NameValues out{{"x-amz-copy-source", percent_encode("/" + original.bucket + "/" + original.key, true)},
                 {"x-amz-copy-source-if-match", "\"" + original.etag + "\""}};
  if (range) {
    out.emplace_back("x-amz-copy-source-range", range_text(*range));
  } else {
    out.emplace_back("x-amz-metadata-directive", "REPLACE");
  }
  return out;
}

// XML 1.0 has no way to write most control characters, and wants UTF-8.
bool S3Writing::batch_can_name(std::string_view key) const {
  while (!key.empty()) {
    const size_t length = utf8_length(key);
    const auto c = static_cast<unsigned char>(key[0]);
    if (length == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) return false;
    key.remove_prefix(length);
  }
  return true;
}

std::string S3Writing::remove_body(const std::vector<std::string>& keys) const {
  std::string out = "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>";
  for (auto& key : keys)
    out += "<Object><Key>" + escaped(key) + "</Key></Object>";
  return out + "</Delete>";
}

Result<std::vector<RemoveRefusal>> S3Writing::parse_removed(std::string_view body) const {
  pugi::xml_document document;
  if (!load(document, body) || !document.child("DeleteResult"))
    return make_error(EIO, fmt::format("the reply to a removal is no DeleteResult: {}", printable(body, 120)));
  std::vector<RemoveRefusal> out;
  for (const auto& node : document.child("DeleteResult").children("Error")) {
    RemoveRefusal refusal{node.child_value("Key"), {}};
    refusal.error.code = node.child_value("Code");
    refusal.error.message = node.child_value("Message");
    if (refusal.error.code != "NoSuchKey") out.push_back(std::move(refusal));
  }
  return out;
}

}  // namespace larder
