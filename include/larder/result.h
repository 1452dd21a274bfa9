// Result<T> and Error: how functions of the daemon and the command line fail. The preload uses plain errnos.
// value(), *, -> require ok(); error() requires the opposite.
#pragma once
#include <cerrno>
#include <string>
#include <utility>
#include <variant>

namespace larder {

// One line without a trailing full stop: what went wrong, with which value, and what to do about it if that is known.
// Never a secret.
struct Error {
  int code = EIO;  // an errno: what a program would get; negative: a store's verdict (store.h), EIO to a program
  std::string message;
};

// The one place that turns an Error into what a program sees.
inline int to_errno(const Error& e) {
  return e.code > 0 ? e.code : EIO;
}

inline Error make_error(int code, std::string message) {
  return Error{code, std::move(message)};
}

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::move(value)) {}
  Result(Error error) : v_(std::move(error)) {}
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() { return std::get<0>(v_); }
  const T& value() const { return std::get<0>(v_); }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), failed_(true) {}
  bool ok() const { return !failed_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return error_; }

 private:
  Error error_;
  bool failed_ = false;
};

using Status = Result<void>;

}  // namespace larder
