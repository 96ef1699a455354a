#include <algorithm>
#include <optional>
#include <utility>

#include "image/codecs.hpp"

namespace deeplab {
namespace {

constexpr std::uint32_t orientation_tag = 0x0112;
constexpr std::size_t entry_bytes = 12;

// TIFF's numbers in either byte order; nothing where they lie outside the data.
class Tiff {
 public:
  explicit Tiff(Bytes data) : data_(data), little_(data.size() > 1 && data[0] == 'I' && data[1] == 'I') {}

  bool holds(std::uint64_t offset, std::uint64_t count) const { return offset + count <= data_.size(); }

  std::optional<std::uint32_t> number(std::uint64_t offset, int count) const {
    if (!holds(offset, static_cast<std::uint64_t>(count))) return std::nullopt;
    std::uint8_t bytes[4];
    std::copy_n(data_.data() + offset, count, bytes);
    if (little_) std::reverse(bytes, bytes + count);
    return big_endian(bytes, count);
  }

 private:
  Bytes data_;
  bool little_;
};

// OpenCV reads the entries before the orientation too, and gives up where one of these points outside the data. A
// picture must not stand upright here and lie there, so this is done the same.
bool is_sound(const Tiff& tiff, std::uint32_t tag, std::uint64_t entry) {
  const auto count = tiff.number(entry + 4, 4), place = tiff.number(entry + 8, 4);
  switch (tag) {
    case 0x010E: case 0x010F: case 0x0110: case 0x0131: case 0x0132: case 0x8298:  // texts
      return count && (*count <= 4 || (place && tiff.holds(*place, *count)));
    case 0x011A: case 0x011B:  // fractions: a resolution,
      return place && tiff.holds(*place, 8);
    case 0x013E:  // the white point,
      return place && tiff.holds(*place, 2 * 8);
    case 0x0211:  // factors of Y, Cb and Cr,
      return place && tiff.holds(*place, 3 * 8);
    case 0x013F: case 0x0214:  // primary colours, references
      return place && tiff.holds(*place, 6 * 8);
    default:
      return true;
  }
}

void transpose(Image& image) {
  Image turned{image.width, image.height, image.channels, std::vector<std::uint8_t>(image.pixels.size())};
  const auto channels = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < image.height; ++y) {
    const std::uint8_t* source = image.row(y);
    for (int x = 0; x < image.width; ++x, source += channels) {
      std::copy_n(source, channels, turned.row(x) + static_cast<std::size_t>(y) * channels);
    }
  }
  image = std::move(turned);
}

void mirror_rows(Image& image) {
  const auto channels = static_cast<std::size_t>(image.channels);
  for (int y = 0; y < image.height; ++y) {
    std::uint8_t* left = image.row(y);
    std::uint8_t* right = left + (static_cast<std::size_t>(image.width) - 1) * channels;
    for (; left < right; left += channels, right -= channels) std::swap_ranges(left, left + channels, right);
  }
}

void reverse_rows(Image& image) {
  const std::size_t row_bytes = image.pixels.size() / static_cast<std::size_t>(image.height);
  for (int top = 0, bottom = image.height - 1; top < bottom; ++top, --bottom) {
    std::swap_ranges(image.row(top), image.row(top) + row_bytes, image.row(bottom));
  }
}

}  // namespace

int exif_orientation(Bytes exif) {
  const Tiff tiff(exif);
  const auto directory = tiff.number(4, 4);
  if (!directory || tiff.number(2, 2) != 42) return 1;
  const std::uint32_t entries = tiff.number(*directory, 2).value_or(0);
  std::uint64_t entry = std::uint64_t{*directory} + 2;
  for (std::uint32_t i = 0; i < entries; ++i, entry += entry_bytes) {
    const auto tag = tiff.number(entry, 2);
    if (tag == orientation_tag) {
      const std::uint32_t value = tiff.number(entry + 8, 2).value_or(1);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
    if (!tag || !is_sound(tiff, *tag, entry)) return 1;
  }
  return 1;
}

void turn_upright(Image& image, int orientation) {
  if (orientation >= 5) transpose(image);
  if (orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7) mirror_rows(image);
  if (orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8) reverse_rows(image);
}

}  // namespace deeplab
