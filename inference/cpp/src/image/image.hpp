// Pictures in memory, and their files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/deeplab.hpp"

namespace deeplab {

// uint8 [height, width, channels], rows without gaps; channels 3 is RGB, 1 is a label map.
struct Image {
  int height = 0;
  int width = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;

  const std::uint8_t* row(int y) const { return pixels.data() + static_cast<std::size_t>(y) * width * channels; }
  std::uint8_t* row(int y) { return pixels.data() + static_cast<std::size_t>(y) * width * channels; }
  ImageView view() const { return {pixels.data(), height, width, 0, PixelFormat::rgb}; }
};

}  // namespace deeplab
