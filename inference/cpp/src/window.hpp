// A sliding window over a picture at its own resolution: the twin of _windows in deeplabv3p/inference/views.py and of
// scores.py, in bounded memory.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "pixels.hpp"
#include "sampling.hpp"
#include "spec.hpp"

namespace deeplab {

// Where windows start on an axis: every `stride` pixels, the last one aligned to the end.
std::vector<int> anchors(int length, int window, int stride);

// One window: its first pixel, the pixels of the picture that it tells something about, and how the whole picture lies
// on its tensor. (A picture that is smaller than the window is padded, right and below.)
struct Tile {
  int top = 0, left = 0;
  int first_row = 0, last_row = 0, first_column = 0, last_column = 0;
  Geometry geometry;
};

// The windows of a picture, by rows, then columns. Throws Error (usage): the stride is larger than the window, which
// leaves pixels out, or there would be more than a million windows.
std::vector<Tile> make_tiles(Size picture, const SpecWindow& window);

// Label a picture by windows. `run` makes the planes of a tile; it is called once a tile, in order. Scores of pixels
// that several windows cover are averaged: the sum of the sampled scores in the order of the tiles, divided by the
// count, in float32, as PictureScores does. Only the windows that overlap the rows in work are held. The planes are to
// be `dequantized` unless one window is all there is: then it is labelled as a whole picture is.
void label_by_windows(Size picture, const SpecWindow& window, const OutputSpec& output, int classes,
                      const std::function<void(const Tile& tile, bool dequantized, Planes& planes)>& run,
                      std::uint8_t* labels);

}  // namespace deeplab
