// SQLite: a connection, a prepared statement, a transaction, each closed by its destructor.
//
// Threads: a connection and what was made from it belong to one thread at a time, and the connection outlives them. A
// lock that another process has is waited for up to 20 s. Errors: ENOSPC, EBUSY, EACCES, EIO for the rest; the message
// names the file and what was being done.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "larder/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace larder {

class Sqlite {
 public:
  // The file exists already: it is not created.
  static Result<std::unique_ptr<Sqlite>> open(const std::string& path);
  ~Sqlite();
  Sqlite(const Sqlite&) = delete;
  Sqlite& operator=(const Sqlite&) = delete;
  Status run(const char* sql);  // no parameters, no rows
  Error error(const char* doing) const;
  sqlite3* handle() const { return db_; }
  const std::string& path() const { return path_; }

 private:
  Sqlite(std::string path, sqlite3* db) : path_(std::move(path)), db_(db) {}
  const std::string path_;
  sqlite3* const db_;
};

// A prepared statement, bound in order. SQL that is wrong is an error of step().
class Statement {
 public:
  Statement(Sqlite& db, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::string_view text);
  Statement& bind(int64_t number);
  Statement& bind_blob(const std::string& bytes);  // must live until step()
  // True: a row; false: the end.
  Result<bool> step(const char* doing);
  Status run(const char* doing);
  int64_t number(int column) const;
  std::string_view text(int column) const;  // until the next step()

 private:
  Sqlite& db_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0;
};

// BEGIN ... COMMIT; rolls back if commit() was not reached.
class Transaction {
 public:
  Transaction(Sqlite& db, const char* begin) : db_(db), began_(db.run(begin)) {}
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  const Status& began() const { return began_; }
  Status commit();

 private:
  Sqlite& db_;
  const Status began_;
  bool done_ = false;
};

}  // namespace larder
