#include "pixels.hpp"

#include <algorithm>
#include <climits>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "error.hpp"

namespace deeplab {
namespace {

// Where the parts of a pixel lie.
struct Format {
  int channels;
  std::array<int, 3> rgb;
};

Format format_of(PixelFormat format) {
  switch (format) {
    case PixelFormat::rgb: return {3, {0, 1, 2}};
    case PixelFormat::bgr: return {3, {2, 1, 0}};
    case PixelFormat::rgba: return {4, {0, 1, 2}};
    case PixelFormat::bgra: return {4, {2, 1, 0}};
    case PixelFormat::grey: return {1, {0, 0, 0}};
  }
  throw data_error("the picture's format is number " + std::to_string(static_cast<int>(format)) +
                   ", which does not exist. Take one of PixelFormat.");
}

// size · wanted / has in exact integer arithmetic, halves up, at least 1.
int scaled(int size, int wanted, int has) {
  const std::int64_t result = (2 * std::int64_t{size} * wanted + has) / (2 * std::int64_t{has});
  if (result > INT_MAX) {
    throw data_error("the picture is too long for the model's rule crop: an axis would be resized to " +
                     std::to_string(result) + " pixels. Cut the picture first.");
  }
  return static_cast<int>(std::max<std::int64_t>(result, 1));
}

struct Sizes {
  Size scaled;  // of the whole resized picture
  Size tensor;
};

Sizes sizes(Size picture, const InputSpec& input) {
  const auto [height, width] = picture;
  if (!input.size) {
    const int longest = std::max(height, width);
    if (!input.max_side || longest <= *input.max_side) return {picture, picture};
    const Size shrunk{scaled(height, *input.max_side, longest), scaled(width, *input.max_side, longest)};
    return {shrunk, shrunk};
  }
  const Size tensor = *input.size;
  if (input.resize == Resize::stretch) return {tensor, tensor};
  if (input.resize == Resize::pad && height <= tensor.height && width <= tensor.width) return {picture, tensor};
  // The axis that decides the scale: the tighter one when the picture must fit inside, the looser one when it covers.
  const bool taller = std::int64_t{height} * tensor.width >= std::int64_t{width} * tensor.height;
  const bool by_height = taller != (input.resize == Resize::crop);
  const int wanted = by_height ? tensor.height : tensor.width, has = by_height ? height : width;
  return {{scaled(height, wanted, has), scaled(width, wanted, has)}, tensor};
}

// The first pixel of the tensor on the axis of the resized picture: the middle of what is too long is used.
int cropped(int scaled, int tensor) { return std::max(scaled - tensor, 0) / 2; }

// A real number as a model's input has it: round(x / scale) + zero_point, halves to even, clipped, for integers.
template <typename T>
T quantized(float real, const std::optional<Quantization>& quantization) {
  if constexpr (std::is_same_v<T, float>) {
    return real;
  } else if constexpr (std::is_same_v<T, Half>) {
    return to_half(real);
  } else {
    const float steps = quantization ? real / quantization->scale : real;
    const float level = std::nearbyint(steps) + static_cast<float>(quantization ? quantization->zero_point : 0);
    using Limits = std::numeric_limits<T>;
    return static_cast<T>(std::clamp<float>(level, Limits::min(), Limits::max()));
  }
}

}  // namespace

int bytes_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::u8:
    case Dtype::i8: return 1;
    case Dtype::f16: return 2;
    case Dtype::f32:
    case Dtype::i32: return 4;
    case Dtype::i64: break;
  }
  return 8;
}

int bytes_of(PixelFormat format) { return format_of(format).channels; }

std::ptrdiff_t checked_row_bytes(const ImageView& picture) {
  if (picture.pixels == nullptr || picture.height <= 0 || picture.width <= 0) {
    throw data_error("the picture is empty (" + std::to_string(picture.height) + "x" + std::to_string(picture.width) +
                     (picture.pixels == nullptr ? ", no pixels" : "") + "). Give one of 1 pixel or more.");
  }
  const std::int64_t needed = std::int64_t{picture.width} * format_of(picture.format).channels;
  if (picture.row_bytes == 0) return static_cast<std::ptrdiff_t>(needed);
  if (picture.row_bytes < needed) {
    throw data_error("the picture's rows have " + std::to_string(picture.row_bytes) + " bytes, but " +
                     std::to_string(picture.width) + " pixels take " + std::to_string(needed) +
                     ". Give row_bytes as the distance between rows.");
  }
  return picture.row_bytes;
}

AxisMap axis_map(int picture, int scaled, int cropped) {
  const double scale = static_cast<double>(scaled) / picture;
  return {scale, 0.5 * scale - 0.5 - cropped};
}

Geometry place(Size picture, const InputSpec& input) {
  const auto [scaled, tensor] = sizes(picture, input);
  return {picture, tensor, axis_map(picture.height, scaled.height, cropped(scaled.height, tensor.height)),
          axis_map(picture.width, scaled.width, cropped(scaled.width, tensor.width))};
}

template <typename T>
Preparer::Table<T> Preparer::make_table(const InputSpec& input) {
  Table<T> table;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const auto entry = [&](float value) {
      const float real = (value - input.mean[channel]) / input.std_deviation[channel];
      return quantized<T>(real, input.quantization);
    };
    for (int value = 0; value < 256; ++value) table.values[channel][value] = entry(static_cast<float>(value));
    table.pad[channel] = entry(input.pad_value);
  }
  return table;
}

Preparer::Preparer(const InputSpec& input) : input_(input) {
  switch (input.dtype) {
    case Dtype::f16: table_ = make_table<Half>(input); break;
    case Dtype::u8: table_ = make_table<std::uint8_t>(input); break;
    case Dtype::i8: table_ = make_table<std::int8_t>(input); break;
    default: table_ = make_table<float>(input); break;
  }
}

Geometry Preparer::prepare(const ImageView& picture, void* tensor) {
  const std::ptrdiff_t row_bytes = checked_row_bytes(picture);
  if (input_.resize == Resize::window) {
    throw usage_error("the spec asks for a sliding window, so the picture must be cut into windows first.");
  }
  const Size size{picture.height, picture.width};
  const Sizes to = sizes(size, input_);
  const Size inside{std::min(to.scaled.height, to.tensor.height), std::min(to.scaled.width, to.tensor.width)};
  const int top = cropped(to.scaled.height, to.tensor.height), left = cropped(to.scaled.width, to.tensor.width);
  rows_.start(picture.pixels, row_bytes, size, format_of(picture.format).channels, to.scaled, left, inside.width);
  const auto fill_from = [&]<typename T>(const Table<T>& table) {
    fill(table, picture.format, inside, top, to.tensor, static_cast<T*>(tensor));
  };
  std::visit(fill_from, table_);
  return place(size, input_);
}

template <typename T>
void Preparer::fill(const Table<T>& table, PixelFormat format, Size inside, int top, Size tensor_size, T* tensor) {
  const auto [step, rgb] = format_of(format);
  const bool interleaved = input_.layout == Layout::nhwc;
  const std::size_t width = tensor_size.width, plane = tensor_size.height * width;
  const std::size_t stride = interleaved ? 3 : 1;
  for (int y = 0; y < tensor_size.height; ++y) {
    const std::uint8_t* row = y < inside.height ? rows_.row(top + y) : nullptr;
    const std::size_t used = row != nullptr ? inside.width : 0;
    for (std::size_t channel = 0; channel < 3; ++channel) {
      const std::array<T, 256>& values = table.values[channel];
      T* target = tensor + y * width * stride + (interleaved ? channel : channel * plane);
      if (used > 0) {
        const std::uint8_t* source = row + rgb[input_.color == Color::rgb ? channel : 2 - channel];
        for (std::size_t x = 0; x < used; ++x) target[x * stride] = values[source[x * step]];
      }
      for (std::size_t x = used; x < width; ++x) target[x * stride] = table.pad[channel];
    }
  }
}

void to_rgb(const ImageView& picture, std::vector<std::uint8_t>& rgb) {
  const std::ptrdiff_t row_bytes = checked_row_bytes(picture);
  const auto [step, place] = format_of(picture.format);
  const std::size_t height = picture.height, width = picture.width;
  rgb.resize(height * width * 3);
  std::uint8_t* target = rgb.data();
  for (std::size_t y = 0; y < height; ++y) {
    const std::uint8_t* source = picture.pixels + static_cast<std::ptrdiff_t>(y) * row_bytes;
    for (std::size_t x = 0; x < width; ++x, source += step, target += 3) {
      for (std::size_t channel = 0; channel < 3; ++channel) target[channel] = source[place[channel]];
    }
  }
}

}  // namespace deeplab
