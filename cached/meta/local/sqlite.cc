#include "cached/meta/local/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include "cached/base/text.h"

namespace larder {

static constexpr int kBusyMs = 20'000;

Result<std::unique_ptr<Sqlite>> Sqlite::open(const std::string& path) {
  sqlite3* db = nullptr;
  const int code =
      sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_NOFOLLOW, nullptr);
  std::unique_ptr<Sqlite> out(new Sqlite(path, db));
  if (code != SQLITE_OK) return out->error("opening it");
  sqlite3_extended_result_codes(db, 1);
  sqlite3_busy_timeout(db, kBusyMs);
  for (const char* sql : {"PRAGMA synchronous = NORMAL", "PRAGMA foreign_keys = ON", "PRAGMA cache_size = -8000"}) {
    if (auto status = out->run(sql); !status.ok()) return status.error();
  }
  return out;
}

Sqlite::~Sqlite() {
  sqlite3_close(db_);
}

Status Sqlite::run(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) return error("running a statement");
  return {};
}

Error Sqlite::error(const char* doing) const {
  const int code = db_ ? sqlite3_errcode(db_) & 0xff : SQLITE_NOMEM;
  const int seen = code == SQLITE_FULL                                                         ? ENOSPC
                   : code == SQLITE_BUSY || code == SQLITE_LOCKED                              ? EBUSY
                   : code == SQLITE_READONLY || code == SQLITE_PERM || code == SQLITE_CANTOPEN ? EACCES
                                                                                               : EIO;
  return make_error(seen, fmt::format("metadata file {}: {}: {}", printable(path_), doing,
                                      db_ ? sqlite3_errmsg(db_) : "out of memory"));
}

Statement::Statement(Sqlite& db, const char* sql) : db_(db) {
  sqlite3_prepare_v2(db.handle(), sql, -1, &statement_, nullptr);
}

Statement::~Statement() {
  sqlite3_finalize(statement_);
}

Statement& Statement::bind(std::string_view text) {
  sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::bind(int64_t number) {
  sqlite3_bind_int64(statement_, ++bound_, number);
  return *this;
}

Statement& Statement::bind_blob(const std::string& bytes) {
  sqlite3_bind_blob64(statement_, ++bound_, bytes.data(), bytes.size(), SQLITE_STATIC);
  return *this;
}

Result<bool> Statement::step(const char* doing) {
  if (statement_ == nullptr) return db_.error(doing);
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  return db_.error(doing);
}

Status Statement::run(const char* doing) {
  auto row = step(doing);
  return row.ok() ? Status() : Status(row.error());
}

int64_t Statement::number(int column) const {
  return sqlite3_column_int64(statement_, column);
}

std::string_view Statement::text(int column) const {
  auto* bytes = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  return {bytes ? bytes : "", static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

Transaction::~Transaction() {
  if (began_.ok() && !done_) (void)db_.run("ROLLBACK");
}

Status Transaction::commit() {
  Status status = db_.run("COMMIT");
  done_ = status.ok();
  return status;
}

}  // namespace larder
