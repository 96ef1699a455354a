// A small strict reader of JSON (RFC 8259). Whole numbers and others are told apart, as Python's json does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deeplab::json {

enum class Kind { null, boolean, integer, real, text, list, object };

struct Value {
  Kind kind = Kind::null;
  bool boolean = false;
  std::int64_t integer = 0;  // of an integer, the nearest there is
  double number = 0;         // of an integer or a real; infinite where it is too large
  std::string text;          // UTF-8
  std::vector<Value> items;  // of a list, or the values of an object
  std::vector<std::string> keys;  // of an object, each once, in the order of the text
  std::string_view source;   // the value as it stands in the text that was read

  // The value of a key; null pointer where there is none.
  const Value* find(std::string_view key) const;
};

// Read a text in UTF-8; it must outlive the values' `source`. `where` names it in messages. Throws Error (data) with
// line and column: not JSON, not UTF-8, a key that stands twice, half a surrogate pair, NaN or Infinity, more than 64
// levels or a million values.
Value parse(std::string_view text, const std::string& where);

}  // namespace deeplab::json
