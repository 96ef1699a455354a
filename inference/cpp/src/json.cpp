#include "json.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <locale>
#include <sstream>
#include <system_error>

#include "error.hpp"

namespace deeplab::json {
namespace {

constexpr int kMostLevels = 64;
constexpr int kMostValues = 1'000'000;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The bytes of the UTF-8 character that a text begins with; 0 where it is none.
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) -> unsigned { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Longer than needed, half a surrogate pair, or above U+10FFFF: it shows in the second byte.
  if ((first == 0xe0 && byte(1) < 0xa0) || (first == 0xed && byte(1) > 0x9f)) return 0;
  if ((first == 0xf0 && byte(1) < 0x90) || (first == 0xf4 && byte(1) > 0x8f)) return 0;
  return length;
}

void append_utf8(std::string& text, unsigned code) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (code >> shift & 0x3f)); };
  if (code < 0x80) {
    text += static_cast<char>(code);
  } else if (code < 0x800) {
    text += static_cast<char>(0xc0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    text += static_cast<char>(0xe0 | code >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xf0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& where) : text_(text), where_(where) {
    decimal_.imbue(std::locale::classic());  // the program's own may write decimals with a comma
  }

  Value document() {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;
    skip_space();
    Value value = read(0);
    skip_space();
    if (at_ < text_.size()) fail("expected its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    const std::string_view before = text_.substr(0, at_);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t column = at_ - (before.rfind('\n') + 1) + 1;
    throw data_error(where_ + ": not valid JSON (line " + std::to_string(line) + ", column " + std::to_string(column) +
                     ": " + what + ").");
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  bool take(char c) {  // not for '\0', which peek() gives at the end
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  void skip_space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r')) ++at_;
  }

  Value read(int level) {
    if (level > kMostLevels) fail("more than " + std::to_string(kMostLevels) + " levels");
    if (++values_ > kMostValues) fail("more than a million values");
    const std::size_t begin = at_;
    Value value;
    if (peek() == '{') {
      read_object(value, level);
    } else if (peek() == '[') {
      read_list(value, level);
    } else if (peek() == '"') {
      value.kind = Kind::text;
      value.text = read_text();
    } else if (peek() == '-' || is_digit(peek())) {
      read_number(value);
    } else if (take_word("true")) {
      value.kind = Kind::boolean;
      value.boolean = true;
    } else if (take_word("false")) {
      value.kind = Kind::boolean;
    } else if (!take_word("null")) {
      fail("expected a value");
    }
    value.source = text_.substr(begin, at_ - begin);
    return value;
  }

  bool take_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  void read_list(Value& value, int level) {
    value.kind = Kind::list;
    ++at_;
    skip_space();
    if (take(']')) return;
    do {
      skip_space();
      value.items.push_back(read(level + 1));
      skip_space();
    } while (take(','));
    if (!take(']')) fail("expected ',' or ']'");
  }

  void read_object(Value& value, int level) {
    value.kind = Kind::object;
    ++at_;
    skip_space();
    if (take('}')) return;
    do {
      skip_space();
      if (peek() != '"') fail("expected a key in quotes");
      value.keys.push_back(read_text());
      skip_space();
      if (!take(':')) fail("expected ':'");
      skip_space();
      value.items.push_back(read(level + 1));
      skip_space();
    } while (take(','));
    if (!take('}')) fail("expected ',' or '}'");
    std::vector<std::string_view> sorted(value.keys.begin(), value.keys.end());
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) fail("key '" + std::string(*twice) + "' stands twice");
  }

  void read_number(Value& value) {
    const std::size_t begin = at_;
    take('-');
    if (!take('0')) skip_digits();
    value.kind = Kind::integer;
    if (take('.')) {
      value.kind = Kind::real;
      skip_digits();
    }
    if (take('e') || take('E')) {
      value.kind = Kind::real;
      if (!take('+')) take('-');
      skip_digits();
    }
    const std::string_view source = text_.substr(begin, at_ - begin);
    if (value.kind == Kind::integer) {
      const auto result = std::from_chars(source.data(), source.data() + source.size(), value.integer);
      if (result.ec == std::errc()) {
        value.number = static_cast<double>(value.integer);
        return;
      }
      using Limits = std::numeric_limits<std::int64_t>;
      value.integer = source[0] == '-' ? Limits::min() : Limits::max();
    }
    value.number = to_double(source);
  }

  void skip_digits() {
    if (!is_digit(peek())) fail("expected a digit");
    while (is_digit(peek())) ++at_;
  }

  // Of a well-formed number. (Not every standard library has from_chars for it yet.)
  double to_double(std::string_view source) {
    double number = 0;
    decimal_.clear();
    decimal_.str(std::string(source));
    decimal_ >> number;
    // Libraries give the largest number or infinity for one that is too large, and may call a tiny one a failure, too.
    const bool too_large = decimal_.fail() && std::abs(number) > 1;
    return too_large ? std::copysign(std::numeric_limits<double>::infinity(), number) : number;
  }

  std::string read_text() {
    std::string result;
    ++at_;
    while (!take('"')) {
      if (at_ >= text_.size()) fail("a string has no end");
      if (static_cast<unsigned char>(peek()) < 0x20) fail("a control character in a string");
      if (take('\\')) {
        read_escape(result);
        continue;
      }
      const std::size_t length = character_length(text_.substr(at_));
      if (length == 0) fail("not UTF-8");
      result += text_.substr(at_, length);
      at_ += length;
    }
    return result;
  }

  void read_escape(std::string& result) {
    constexpr std::string_view names = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
    if (take('u')) {
      unsigned code = read_hex();
      if (code >= 0xd800 && code < 0xdc00 && take_word("\\u")) {
        const unsigned low = read_hex();
        if (low < 0xdc00 || low > 0xdfff) fail("half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      }
      if (code >= 0xd800 && code < 0xe000) fail("half a surrogate pair");
      append_utf8(result, code);
      return;
    }
    const std::size_t index = at_ < text_.size() ? names.find(peek()) : names.npos;
    if (index == names.npos) fail("an unknown escape");
    result += meanings[index];
    ++at_;
  }

  unsigned read_hex() {
    unsigned code = 0;
    const std::string_view digits = text_.substr(at_, 4);
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (digits.size() < 4 || result.ptr != digits.data() + 4) fail("expected four hexadecimal digits");
    at_ += 4;
    return code;
  }

  const std::string_view text_;
  const std::string& where_;
  std::size_t at_ = 0;
  int values_ = 0;
  std::istringstream decimal_;
};

}  // namespace

const Value* Value::find(std::string_view key) const {
  const auto place = std::find(keys.begin(), keys.end(), key);
  return place == keys.end() ? nullptr : &items[static_cast<std::size_t>(place - keys.begin())];
}

Value parse(std::string_view text, const std::string& where) { return Parser(text, where).document(); }

}  // namespace deeplab::json
