#include "image/draw.hpp"

#include <algorithm>
#include <array>
#include <string_view>

#include "image/font.hpp"
#include "image/write.hpp"

namespace deeplab {
namespace {

using Color = std::array<std::uint8_t, 3>;

constexpr int letter_scale = 2;  // pixels of a dot
constexpr Color text_color{31, 41, 55}, frame_color{120, 120, 120};

void fill(Image& image, int left, int top, int width, int height, Color color) {
  for (int y = top; y < top + height; ++y) {
    for (int x = left; x < left + width; ++x) std::copy_n(color.data(), 3, image.row(y) + std::ptrdiff_t{3} * x);
  }
}

// The letters of UTF-8 text by their place in the font: one for each character, the box for what it lacks.
std::vector<int> letters(std::string_view text) {
  std::vector<int> places;
  for (const char character : text) {
    const auto byte = static_cast<std::uint8_t>(character);
    if (byte >= 0x80 && byte < 0xC0) continue;  // the later bytes of a character
    places.push_back(byte >= 32 && byte < 127 ? byte - 32 : 127 - 32);
  }
  return places;
}

int text_width(std::string_view text) { return static_cast<int>(letters(text).size()) * glyph_step * letter_scale; }

void write_text(Image& image, std::string_view text, int left, int top) {
  for (const int place : letters(text)) {
    for (int y = 0; y < glyph_height; ++y) {
      const char* dots = glyphs[place / 16][y] + place % 16 * glyph_step;
      for (int x = 0; x < glyph_width; ++x) {
        if (dots[x] == ' ') continue;
        fill(image, left + x * letter_scale, top + y * letter_scale, letter_scale, letter_scale, text_color);
      }
    }
    left += glyph_step * letter_scale;
  }
}

}  // namespace

Image overlay(const Image& picture, const std::uint8_t* labels, const std::vector<ClassInfo>& classes) {
  const auto colors = palette(classes);
  Image result = picture;
  std::uint8_t* pixel = result.pixels.data();
  for (std::size_t i = 0; i < result.pixels.size() / 3; ++i, pixel += 3) {
    const Color& color = colors[labels[i]];
    if (labels[i] == 255 || color == Color{}) continue;
    for (int c = 0; c < 3; ++c) {
      const int sum = pixel[c] + color[c];
      pixel[c] = static_cast<std::uint8_t>((sum + (sum >> 1 & 1)) >> 1);  // halves to the even number, as OpenCV
    }
  }
  return result;
}

Image legend(const std::vector<ClassInfo>& classes, const std::vector<bool>& shown) {
  std::vector<const ClassInfo*> items;
  int text = 0;
  for (std::size_t i = 0; i < std::min(classes.size(), shown.size()); ++i) {
    if (!shown[i]) continue;
    items.push_back(&classes[i]);
    text = std::max(text, text_width(classes[i].name));
  }
  // The layout of visualize.legend(): up to 24 lines a column.
  constexpr int line = 26, pad = 10, box_width = 23, box_height = 18;
  const int count = static_cast<int>(items.size());
  const int columns = std::max(1, (count + 23) / 24);
  const int lines = std::max(1, (count + columns - 1) / columns);
  const int column_width = 40 + text;
  Image picture{2 * pad + lines * line, 2 * pad + columns * column_width, 3, {}};
  picture.pixels.assign(static_cast<std::size_t>(picture.height) * picture.width * 3, 255);
  for (int i = 0; i < count; ++i) {
    const int left = pad + i / lines * column_width, top = pad + i % lines * line + 4;
    fill(picture, left, top, box_width, box_height, frame_color);
    fill(picture, left + 1, top + 1, box_width - 2, box_height - 2, items[i]->color);
    write_text(picture, items[i]->name, left + 30, top + 2);
  }
  return picture;
}

}  // namespace deeplab
