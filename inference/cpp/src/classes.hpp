// Class lists: a text file whose line i names label i, with an optional colour. The twin of deeplabv3p/data/classes.py.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deeplab/deeplab.hpp"

namespace deeplab {

// The colour of a label in PASCAL VOC, for lists without colours: its bits, three at a time, become the high bits of
// red, green and blue.
std::array<std::uint8_t, 3> default_color(std::size_t label);

// Read a class list: `name` or `name R G B` a line, in UTF-8; names may hold blanks. Throws Error (data) with the
// number of the line: a blank line inside, a name or colour twice, colours for some lines only, no classes or over 255.
std::vector<ClassInfo> parse_classes(std::string_view text, const std::string& where);
std::vector<ClassInfo> load_classes(const std::string& path);

}  // namespace deeplab
