#include "cached/store/s3/s3_replies.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <pugixml.hpp>

#include "cached/base/text.h"
#include "cached/store/api/percent.h"

namespace larder {
namespace {

bool load(pugi::xml_document& document, std::string_view xml) {
  // Whitespace is part of keys that the store did not encode.
  const unsigned flags = pugi::parse_escapes | pugi::parse_cdata | pugi::parse_ws_pcdata_single;
  return static_cast<bool>(document.load_buffer(xml.data(), xml.size(), flags, pugi::encoding_utf8));
}

Result<ObjectInfo> parse_object(const pugi::xml_node& node, bool encoded) {
  ObjectInfo out;
  const std::string_view key = node.child_value("Key");
  out.key = encoded ? percent_decode(key, true) : std::string(key);
  out.etag = listed_etag(node.child_value("ETag"));
  out.mtime_ns = iso_date_ns(node.child_value("LastModified"));
  const std::string_view size = node.child_value("Size");
  auto [end, failure] = std::from_chars(size.data(), size.data() + size.size(), out.size);
  if (out.key.empty()) return make_error(EIO, "the list has an object without a key");
  if (failure != std::errc() || end != size.data() + size.size() || out.size > uint64_t{1} << 62) {
    return make_error(EIO, fmt::format("the list gives '{}' the size '{}'", printable(out.key), printable(size, 40)));
  }
  return out;
}

}  // namespace

ServiceError parse_s3_error(std::string_view xml) {
  ServiceError out;
  pugi::xml_document document;
  if (xml.empty() || !load(document, xml)) return out;
  const auto node = document.child("Error");
  out.code = node.child_value("Code");
  out.message = node.child_value("Message");
  out.request_id = node.child_value("RequestId");
  out.region = node.child_value("Region");
  return out;
}

namespace {

// What both versions have. `next` stays empty; `more`: there is another page.
Result<ListPage> parse_names(const pugi::xml_node& root, bool encoded, bool* more) {
  ListPage page;
  for (const auto& node : root.children("Contents")) {
    auto object = parse_object(node, encoded);
    if (!object.ok()) return object.error();
    page.objects.push_back(std::move(*object));
  }
  for (const auto& node : root.children("CommonPrefixes")) {
    const std::string_view folder = node.child_value("Prefix");
    page.folders.push_back(encoded ? percent_decode(folder, true) : std::string(folder));
  }
  *more = std::string_view(root.child_value("IsTruncated")) == "true";
  return page;
}

template <typename Next>
Result<ListPage> parse_page(std::string_view xml, Next next) {
  pugi::xml_document document;
  if (!load(document, xml)) return make_error(EIO, "the list of objects is no XML");
  const auto root = document.child("ListBucketResult");
  if (!root) return make_error(EIO, fmt::format("the list of objects is no ListBucketResult: {}", printable(xml, 120)));
  const bool encoded = std::string_view(root.child_value("EncodingType")) == "url";
  bool more = false;
  auto page = parse_names(root, encoded, &more);
  if (!page.ok() || !more) return page;
  page->next = next(root, encoded, *page);
  if (page->next.empty()) return make_error(EIO, "the list of objects is truncated but does not say where it goes on");
  return page;
}

}  // namespace

// Version 2 has a KeyCount in every page.
bool is_list_v1(std::string_view xml) {
  pugi::xml_document document;
  if (xml.find("<KeyCount>") != std::string_view::npos || !load(document, xml)) return false;
  const auto root = document.child("ListBucketResult");
  const bool more = std::string_view(root.child_value("IsTruncated")) == "true";
  return more && !root.child("KeyCount") && !root.child("NextContinuationToken");
}

Result<ListPage> parse_list_v2(std::string_view xml) {
  return parse_page(xml, [](const pugi::xml_node& root, bool, const ListPage&) {
    return std::string(root.child_value("NextContinuationToken"));
  });
}

Result<ListPage> parse_list_v1(std::string_view xml) {
  return parse_page(xml, [](const pugi::xml_node& root, bool encoded, const ListPage& page) {
    const std::string_view marker = root.child_value("NextMarker");
    if (!marker.empty()) return encoded ? percent_decode(marker, true) : std::string(marker);
    const std::string key = page.objects.empty() ? "" : page.objects.back().key;
    return page.folders.empty() ? key : std::max(key, page.folders.back());
  });
}

}  // namespace larder
