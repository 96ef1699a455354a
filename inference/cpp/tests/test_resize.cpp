// Bit by bit against OpenCV, over random sizes: tests/device/test_arithmetic.py.
#include <doctest/doctest.h>

#include <cstdint>
#include <random>
#include <vector>

#include "resize.hpp"

using namespace deeplab;
using Bytes = std::vector<std::uint8_t>;

namespace {

Bytes resized(const Bytes& source, Size size, int channels, Size target) {
  Bytes result(static_cast<std::size_t>(target.height) * target.width * channels);
  resize_exact(source.data(), size, channels, result.data(), target);
  return result;
}

Bytes noise(std::size_t size) {
  std::mt19937 random(1);
  Bytes result(size);
  for (std::uint8_t& value : result) value = static_cast<std::uint8_t>(random());
  return result;
}

}  // namespace

TEST_CASE("weights by hand: half-pixel centres, edges held, rounded once, halves up") {
  // Pixels of the target lie at -0.25, 0.25, 0.75, 1.25 of the source.
  CHECK(resized({0, 100}, {1, 2}, 1, {1, 4}) == Bytes{0, 25, 75, 100});
  CHECK(resized({0, 100}, {2, 1}, 1, {4, 1}) == Bytes{0, 25, 75, 100});
  CHECK(resized({0, 1}, {1, 2}, 1, {1, 1}) == Bytes{1});
  CHECK(resized({0, 1, 0, 0}, {2, 2}, 1, {1, 1}) == Bytes{0});
  CHECK(resized({0, 1, 1, 0}, {2, 2}, 1, {1, 1}) == Bytes{1});
  // At 1/6 the weight is 43/256, not 1/6: 255·43/256 = 42.8.
  CHECK(resized({0, 255, 255, 255}, {1, 4}, 1, {1, 3}) == Bytes{43, 255, 255});
}

TEST_CASE("weights are rounded to even") {
  // Of 3 pixels to 256, number 43 lies at 3·87/512 − 0.5, 2.5 of 256 behind the first: 2, which makes 2, and 3 made 3.
  CHECK(resized({0, 255, 0}, {1, 3}, 1, {1, 256})[43] == 2);
}

TEST_CASE("channels do not mix") {
  CHECK(resized({0, 10, 100, 30}, {1, 2}, 2, {1, 4}) == Bytes{0, 10, 25, 15, 75, 25, 100, 30});
  for (int channels = 1; channels <= 4; ++channels) {
    const Bytes source = noise(7 * 5 * channels), result = resized(source, {7, 5}, channels, {11, 3});
    for (int c = 0; c < channels; ++c) {
      Bytes plane, expected;
      for (std::size_t i = c; i < source.size(); i += channels) plane.push_back(source[i]);
      for (std::size_t i = c; i < result.size(); i += channels) expected.push_back(result[i]);
      CHECK(resized(plane, {7, 5}, 1, {11, 3}) == expected);
    }
  }
}

TEST_CASE("one pixel fills, and the same size is a copy") {
  CHECK(resized({7, 8, 9}, {1, 1}, 3, {2, 2}) == Bytes{7, 8, 9, 7, 8, 9, 7, 8, 9, 7, 8, 9});
  const Bytes source = noise(6 * 5 * 3);
  CHECK(resized(source, {6, 5}, 3, {6, 5}) == source);
}

TEST_CASE("rows may be asked for in any order, columns in part, and buffers used again") {
  const Bytes source = noise(9 * 8 * 3), whole = resized(source, {9, 8}, 3, {14, 13});
  RowResizer rows;
  for (const int first : {0, 4}) {
    rows.start(source.data(), 8 * 3, {9, 8}, 3, {14, 13}, first, 6);
    for (const int y : {13, 0, 7, 6, 6, 1}) {
      const std::uint8_t* row = rows.row(y);
      const std::uint8_t* expected = whole.data() + (y * 13 + first) * 3;
      CHECK(Bytes(row, row + 18) == Bytes(expected, expected + 18));
    }
  }
}
