#include <doctest/doctest.h>

#include "classes.hpp"
#include "error.hpp"

using deeplab::default_color;
using deeplab::parse_classes;

TEST_CASE("names alone have PASCAL VOC's colours") {
  const auto classes = parse_classes("background\naero plane\r\nbicycle\n\n", "list");
  REQUIRE(classes.size() == 3);
  CHECK(classes[1].name == "aero plane");
  CHECK(classes[0].color == std::array<std::uint8_t, 3>{0, 0, 0});
  CHECK(classes[1].color == std::array<std::uint8_t, 3>{128, 0, 0});
  CHECK(classes[2].color == std::array<std::uint8_t, 3>{0, 128, 0});
  CHECK(default_color(255) == std::array<std::uint8_t, 3>{224, 224, 192});
}

TEST_CASE("colours are the last three numbers of a line") {
  const auto classes = parse_classes("\xef\xbb\xbfroad 66 128 64 128\nsky\t1 2 3", "list");
  REQUIRE(classes.size() == 2);
  CHECK(classes[0].name == "road 66");
  CHECK(classes[0].color == std::array<std::uint8_t, 3>{128, 64, 128});
  CHECK(classes[1].color == std::array<std::uint8_t, 3>{1, 2, 3});
}

TEST_CASE("a list that is wrong is refused with its line") {
  const char* wrong[] = {"", "\n \n", "a\n\nb", "a\na", "a 1 2 3\nb", "a\nb 1 2 3", "a 1 2 3\nb 1 2 3", "a 1 2 256",
                         "a -1 2 3"};
  for (const char* text : wrong) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_classes(text, "list"), deeplab::Error);
  }
  std::string many;
  for (int i = 0; i < 256; ++i) many += "class" + std::to_string(i) + "\n";
  CHECK_THROWS_AS(parse_classes(many, "list"), deeplab::Error);
  CHECK_THROWS_AS(parse_classes(std::string_view("a\0b", 3), "list"), deeplab::Error);
}
