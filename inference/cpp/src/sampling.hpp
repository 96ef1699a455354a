// Scores of a small grid at the pixels of a picture, and their argmax, fused: [h, w, classes] of the full size never
// exists. The twin of deeplabv3p/sampling.py and of labels_from_output in pixels.py, whose labels it equals bit by bit:
// mixing in float32, every product and sum rounded on its own (build with -ffp-contract=off), along x first, then y.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine.hpp"
#include "pixels.hpp"
#include "spec.hpp"

namespace deeplab {

// For each pixel of an axis the two grid points around it, and the float32 weights 1 − w and w.
struct Neighbours {
  std::vector<int> low, high;
  std::vector<float> low_weight, high_weight;
};

// Where the pixels of a picture's axis fall on an output grid of `grid` points, clamped to it.
std::vector<double> coordinates(const AxisMap& axis, int picture, int tensor, int grid, bool align_corners);
Neighbours neighbours(const AxisMap& axis, int picture, int tensor, int grid, bool align_corners);

// An output as float32 [classes, height, width], in its own units or dequantized. Throws Error (data): another shape
// than the spec's layout with a batch of 1, more than 255 classes or another number than `classes`, NaN or infinity.
struct Planes {
  int classes = 0;
  int height = 0;
  int width = 0;
  std::vector<float> values;
};
void class_planes(const TensorView& output, const OutputSpec& spec, int classes, bool dequantized, Planes& planes);

// The class of the highest score, the lowest one of equal scores, for each of `count` points of finite
// scores [classes, count], at most 256 classes.
void argmax(const float* scores, int classes, std::size_t count, std::uint8_t* leaders);

// The label of every pixel of the picture: uint8 [picture height, width] to `labels`. Keeps its buffers.
class LabelSampler {
 public:
  // For logits and probabilities; equal scores go to the lowest class.
  void label(const Planes& planes, const Geometry& geometry, bool align_corners, std::uint8_t* labels);

  // The same by the definition, pixel by pixel, for tests and as documentation: where the four grid points around a
  // pixel have one leader, that leader; elsewhere the highest mixed score.
  static void label_plainly(const Planes& planes, const Geometry& geometry, bool align_corners, std::uint8_t* labels);

 private:
  // Pixels are mixed in blocks of 4x4, all between the same four grid points: 16 lanes, whatever the size of a vector.
  static constexpr int kSide = 4, kLanes = kSide * kSide;
  // Up to kSide pixels of an axis between the same two grid points, with the weights of each lane.
  struct Block {
    int low = 0, high = 0;
    int first = 0, count = 0;
    std::array<float, kLanes> low_weight{}, high_weight{};
  };
  // A class that can win between four grid points, and its scores there.
  struct Candidate {
    std::int32_t label = 0;
    float top_left = 0, top_right = 0, bottom_left = 0, bottom_right = 0;
  };

  static void cut(const Neighbours& axis, int lanes_a_pixel, std::vector<Block>& blocks);
  static void take_row(const Planes& planes, int row, std::vector<float>& scores);
  void find_candidates(int classes, int left, int right);
  void mix(const Block& rows, const Block& columns, std::uint8_t* labels, std::size_t width) const;

  std::vector<std::uint8_t> leaders_;   // of the grid
  std::vector<Block> rows_, columns_;   // of the picture
  std::vector<float> upper_, lower_;    // two rows of the grid, [width, classes]
  std::vector<Candidate> candidates_;
};

// For a model that puts out labels: the nearest grid point, halves up. Throws Error (data): not [1, h, w], with a class
// axis of length 1 or without, a number that is not within 0 to 255, or a sampled one that is not below `classes`.
void sample_labels(const TensorView& output, const OutputSpec& spec, int classes, const Geometry& geometry,
                   std::uint8_t* labels);

// Mixed scores of rows [first_row, last_row) of the picture and columns [first_column, last_column), added to `sums`
// [classes, rows, columns]: sample_scores() of sampling.py. For windows, which overlap, and for probabilities.
void add_scores(const Planes& planes, const Neighbours& y, const Neighbours& x, int first_row, int last_row,
                int first_column, int last_column, float* sums);

}  // namespace deeplab
