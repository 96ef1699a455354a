// Bit by bit against deeplabv3p.pixels, for every rule, type, layout and colour: tests/device/test_arithmetic.py.
#include <doctest/doctest.h>

#include <climits>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "error.hpp"
#include "pixels.hpp"

using namespace deeplab;

namespace {

InputSpec plain(Size size, Resize rule) {
  InputSpec input;
  input.size = size;
  input.resize = rule;
  input.std_deviation = {1, 1, 1};
  input.pad_value = 7;
  return input;
}

template <typename T>
std::vector<T> prepared(const InputSpec& input, const ImageView& picture) {
  const Size size = place({picture.height, picture.width}, input).tensor;
  std::vector<T> tensor(static_cast<std::size_t>(size.height) * size.width * 3);
  Preparer(input).prepare(picture, tensor.data());
  return tensor;
}

}  // namespace

TEST_CASE("halves round to even, at both ends of their range") {
  const auto bits = [](float value) { return to_half(value).bits; };
  CHECK(bits(1.0f) == 0x3c00);
  CHECK(bits(-2.0f) == 0xc000);
  CHECK(bits(1.0f + 0x1p-11f) == 0x3c00);     // a tie, to even
  CHECK(bits(1.0f + 0x3p-11f) == 0x3c02);     // a tie, to even
  CHECK(bits(1.0f + 0x1p-11f + 0x1p-20f) == 0x3c01);
  CHECK(bits(65519.0f) == 0x7bff);
  CHECK(bits(65520.0f) == 0x7c00);
  CHECK(bits(0x1p-24f) == 0x0001);
  CHECK(bits(0x1p-25f) == 0x0000);            // a tie, to even
  CHECK(bits(0x1.8p-24f) == 0x0002);          // a tie, to even
  CHECK(bits(0x1.ff8p-15f) == 0x03ff);
  CHECK(bits(0x1.ffep-15f) == 0x0400);  // becomes the smallest normal number
  CHECK(bits(-0.0f) == 0x8000);
  CHECK(bits(-std::numeric_limits<float>::infinity()) == 0xfc00);
  CHECK((bits(std::numeric_limits<float>::quiet_NaN()) & 0x7fff) > 0x7c00);
}

TEST_CASE("every half survives being a float") {
  for (std::uint32_t i = 0; i < 0x10000; ++i) {
    const Half half{static_cast<std::uint16_t>(i)};
    const float real = to_float(half);
    if ((i & 0x7fff) > 0x7c00) {
      CHECK(std::isnan(real));
    } else if (to_half(real).bits != half.bits) {
      FAIL(i);
    }
  }
}

TEST_CASE("layouts, colours and padding") {
  const std::uint8_t pixels[] = {1, 2, 3, 4, 5, 6};
  const ImageView picture{pixels, 1, 2, 0, PixelFormat::rgb};
  InputSpec input = plain({2, 3}, Resize::pad);
  CHECK(prepared<float>(input, picture) == std::vector<float>{1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7});
  input.color = Color::bgr;
  input.layout = Layout::nchw;
  CHECK(prepared<float>(input, picture) == std::vector<float>{3, 6, 7, 7, 7, 7, 2, 5, 7, 7, 7, 7, 1, 4, 7, 7, 7, 7});
}

TEST_CASE("integers are rounded to even and clipped") {
  const std::uint8_t pixels[] = {1, 3, 5, 200, 255, 0};
  InputSpec input = plain({1, 2}, Resize::stretch);
  input.dtype = Dtype::i8;
  input.quantization = Quantization{2, -1};  // 0.5, 1.5, 2.5, 100, 127.5, 0 steps
  CHECK(prepared<std::int8_t>(input, {pixels, 1, 2, 0, PixelFormat::rgb}) ==
        std::vector<std::int8_t>{-1, 1, 1, 99, 127, -1});
  input.dtype = Dtype::u8;
  CHECK(prepared<std::uint8_t>(input, {pixels, 1, 2, 0, PixelFormat::rgb}) ==
        std::vector<std::uint8_t>{0, 1, 1, 99, 127, 0});
}

TEST_CASE("formats and gaps between rows") {
  const std::uint8_t bgra[] = {3, 2, 1, 99, 0, 0, 6, 5, 4, 99, 0, 0};
  std::vector<std::uint8_t> rgb;
  to_rgb({bgra, 2, 1, 6, PixelFormat::bgra}, rgb);
  CHECK(rgb == std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6});
  to_rgb({bgra, 1, 2, 0, PixelFormat::grey}, rgb);
  CHECK(rgb == std::vector<std::uint8_t>{3, 3, 3, 2, 2, 2});
}

TEST_CASE("views that are impossible are refused") {
  const std::uint8_t pixels[12] = {};
  std::vector<std::uint8_t> rgb;
  const ImageView views[] = {{},
                             {nullptr, 1, 1, 0, PixelFormat::rgb},
                             {pixels, 0, 1, 0, PixelFormat::rgb},
                             {pixels, 1, -1, 0, PixelFormat::rgb},
                             {pixels, 2, 2, 5, PixelFormat::rgb},
                             {pixels, 2, 1, -3, PixelFormat::rgb},
                             {pixels, 1, INT_MAX, INT_MAX, PixelFormat::rgb},
                             {pixels, 1, 1, 0, static_cast<PixelFormat>(9)}};
  Preparer preparer(plain({4, 4}, Resize::fit));
  float tensor[48];
  for (const ImageView& view : views) {
    CHECK_THROWS_AS(to_rgb(view, rgb), Error);
    CHECK_THROWS_AS(preparer.prepare(view, tensor), Error);
  }
  CHECK_THROWS_AS(Preparer(plain({1, 1}, Resize::window)).prepare({pixels, 1, 1, 0, PixelFormat::rgb}, tensor), Error);
}

TEST_CASE("sizes that cannot be counted are refused, the largest that can are right") {
  CHECK_THROWS_AS(place({1, 1 << 30}, plain({512, 512}, Resize::crop)), Error);
  const Geometry fits = place({1, INT_MAX}, plain({INT_MAX, INT_MAX}, Resize::fit));
  CHECK(fits.x.scale == 1);
  CHECK(fits.y.scale == 1);
}
