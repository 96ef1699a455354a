// Against deeplabv3p.inference, over random windows: tests/device/test_arithmetic.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "error.hpp"
#include "window.hpp"

using namespace deeplab;

TEST_CASE("windows step, and the last one ends with the picture") {
  CHECK(anchors(10, 4, 3) == std::vector<int>{0, 3, 6});
  CHECK(anchors(11, 4, 3) == std::vector<int>{0, 3, 6, 7});
  CHECK(anchors(4, 4, 3) == std::vector<int>{0});
  CHECK(anchors(3, 4, 3) == std::vector<int>{0});
}

TEST_CASE("tiles come by rows, and cover no more than the picture") {
  const auto tiles = make_tiles({5, 7}, {{8, 4}, {8, 3}});
  REQUIRE(tiles.size() == 2);
  CHECK(tiles[1].left == 3);
  CHECK(tiles[1].first_column == 3);
  CHECK(tiles[1].last_column == 7);
  CHECK(tiles[1].last_row == 5);
  CHECK(tiles[1].geometry.picture == Size{5, 7});
  CHECK(tiles[1].geometry.tensor == Size{8, 4});
  CHECK(tiles[1].geometry.x.offset == -3);
}

TEST_CASE("windows that leave pixels out, or are too many, are refused") {
  CHECK_THROWS_AS(make_tiles({9, 9}, {{4, 4}, {5, 4}}), Error);
  CHECK_THROWS_AS(make_tiles({2000, 2000}, {{4, 4}, {1, 1}}), Error);
  CHECK_THROWS_AS(make_tiles({1, 1 << 30}, {{1, 1}, {1, 1}}), Error);
}

TEST_CASE("each window runs once, in order, and covered pixels are averaged") {
  // Two windows of 4 on a picture of 6, at stride 1: in the middle two pixels the second window outvotes the first.
  OutputSpec output;
  std::vector<int> lefts;
  std::uint8_t labels[6];
  const auto run = [&](const Tile& tile, bool dequantized, Planes& planes) {
    CHECK(dequantized);
    lefts.push_back(tile.left);
    planes = tile.left == 0 ? Planes{2, 1, 4, {1, 1, 1, 1, 0, 0, 0, 0}} : Planes{2, 1, 4, {0, 0, 0, 0, 3, 3, 0, 3}};
  };
  label_by_windows({1, 6}, {{1, 4}, {1, 2}}, output, 2, run, labels);
  CHECK(lefts == std::vector<int>{0, 2});
  CHECK(std::vector<int>(labels, labels + 6) == std::vector<int>{0, 0, 1, 1, 0, 1});
}

TEST_CASE("scores are means, not sums: what division makes equal is equal") {
  // Pixel 2 lies in three windows. The sums are 3 + 2^-22 and 3 + 2^-21, and a third of each is rounded to 1 + 2^-23.
  std::uint8_t labels[5];
  const auto run = [&](const Tile& tile, bool, Planes& planes) {
    planes = {2, 1, 3, std::vector<float>(6, 1.0f)};
    if (tile.left == 2) planes.values = {1 + 0x1p-22f, 1, 1, 1 + 0x1p-21f, 1, 1};
  };
  label_by_windows({1, 5}, {{1, 3}, {1, 1}}, {}, 2, run, labels);
  CHECK(labels[2] == 0);
}

TEST_CASE("a single window is labelled as a whole picture is, in the output's own units") {
  std::uint8_t label = 9;
  const auto run = [&](const Tile&, bool dequantized, Planes& planes) {
    CHECK_FALSE(dequantized);
    planes = {2, 1, 1, {0, 1}};
  };
  label_by_windows({1, 1}, {{4, 4}, {4, 4}}, {}, 2, run, &label);
  CHECK(label == 1);
}

TEST_CASE("the work goes down the picture: rows are labelled before the windows below them run") {
  std::vector<std::uint8_t> labels(40 * 8, 9);
  const auto run = [&](const Tile& tile, bool, Planes& planes) {
    // Windows overlap by half, so what lies above this one's neighbour is done, and nothing from here on.
    CHECK(std::count(labels.begin(), labels.end(), 9) == (40 - tile.top) * 8);
    planes = {2, 8, 8, std::vector<float>(128)};
    std::fill_n(planes.values.begin() + (tile.top % 8 == 0 ? 0 : 64), 64, 1.0f);
  };
  label_by_windows({40, 8}, {{8, 8}, {4, 4}}, {}, 2, run, labels.data());
  // Where two windows are at odds the scores are equal, and the lower class has it; the last rows have one window.
  CHECK(std::count(labels.begin(), labels.end(), 0) == 320);
}
