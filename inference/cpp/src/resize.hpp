// OpenCV's INTER_LINEAR_EXACT for bytes, bit by bit: bilinear, half-pixel centres, no smoothing before shrinking.
//
// Along an axis, target pixel i lies at (i + 0.5)·s − 0.5 of the source, s = 1 / (target / source) in float64. The
// weight of the pixel behind is the fraction, rounded to 1/256 (halves to even); outside the outermost centres the edge
// pixel counts alone. Rows are mixed along x into 16 bits with 8 behind the point, which loses nothing, then along y,
// and rounded once, halves up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "spec.hpp"

namespace deeplab {

// Rows of a resized picture as they are asked for, so that the whole of it need not be held.
class RowResizer {
 public:
  // Columns [first_column, first_column + columns) of a picture, uint8 [h, w, channels] (channels 1 to 4), resized to
  // `target_size`. The source is read until the next start; rows are `row_bytes` apart.
  void start(const std::uint8_t* source, std::ptrdiff_t row_bytes, Size source_size, int channels, Size target_size,
             int first_column, int columns);

  // A row of the resized picture, columns · channels bytes, good until the next call. Going down, each row of the
  // source is mixed along x once.
  const std::uint8_t* row(int y);

 private:
  struct Tap {
    int low = 0;                    // mixed with the pixel after it
    std::uint16_t high_weight = 0;  // of 256
  };
  static Tap tap(int source, int target, int pixel);
  const std::uint16_t* wide_row(int y);
  template <int channels>
  void widen(const std::uint8_t* row, std::uint16_t* wide) const;

  const std::uint8_t* source_ = nullptr;
  std::ptrdiff_t row_bytes_ = 0;
  Size source_size_, target_size_;
  int channels_ = 0;
  int first_column_ = 0;
  std::vector<Tap> columns_;
  std::array<std::vector<std::uint16_t>, 2> wide_;  // source rows mixed along x: an even and an odd one
  std::array<int, 2> held_{};                       // which rows these are; -1: none
  std::vector<std::uint8_t> row_;
};

// Resize a whole picture, uint8 [h, w, channels] (channels 1 to 4, rows without gaps).
void resize_exact(const std::uint8_t* source, Size source_size, int channels, std::uint8_t* target, Size target_size);

}  // namespace deeplab
