// Overlays (whose equality with Python is shown by tests/device/test_device_pictures.py), legends, and the font.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "image/draw.hpp"
#include "image/font.hpp"

using namespace deeplab;

namespace {

bool holds(const Image& image, std::array<std::uint8_t, 3> color) {
  for (std::size_t i = 0; i < image.pixels.size(); i += 3) {
    if (std::equal(color.begin(), color.end(), image.pixels.begin() + static_cast<std::ptrdiff_t>(i))) return true;
  }
  return false;
}

std::string glyph_of(int place) {
  std::string dots;
  for (const char* row : glyphs[place / 16]) dots.append(row + place % 16 * glyph_step, glyph_width);
  return dots;
}

}  // namespace

TEST_CASE("an overlay mixes half and half, halves to the even number") {
  const Image picture{1, 4, 3, {0, 1, 2, 3, 254, 255, 7, 8, 9, 10, 11, 12}};
  const std::uint8_t labels[] = {1, 1, 0, 255};
  const Image mixed = overlay(picture, labels, {{"ground", {0, 0, 0}}, {"house", {1, 2, 255}}});
  //                              0.5 1.5 128.5  2  128 255
  const std::vector<std::uint8_t> want{0, 2, 128, 2, 128, 255, 7, 8, 9, 10, 11, 12};  // black and ignored: the picture
  CHECK(mixed.pixels == want);
}

TEST_CASE("a legend shows the classes that are asked for") {
  const std::vector<ClassInfo> classes = {{"one", {255, 0, 0}}, {"two", {0, 255, 0}}, {"three", {0, 0, 255}}};
  const Image two = legend(classes, {true, false, true});
  CHECK(holds(two, {255, 0, 0}));
  CHECK_FALSE(holds(two, {0, 255, 0}));
  CHECK(holds(two, {0, 0, 255}));
  CHECK(two.height == legend(classes, {true, true, true}).height - 26);
  CHECK(two.pixels.size() == static_cast<std::size_t>(two.height) * static_cast<std::size_t>(two.width) * 3);
}

TEST_CASE("a legend of nothing, of many classes, and of odd names") {
  CHECK_FALSE(legend({}, {}).pixels.empty());
  const std::vector<ClassInfo> many(255, ClassInfo{"name", {9, 8, 7}});
  const Image wide = legend(many, std::vector<bool>(many.size(), true));
  CHECK(wide.width > wide.height);  // 11 columns
  // A character of several bytes is one box, a broken one no crash.
  CHECK(legend({{"ß道", {}}}, {true}).width == legend({{"ab", {}}}, {true}).width);
  CHECK_FALSE(legend({{"\xff\xc3", {}}, {"a\n\tb", {}}}, {true, true}).pixels.empty());
}

TEST_CASE("every character has a glyph of its own") {
  std::set<std::string> seen;
  for (int place = 0; place < 96; ++place) {
    CHECK_MESSAGE(seen.insert(glyph_of(place)).second, "two characters look like ", static_cast<char>(place + 32));
  }
  for (const auto& band : glyphs) {
    for (const char* row : band) CHECK(std::strlen(row) == 16 * glyph_step - 1);
  }
}
