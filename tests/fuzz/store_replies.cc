// What an object store, a web server or whoever sits between answers: lists in XML and JSON, manifests, error bodies,
// and the replies to uploads and removals.
#include "cached/store/bos/bos.h"
#include "cached/store/bos/bos_write.h"
#include "cached/store/s3/s3.h"
#include "cached/store/s3/s3_replies.h"
#include "cached/store/s3/s3_write.h"
#include "cached/store/web/manifest.h"
#include "tests/fuzz/fuzz.h"

using namespace larder;

namespace {

void check_list(const Result<ListPage>& page) {
  if (!page) return fuzz_check(page.error().code == EIO && !page.error().message.empty());
  for (const ObjectInfo& o : page->objects)
    fuzz_check(!o.key.empty() && o.etag.size() <= 255 && o.size <= uint64_t{1} << 62);
}

void check_writing(const WriteProtocol& words, std::string_view body) {
  if (auto id = words.parse_upload(body)) fuzz_check(!id->empty());
  if (auto page = words.parse_parts(body)) {
    fuzz_check(page->next >= 0);
    (void)words.complete_body(page->parts);
    (void)words.composite_etag(page->parts);
  }
  (void)words.parse_complete(body);
  (void)words.parse_copied(body);
  (void)words.parse_removed(body);
  if (words.batch_can_name(body)) fuzz_check(!words.remove_body({std::string(body)}).empty());
}

void check_error(const ServiceError& said) {
  const std::string line = describe("s3://b/k", 403, said);
  fuzz_check(line.find('\n') == std::string::npos && line.size() < 2000);
}

}  // namespace

// The first byte: who answers.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 6) {
    case 0:
      check_list(parse_list_v2(body));
      check_list(parse_list_v1(body));
      break;
    case 1:
      check_list(parse_bos_list(body));
      break;
    case 2:
      check_list(parse_manifest(body));
      break;
    case 3:
      check_writing(S3Writing(), body);
      break;
    case 4:
      check_writing(BosWriting(), body);
      break;
    default:
      check_error(parse_s3_error(body));
      check_error(parse_bos_error(body));
      fuzz_check(clean_etag(body).size() <= 255);
      (void)iso_date_ns(body);
      (void)http_date_ns(body);
  }
  return 0;
}

std::vector<std::string> fuzz_seeds() {
  const std::vector<PartInfo> parts = {{1, 8 << 20, std::string(32, 'a')}, {2, 5, std::string(32, 'b')}};
  return {
      std::string(1, 0) +
          "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated><Contents><Key>a%2Fb+c</"
          "Key>"
          "<LastModified>2026-01-02T03:04:05.678Z</LastModified><ETag>&quot;abc-2&quot;</ETag><Size>17</Size></"
          "Contents>"
          "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
      "\x01"
      R"({"isTruncated":true,"nextMarker":"m","contents":[{"key":"\ud83d\ude00","size":1,"eTag":"e","lastModified":"2026-01-02T03:04:05Z"}]})",
      "\x02"
      R"({"path": "a/b", "size": 5, "etag": "\"x\"", "crc32": "d87f7db5", "mtime": "2026-01-02T03:04:05Z"})",
      "\x03<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>",
      "\x03<ListPartsResult><Part><PartNumber>1</PartNumber><ETag>\"aa\"</ETag><Size>5</Size></Part><IsTruncated>true</"
      "IsTruncated>"
      "<NextPartNumberMarker>1</NextPartNumberMarker></ListPartsResult>",
      "\x03<DeleteResult><Error><Key>k</Key><Code>AccessDenied</Code><Message>m</Message></Error></DeleteResult>",
      "\x03" + S3Writing().complete_body(parts),
      "\x04" + BosWriting().complete_body(parts),
      "\x04"
      R"({"uploadId":"u","isTruncated":true,"nextPartNumberMarker":1,"parts":[{"partNumber":1,"eTag":"e","size":5}]})",
      "\x04"
      R"({"errors":[{"key":"k","code":"AccessDenied","message":"m"}]})",
      "\x05<Error><Code>SlowDown</Code><Message>m</Message><RequestId>r</RequestId><Region>eu-west-1</Region></Error>",
      "\x05"
      R"({"code":"NoSuchKey","message":"m","requestId":"r"})",
      "\x05Wed, 12 Oct 2009 17:50:00 GMT",
      "\x01"
      R"({"contents":[{"key":"k","size":1,"eTag":"e","lastModified":"9541-01-02T03:04:05Z"}]})"};
}
