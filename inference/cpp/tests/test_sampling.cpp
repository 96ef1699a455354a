// Bit by bit against deeplabv3p.sampling, over random specs: tests/device/test_arithmetic.py.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "error.hpp"
#include "sampling.hpp"

using namespace deeplab;

namespace {

Geometry stretched(Size picture, Size tensor) {
  return {picture, tensor, axis_map(picture.height, tensor.height, 0), axis_map(picture.width, tensor.width, 0)};
}

Planes noise(int classes, int height, int width, unsigned seed, float step = 0) {
  std::mt19937 random(seed);
  Planes planes{classes, height, width, std::vector<float>(static_cast<std::size_t>(classes) * height * width)};
  for (float& value : planes.values) {
    value = static_cast<float>(random() >> 8) * 0x1p-20f;
    if (step > 0) value = std::floor(value / step);  // many equal scores
  }
  return planes;
}

TensorView view(const std::vector<float>& values, std::vector<std::int64_t> shape) {
  return {values.data(), Dtype::f32, std::move(shape)};
}

}  // namespace

TEST_CASE("pixels fall between grid points, and are clamped at the edges") {
  const Neighbours half = neighbours(axis_map(4, 4, 0), 4, 4, 2, false);  // -0.25, 0.25, 0.75, 1.25
  CHECK(half.low == std::vector<int>{0, 0, 0, 1});
  CHECK(half.high == std::vector<int>{1, 1, 1, 1});
  CHECK(half.high_weight == std::vector<float>{0, 0.25f, 0.75f, 0});
  CHECK(half.low_weight == std::vector<float>{1, 0.75f, 0.25f, 1});
  const Neighbours corners = neighbours(axis_map(5, 5, 0), 5, 5, 3, true);
  CHECK(corners.low == std::vector<int>{0, 0, 1, 1, 2});
  CHECK(corners.high_weight == std::vector<float>{0, 0.5f, 0, 0.5f, 0});
  CHECK(neighbours(axis_map(3, 1, 0), 3, 1, 4, true).high_weight == std::vector<float>{0, 0, 0});
}

TEST_CASE("fast labels are those of the definition") {
  LabelSampler sampler;  // one for all: buffers of other sizes are in use
  unsigned seed = 0;
  for (const float step : {0.0f, 4.0f}) {
    for (const int classes : {1, 2, 21, 255}) {
      for (const Size picture : {Size{1, 1}, Size{13, 50}, Size{64, 3}, Size{5, 5}, Size{90, 70}}) {
        for (const bool align_corners : {false, true}) {
          ++seed;
          const Planes planes = noise(classes, 1 + seed % 9, 1 + seed % 7, seed, step);
          const Geometry geometry = stretched(picture, {32, 32});
          std::vector<std::uint8_t> fast(static_cast<std::size_t>(picture.height) * picture.width), plain = fast;
          sampler.label(planes, geometry, align_corners, fast.data());
          LabelSampler::label_plainly(planes, geometry, align_corners, plain.data());
          CHECK(fast == plain);
        }
      }
    }
  }
}

TEST_CASE("equal scores go to the lowest class") {
  const Planes planes{3, 1, 2, {1, 0, 1, 1, 0, 1}};  // leaders 0 and 1; 1 is highest between them, 0 at the left edge
  const Geometry geometry = stretched({1, 4}, {1, 4});
  std::uint8_t labels[4];
  LabelSampler().label(planes, geometry, false, labels);
  CHECK(std::vector<int>(labels, labels + 4) == std::vector<int>{0, 1, 1, 1});
  std::uint8_t leaders[2];
  argmax(planes.values.data(), 3, 2, leaders);
  CHECK(leaders[0] == 0);
  CHECK(leaders[1] == 1);
}

TEST_CASE("one leader at all four points keeps the pixels between, though rounding makes another class equal") {
  const float low = 1.7f, high = std::nextafter(low, 2.0f);
  const Planes planes{2, 2, 2, {low, low, low, low, high, high, high, high}};
  const Geometry geometry = stretched({50, 50}, {50, 50});
  const Neighbours x = neighbours(geometry.x, 50, 50, 2, false), y = neighbours(geometry.y, 50, 50, 2, false);
  std::vector<float> scores(2 * 2500);
  add_scores(planes, y, x, 0, 50, 0, 50, scores.data());
  int equal = 0;
  for (std::size_t i = 0; i < 2500; ++i) equal += scores[i] == scores[2500 + i];
  CHECK(equal > 0);
  std::vector<std::uint8_t> labels(2500);
  LabelSampler().label(planes, geometry, false, labels.data());
  CHECK(labels == std::vector<std::uint8_t>(2500, 1));
}

TEST_CASE("a class that leads nowhere can win between") {
  const Planes planes{3, 1, 2, {10, 0, 0, 10, 6, 6}};
  std::uint8_t labels[8];
  LabelSampler().label(planes, stretched({1, 8}, {1, 8}), true, labels);
  CHECK(std::vector<int>(labels, labels + 8) == std::vector<int>{0, 0, 0, 2, 2, 1, 1, 1});
}

TEST_CASE("planes of either layout, dequantized or not") {
  OutputSpec spec;
  Planes planes;
  const std::vector<float> values{1, 2, 3, 4, 5, 6};
  class_planes(view(values, {1, 1, 2, 3}), spec, 3, false, planes);
  CHECK(planes.values == std::vector<float>{1, 4, 2, 5, 3, 6});
  spec.layout = Layout::nchw;
  spec.quantization = Quantization{0.5f, 1};
  class_planes(view(values, {1, 3, 1, 2}), spec, 3, true, planes);
  CHECK(planes.values == std::vector<float>{0, 0.5f, 1, 1.5f, 2, 2.5f});
  class_planes(view(values, {1, 3, 1, 2}), spec, 3, false, planes);
  CHECK(planes.values == values);
}

TEST_CASE("outputs that are no class planes are refused") {
  OutputSpec spec;
  Planes planes;
  std::vector<float> values(64);
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  for (const auto& shape : std::vector<std::vector<std::int64_t>>{
           {}, {4, 4, 3}, {2, 4, 4, 3}, {1, 0, 4, 3}, {1, -1, 4, 3}, {1, 4, 4, 4}, {1, 1, 1, 4, 3}, {1, huge, huge, 3},
           {1, 1 << 30, 1 << 30, 3}, {1, 1, 1, huge}}) {
    CHECK_THROWS_AS(class_planes(view(values, shape), spec, 3, false, planes), Error);
  }
  CHECK_THROWS_AS(class_planes(view(values, {1, 1, 1, 256}), spec, 256, false, planes), Error);
  values[40] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS_AS(class_planes(view(values, {1, 4, 4, 3}), spec, 3, false, planes), Error);
  values[40] = -std::numeric_limits<float>::infinity();
  CHECK_THROWS_AS(class_planes(view(values, {1, 4, 4, 3}), spec, 3, false, planes), Error);
  values[40] = 1e38f;
  spec.quantization = Quantization{10, 0};  // finite, but not in real units
  class_planes(view(values, {1, 4, 4, 3}), spec, 3, false, planes);
  CHECK_THROWS_AS(class_planes(view(values, {1, 4, 4, 3}), spec, 3, true, planes), Error);
}

TEST_CASE("labels are sampled at the nearest grid point, halves up") {
  OutputSpec spec;
  spec.align_corners = true;
  const std::int64_t grid[] = {1, 2};
  const TensorView output{grid, Dtype::i64, {1, 1, 2, 1}};
  std::uint8_t labels[3];
  sample_labels(output, spec, 3, stretched({1, 3}, {1, 3}), labels);  // at 0, 0.5 and 1
  CHECK(std::vector<int>(labels, labels + 3) == std::vector<int>{1, 2, 2});
  CHECK_THROWS_AS(sample_labels(output, spec, 2, stretched({1, 3}, {1, 3}), labels), Error);
  const std::int64_t below[] = {0, -1}, above[] = {0, 256};
  CHECK_THROWS_AS(sample_labels({below, Dtype::i64, {1, 1, 2}}, spec, 3, stretched({1, 1}, {1, 3}), labels), Error);
  CHECK_THROWS_AS(sample_labels({above, Dtype::i64, {1, 1, 2}}, spec, 3, stretched({1, 1}, {1, 3}), labels), Error);
  CHECK_THROWS_AS(sample_labels({grid, Dtype::i64, {1, 1, 1, 2}}, spec, 3, stretched({1, 3}, {1, 3}), labels), Error);
}

TEST_CASE("scores are added, for a part of the picture") {
  const Planes planes{2, 1, 2, {0, 4, 8, 0}};
  const Neighbours x = neighbours(axis_map(4, 4, 0), 4, 4, 2, false), y = neighbours(axis_map(3, 3, 0), 3, 3, 1, false);
  std::vector<float> sums(2 * 2 * 2, 1.0f);
  add_scores(planes, y, x, 1, 3, 1, 3, sums.data());
  CHECK(sums == std::vector<float>{2, 4, 2, 4, 7, 3, 7, 3});
}
