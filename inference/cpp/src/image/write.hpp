// Pictures to PNG files, atomically: written under a temporary name beside the target, then renamed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "deeplab/deeplab.hpp"
#include "image/image.hpp"

namespace deeplab {

// The colour of every label value, red, green, blue: classes, black where there is none, IGNORE (255) in VOC's void
// colour (224, 224, 192). visualize.palette() in Python.
std::array<std::array<std::uint8_t, 3>, 256> palette(const std::vector<ClassInfo>& classes);

// An 8-bit palette PNG whose values are the labels, [height, width]. Throws Error (data) where it cannot be written.
void write_label_png(const std::string& path, const std::uint8_t* labels, int height, int width,
                     const std::vector<ClassInfo>& classes);

// An RGB PNG. Throws Error (data).
void write_png(const std::string& path, const Image& image);

// Write bytes atomically. Throws Error (data).
void write_file(const std::string& path, const std::string& content);

}  // namespace deeplab
