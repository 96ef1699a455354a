// What a network puts out, in any layout and type: as class planes, or as labels.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "error.hpp"
#include "half.hpp"
#include "sampling.hpp"

namespace deeplab {
namespace {

constexpr int kIgnore = 255;  // no label, so there are at most as many classes

template <typename T>
float real(T value) {
  if constexpr (std::is_same_v<T, Half>) {
    return to_float(value);
  } else {
    return static_cast<float>(value);
  }
}

// Call `use` with a tensor's elements in their own type.
template <typename Use>
void visit_elements(const TensorView& tensor, Use use) {
  switch (tensor.dtype) {
    case Dtype::f32: return use(static_cast<const float*>(tensor.data));
    case Dtype::f16: return use(static_cast<const Half*>(tensor.data));
    case Dtype::u8: return use(static_cast<const std::uint8_t*>(tensor.data));
    case Dtype::i8: return use(static_cast<const std::int8_t*>(tensor.data));
    case Dtype::i32: return use(static_cast<const std::int32_t*>(tensor.data));
    case Dtype::i64: return use(static_cast<const std::int64_t*>(tensor.data));
  }
}

std::string show(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t side : shape) text += (text.empty() ? "" : ", ") + std::to_string(side);
  return "[" + text + "]";
}

bool is_grid(std::int64_t height, std::int64_t width) {
  constexpr std::int64_t most = std::numeric_limits<int>::max();
  // Bytes of all classes can be counted.
  return height > 0 && height <= most && width > 0 && width <= most && height <= (std::int64_t{1} << 50) / width;
}

// [points, classes] → [classes, points]. Some points at a time, which stay in the first-level cache for all classes.
template <typename T>
void transpose(const T* source, std::size_t points, std::size_t classes, float* target) {
  constexpr std::size_t step = 64;
  for (std::size_t begin = 0; begin < points; begin += step) {
    const std::size_t end = std::min(begin + step, points);
    for (std::size_t k = 0; k < classes; ++k) {
      for (std::size_t i = begin; i < end; ++i) target[k * points + i] = real(source[i * classes + k]);
    }
  }
}

bool all_finite(const std::vector<float>& values) {
  std::int32_t endless = 0;  // no early way out: so the loop is vectorised
  for (const float value : values) endless |= (std::bit_cast<std::int32_t>(value) & 0x7fffffff) >= 0x7f800000;
  return endless == 0;
}

}  // namespace

void class_planes(const TensorView& output, const OutputSpec& spec, int classes, bool dequantized, Planes& planes) {
  const bool classes_last = spec.layout == Layout::nhwc;
  const auto& shape = output.shape;
  const bool is_picture = shape.size() == 4 && shape[0] == 1;
  const std::int64_t height = is_picture ? shape[classes_last ? 1 : 2] : 0;
  const std::int64_t width = is_picture ? shape[classes_last ? 2 : 3] : 0;
  const std::int64_t found = is_picture ? shape[classes_last ? 3 : 1] : 0;
  if (!is_grid(height, width) || found < 1 || found > kIgnore) {
    throw data_error("the model's output is " + show(shape) + ", expected " + (classes_last ? "NHWC" : "NCHW") +
                     " with a batch of 1 and at most 255 classes. Correct the spec, or convert the model again.");
  }
  if (found != classes) {
    throw data_error("the model puts out " + std::to_string(found) + " classes, but its spec lists " +
                     std::to_string(classes) + ". Take the spec that belongs to the model.");
  }
  planes.classes = classes;
  planes.height = static_cast<int>(height);
  planes.width = static_cast<int>(width);
  const std::size_t points = static_cast<std::size_t>(height) * width, count = static_cast<std::size_t>(classes);
  planes.values.resize(points * count);
  visit_elements(output, [&](const auto* source) {
    if (classes_last) {
      transpose(source, points, count, planes.values.data());
    } else {
      for (std::size_t i = 0; i < planes.values.size(); ++i) planes.values[i] = real(source[i]);
    }
  });
  if (dequantized && spec.quantization) {
    const float zero = static_cast<float>(spec.quantization->zero_point), scale = spec.quantization->scale;
    for (float& value : planes.values) value = (value - zero) * scale;
  }
  if (!all_finite(planes.values)) {
    throw data_error("the model's output holds NaN or infinity. The model file is damaged or was converted wrongly.");
  }
}

void sample_labels(const TensorView& output, const OutputSpec& spec, int classes, const Geometry& geometry,
                   std::uint8_t* labels) {
  std::vector<std::int64_t> shape = output.shape;
  const std::size_t class_axis = spec.layout == Layout::nhwc ? 3 : 1;
  if (shape.size() == 4 && shape[class_axis] == 1) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(class_axis));
  if (shape.size() != 3 || shape[0] != 1 || !is_grid(shape[1], shape[2])) {
    throw data_error("the model's output is " + show(output.shape) +
                     ", expected labels [1, height, width]. Correct the spec, or convert the model again.");
  }
  const int height = static_cast<int>(shape[1]), width = static_cast<int>(shape[2]);
  const auto nearest = [&](const AxisMap& axis, int picture, int tensor, int grid) {
    std::vector<std::size_t> indexes;
    for (const double where : coordinates(axis, picture, tensor, grid, spec.align_corners)) {
      indexes.push_back(static_cast<std::size_t>(std::floor(where + 0.5)));
    }
    return indexes;
  };
  const auto rows = nearest(geometry.y, geometry.picture.height, geometry.tensor.height, height);
  const auto columns = nearest(geometry.x, geometry.picture.width, geometry.tensor.width, width);
  visit_elements(output, [&](const auto* source) {
    const std::size_t count = static_cast<std::size_t>(height) * width;
    const auto is_label = [](auto value) { return real(value) >= 0 && real(value) <= kIgnore; };
    if (!std::all_of(source, source + count, is_label)) {
      throw data_error("the model's labels are not all within 0 to 255. The model file is damaged or was converted "
                       "wrongly.");
    }
    int highest = 0;
    for (const std::size_t row : rows) {
      for (const std::size_t column : columns) {
        const int label = static_cast<int>(real(source[row * width + column]));
        highest = std::max(highest, label);
        *labels++ = static_cast<std::uint8_t>(label);
      }
    }
    if (highest >= classes) {
      throw data_error("the model puts out label " + std::to_string(highest) + ", but its spec lists " +
                       std::to_string(classes) + " classes. Take the spec that belongs to the model.");
    }
  });
}

}  // namespace deeplab
