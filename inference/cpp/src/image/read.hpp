// Pictures from files: JPEG and PNG.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "image/image.hpp"

namespace deeplab {

// A whole file. Throws Error (data) where it cannot be read, is empty, or is larger than `most` bytes.
std::vector<std::uint8_t> read_file(const std::string& path, std::size_t most = std::size_t{1} << 30);

inline constexpr int full_range = 65535;

// What is odd about a picture that can be used all the same.
struct Remarks {
  bool cut = false;  // a JPEG whose last part is missing and grey
  int largest = -1;  // the largest value of a picture of 16 bits a channel; -1: it has 8
};

// Read a photograph, as deeplabv3p.data.decode.read_image does: grey becomes three equal channels, CMYK becomes RGB,
// alpha is dropped, 16 bits become 8 (to_byte() of pixels.hpp with `picture_max`), palettes are resolved, and the EXIF
// orientation is applied, that of a PNG's eXIf chunk too. Without `remarks` a cut JPEG is refused. Throws Error (data):
// unreadable, truncated, damaged, of more than 2^30 pixels, with values beyond `picture_max`, or of another kind;
// unlike in Python also animated PNG and JPEG with arithmetic coding.
Image read_image(const std::string& path, int picture_max = full_range, Remarks* remarks = nullptr);
Image decode_image(const std::uint8_t* data, std::size_t size, const std::string& where, int picture_max = full_range,
                   Remarks* remarks = nullptr);

// A label map's numbers as the file has them: 8-bit grey, 16-bit grey or palette indexes, [height, width]. RGB, and
// grey of fewer than 8 bits, are refused, as decode.read_label does. Throws Error (data), as for photographs.
struct LabelFile {
  int height = 0;
  int width = 0;
  std::vector<std::uint16_t> numbers;
};
LabelFile read_label(const std::string& path);
LabelFile decode_label(const std::uint8_t* data, std::size_t size, const std::string& where);

}  // namespace deeplab
