// The parts of read.cpp: one decoder for each format, and the EXIF orientation.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "image/image.hpp"
#include "image/read.hpp"

namespace deeplab {

using Bytes = std::span<const std::uint8_t>;  // a file, or a part of one

inline constexpr std::uint64_t max_pixels = std::uint64_t{1} << 30;  // as OpenCV

inline std::uint32_t big_endian(const std::uint8_t* bytes, int count) {
  std::uint32_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

bool is_jpeg(Bytes file);
bool is_png(Bytes file);

// Pictures as RGB, turned upright. `where` names the file in messages. Throw Error (data).
Image decode_jpeg(Bytes file, const std::string& where, Remarks* remarks);
Image decode_png(Bytes file, const std::string& where, int picture_max, Remarks* remarks);
LabelFile decode_png_label(Bytes file, const std::string& where);

// The orientation, 1 to 8, that EXIF data (from its byte order mark on) asks for; 1 where it says nothing of use.
int exif_orientation(Bytes exif);

// Turn and mirror a picture that is stored in an orientation, so that it stands upright.
void turn_upright(Image& image, int orientation);

}  // namespace deeplab
