// The arithmetic of pixels: a picture becomes an input tensor. The twin of deeplabv3p/pixels.py, bit by bit.
//
// Coordinates count pixel centres: pixel i of an axis lies at i, and the axis spans -0.5 to size - 0.5.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "deeplab/deeplab.hpp"
#include "half.hpp"
#include "resize.hpp"
#include "spec.hpp"

namespace deeplab {

// tensor coordinate = scale · picture pixel + offset
struct AxisMap {
  double scale = 1;
  double offset = 0;
};

// How a picture lies on an input tensor.
struct Geometry {
  Size picture;
  Size tensor;
  AxisMap y;
  AxisMap x;
};

// An axis of `picture` pixels resized to `scaled`, of which the first `cropped` are left out.
AxisMap axis_map(int picture, int scaled, int cropped);

// Where a picture lies on the tensor that `prepare` makes of it. Throws Error (data) for a picture so long that its
// resized size cannot be counted.
Geometry place(Size picture, const InputSpec& input);

// Makes input tensors; keeps its tables and buffers, so use one for many pictures.
class Preparer {
 public:
  explicit Preparer(const InputSpec& input);

  // Fill a tensor, [h, w, 3] or [3, h, w] by the spec's layout and in its type, from a picture, by the rules stretch,
  // fit, pad and crop or, without a fixed size, max_side: see prepare() in pixels.py. `tensor` has room for
  // place(size of the picture, input).tensor, 3 channels. Throws Error (data) for an empty or impossible view, or
  // (usage) where the rule is window.
  Geometry prepare(const ImageView& picture, void* tensor);

 private:
  // What a byte becomes, and what stands where there is no picture, in the tensor's order of channels.
  template <typename T>
  struct Table {
    std::array<std::array<T, 256>, 3> values;
    std::array<T, 3> pad;
  };
  template <typename T>
  static Table<T> make_table(const InputSpec& input);
  template <typename T>
  void fill(const Table<T>& table, PixelFormat format, Size inside, int top, Size tensor_size, T* tensor);

  InputSpec input_;
  std::variant<Table<float>, Table<Half>, Table<std::uint8_t>, Table<std::int8_t>> table_;
  RowResizer rows_;
};

// A value of 16 bits as a byte: min(value, picture_max) * 256 / (picture_max + 1), cut to a whole number.
inline std::uint8_t to_byte(int value, int picture_max) {
  return static_cast<std::uint8_t>(std::min(value, picture_max) * 256 / (picture_max + 1));
}

// Copy a picture of any format as RGB without gaps, [height, width, 3], into `rgb`. Throws Error (data) for an empty
// view, null pixels, or rows that are too short.
void to_rgb(const ImageView& picture, std::vector<std::uint8_t>& rgb);

// The number of bytes of an element, and of a pixel. The latter throws Error (data) for a format that does not exist.
int bytes_of(Dtype dtype);
int bytes_of(PixelFormat format);

// The bytes from one row of a picture to the next. Throws Error (data) for a view that is empty or impossible.
std::ptrdiff_t checked_row_bytes(const ImageView& picture);

}  // namespace deeplab
