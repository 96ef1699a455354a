// Label maps made visible, as deeplabv3p/visualize.py does.
#pragma once

#include <cstdint>
#include <vector>

#include "deeplab/deeplab.hpp"
#include "image/image.hpp"

namespace deeplab {

// The picture, RGB, tinted with the classes' colours, half and half, by `labels` [height, width]; IGNORE (255) and
// classes whose colour is black keep the picture. Bit-equal to visualize.overlay(image, label, classes, 0.5).
Image overlay(const Image& picture, const std::uint8_t* labels, const std::vector<ClassInfo>& classes);

// A picture that names the colours of those classes whose `shown` is true, in label order. Names are drawn with a small
// built-in font (ASCII; other letters as a box), so it is not Python's legend to the pixel.
Image legend(const std::vector<ClassInfo>& classes, const std::vector<bool>& shown);

}  // namespace deeplab
