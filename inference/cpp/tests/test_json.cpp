#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>

#include "error.hpp"
#include "json.hpp"

using deeplab::Error;
using deeplab::json::Kind;
using deeplab::json::parse;
using deeplab::json::Value;

namespace {

std::string message(const std::string& text) {
  try {
    parse(text, "here");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("every kind of value is read") {
  const std::string text = R"( {"a": [null, true, false, 1, 1.0, "x"], "b": {}} )";
  const Value value = parse(text, "here");
  REQUIRE(value.kind == Kind::object);
  const auto& list = value.find("a")->items;
  REQUIRE(list.size() == 6);
  CHECK(list[0].kind == Kind::null);
  CHECK(list[1].boolean);
  CHECK_FALSE(list[2].boolean);
  CHECK(list[3].kind == Kind::integer);
  CHECK(list[4].kind == Kind::real);
  CHECK(list[5].text == "x");
  CHECK(value.find("b")->kind == Kind::object);
  CHECK(value.find("b")->source == "{}");
  CHECK(value.find("c") == nullptr);
}

TEST_CASE("numbers are the nearest ones, integers apart from others") {
  const Value list = parse("[-0, -0.0, 0.1, 1e400, -1e400, 1e-400, 4.9e-324, 1e23, 9223372036854775808, 12]", "here");
  const auto& items = list.items;
  CHECK_FALSE(std::signbit(items[0].number));
  CHECK(std::signbit(items[1].number));
  CHECK(items[2].number == 0.1);
  CHECK(items[3].number == std::numeric_limits<double>::infinity());
  CHECK(items[4].number == -std::numeric_limits<double>::infinity());
  CHECK(items[5].number == 0);
  CHECK(items[6].number == std::numeric_limits<double>::denorm_min());
  CHECK(items[7].number == 1e23);
  CHECK(items[8].kind == Kind::integer);
  CHECK(items[8].integer == std::numeric_limits<std::int64_t>::max());
  CHECK(items[8].number == 9223372036854775808.0);
  CHECK(items[9].integer == 12);
}

TEST_CASE("escapes become UTF-8") {
  CHECK(parse(R"("\"\\\/\b\f\n\r\t")", "").text == "\"\\/\b\f\n\r\t");
  const std::string expected("A\xc3\xa9\xe9\x81\x93\xf0\x9f\x98\x80\0", 11);
  CHECK(parse(R"("\u0041\u00e9\u9053\ud83d\ude00\u0000")", "").text == expected);
}

TEST_CASE("what is not JSON is refused, with its place") {
  CHECK(message("{\n  \"a\": nul}") == "here: not valid JSON (line 2, column 8: expected a value).");
  CHECK(message("[1 2]").find("column 4: expected ',' or ']'") != std::string::npos);
  CHECK(message(R"({"a": 1, "b": 2, "a": 3})").find("key 'a' stands twice") != std::string::npos);
  for (const char* text : {"", "{", "[", "[1,]", "{\"a\":1,}", "{1: 2}", "\"", "\"\\", "\"\\x\"", "\"\\u12\"", "\"\n\"",
                           "01", "1.", ".5", "+1", "-", "1e", "NaN", "Infinity", "tru", "1 1", "// 1", "'a'"}) {
    CAPTURE(text);
    CHECK(message(text) != "");
  }
}

TEST_CASE("half a surrogate pair and what is not UTF-8 are refused") {
  for (const char* text : {R"("\ud800")", R"("\udc00")", R"("\ud800\u0041")", "\"\xff\"", "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"", "\"\xe0\x9f\xbf\"", "\"\xf0\x8f\xbf\xbf\"", "\"\xf4\x90\x80\x80\"",
                           "\"\xc3\"", "\"\xe9\x81"}) {
    CAPTURE(text);
    CHECK(message(text) != "");
  }
  CHECK(message("\"\xf4\x8f\xbf\xbf\xed\x9f\xbf\xee\x80\x80\"") == "");
}

TEST_CASE("depth and number of values are bounded") {
  CHECK(message(std::string(64, '[') + std::string(64, ']')) == "");
  CHECK(message(std::string(66, '[')).find("64 levels") != std::string::npos);
  std::string many = "[0";
  for (int i = 0; i < 1'000'000; ++i) many += ",0";
  CHECK(message(many + "]").find("million") != std::string::npos);
}
