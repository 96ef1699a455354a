#include "fit.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <optional>

#include "../pixels.hpp"

namespace deeplab {
namespace {

constexpr std::int64_t max_side = 16384;  // pixels; more is a damaged spec, and its tensor would not fit anywhere

// A side is -1 where it is open.
struct Sides {
  std::int64_t height;
  std::int64_t width;
  std::int64_t channels;
};

Sides split(const std::vector<std::int64_t>& shape, Layout layout) {
  if (layout == Layout::nhwc) return {shape[1], shape[2], shape[3]};
  return {shape[2], shape[3], shape[1]};
}

std::string size_text(std::int64_t height, std::int64_t width) {
  if (height < 0 && width < 0) return "any size";
  const auto side = [](std::int64_t value) { return value < 0 ? std::string("?") : std::to_string(value); };
  return side(height) + "x" + side(width);
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t side : shape) text += (text.empty() ? "" : ", ") + std::to_string(side);
  return "[" + text + "]";
}

const char* type_name(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return "float32";
    case Dtype::f16: return "float16";
    case Dtype::u8: return "uint8";
    case Dtype::i8: return "int8";
    case Dtype::i32: return "int32";
    case Dtype::i64: return "int64";
  }
  return "";
}

std::string number_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

std::string quantization_text(const Quantization& quantization, const char* zero_point) {
  return number_text(quantization.scale) + " and " + zero_point + std::to_string(quantization.zero_point);
}

// A file that says its own quantization must say that of the spec.
void check_quantization(const char* side, const TensorInfo& tensor, const std::optional<Quantization>& spec,
                        const std::string& path) {
  if (!tensor.quantization) return;
  const Quantization& own = *tensor.quantization;
  const double larger = spec ? std::max(std::fabs(spec->scale), std::fabs(own.scale)) : 0;
  if (spec && spec->zero_point == own.zero_point &&
      std::fabs(static_cast<double>(spec->scale) - own.scale) <= 1e-5 * larger) {
    return;
  }
  throw data_error(path + " has an " + side + " of scale " + quantization_text(own, "zero point ") +
                   ", but its spec says " + (spec ? quantization_text(*spec, "") : "none") + ".");
}

void check_output(const TensorInfo& output, const Sides& picture, const ModelSpec& spec, const std::string& path) {
  const std::size_t rank = output.shape.size();
  if (spec.output.kind == OutputKind::labels) {
    if (rank != 0 && rank != 3 && rank != 4) {
      throw data_error(path + " does not put out labels, as its spec says.");
    }
    return;
  }
  if (rank != 4) {
    throw data_error(path + " does not put out a score per class and pixel: its output has " + std::to_string(rank) +
                     " axes.");
  }
  const Sides grid = split(output.shape, spec.output.layout);
  const auto classes = static_cast<std::int64_t>(spec.classes.size());
  if (grid.channels >= 0 && grid.channels != classes) {
    throw data_error(path + " has " + std::to_string(grid.channels) + " classes, but its spec lists " +
                     std::to_string(classes) + ".");
  }
  // Halving an odd size rounds up or down by the padding of the network.
  const std::int64_t stride = spec.output.stride;
  const auto fits = [stride](std::int64_t side, std::int64_t whole) {
    return side <= 0 || whole <= 0 || side == whole / stride || side == whole / stride + (whole % stride != 0);
  };
  if (!fits(grid.height, picture.height) || !fits(grid.width, picture.width)) {
    throw data_error(path + " puts out " + size_text(grid.height, grid.width) + " for pictures of " +
                     size_text(picture.height, picture.width) + ", but its spec says stride " +
                     std::to_string(stride) + ".");
  }
  const bool real = output.dtype == Dtype::f32 || output.dtype == Dtype::f16;
  if (!real && !output.quantization && !spec.output.quantization) {
    throw data_error(path + " puts out " + type_name(output.dtype) + ", but its spec gives no scale for it.");
  }
  check_quantization("output", output, spec.output.quantization, path);
}

bool is_assumed(const ModelSpec& spec) { return spec.classes.empty(); }

}  // namespace

std::size_t pick(const std::vector<std::string>& names, const std::string& name, const ModelSpec& spec,
                 const std::string& path) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  if (names.size() == 1 || (is_assumed(spec) && !names.empty())) return 0;
  std::string known;
  for (std::size_t i = 0; i < std::min<std::size_t>(names.size(), 8); ++i) {
    known += (i ? ", '" : "'") + names[i] + "'";
  }
  throw data_error(path + " has no tensor '" + name + "', which its spec names. It has " +
                   (known.empty() ? "none" : known) + ".");
}

void check_fit(const TensorInfo& input, std::size_t inputs, const TensorInfo& output, const ModelSpec& spec,
               const std::string& path) {
  if (inputs != 1) {
    throw data_error(path + " has " + std::to_string(inputs) + " inputs, but only a picture can be given to it.");
  }
  if (input.shape.size() != 4) throw data_error(path + " does not take one batch of pictures.");
  if (input.shape[0] != 1 && input.shape[0] >= 0) {
    throw data_error(path + " takes batches of " + std::to_string(input.shape[0]) +
                     " pictures, but they are run one at a time. Convert it with a batch of 1 or of any size.");
  }
  if (is_assumed(spec)) return;
  const Sides picture = split(input.shape, spec.input.layout);
  if (picture.channels != 3 && picture.channels >= 0) {
    throw data_error(path + " takes " + std::to_string(picture.channels) + " channels, not 3 in the layout " +
                     (spec.input.layout == Layout::nhwc ? "NHWC" : "NCHW") + " of its spec.");
  }
  const std::int64_t height = spec.input.size ? spec.input.size->height : -1;
  const std::int64_t width = spec.input.size ? spec.input.size->width : -1;
  if ((picture.height >= 0 && picture.height != height) || (picture.width >= 0 && picture.width != width)) {
    throw data_error(path + " takes pictures of " + size_text(picture.height, picture.width) +
                     ", but its spec says " + size_text(height, width) + ".");
  }
  if (std::max({height, width, static_cast<std::int64_t>(spec.input.max_side.value_or(0))}) > max_side) {
    throw data_error(path + ": its spec says pictures of more than " + std::to_string(max_side) + " pixels a side.");
  }
  if (input.dtype != spec.input.dtype) {
    throw data_error(path + " takes " + type_name(input.dtype) + ", but its spec says " +
                     type_name(spec.input.dtype) + ".");
  }
  check_quantization("input", input, spec.input.quantization, path);
  check_output(output, picture, spec, path);
}

void check_input_shape(const TensorInfo& input, const std::vector<std::int64_t>& shape, const std::string& path) {
  bool fits = shape.size() == input.shape.size();
  for (std::size_t axis = 0; fits && axis < shape.size(); ++axis) {
    const std::int64_t own = input.shape[axis];
    fits = shape[axis] >= 1 && shape[axis] <= max_side && (own < 0 || own == shape[axis]);
  }
  if (!fits) {
    throw data_error(path + " takes inputs of " + shape_text(input.shape) + ", not of " + shape_text(shape) +
                     " (-1: any side up to " + std::to_string(max_side) + ").");
  }
}

std::size_t tensor_bytes(const std::vector<std::int64_t>& shape, Dtype dtype, const std::string& path) {
  auto bytes = static_cast<std::size_t>(bytes_of(dtype));
  for (const std::int64_t side : shape) {
    if (side < 1 || static_cast<std::size_t>(side) > std::numeric_limits<std::ptrdiff_t>::max() / bytes) {
      throw data_error(path + " has a tensor of the impossible shape " + shape_text(shape) + ".");
    }
    bytes *= static_cast<std::size_t>(side);
  }
  return bytes;
}

Error unknown_type(const std::string& tensor, const std::string& path) {
  return data_error(path + ": the tensor '" + tensor +
                    "' has a type other than float32, float16, uint8, int8, int32 and int64. Convert the model again.");
}

Error unknown_device(const std::string& engine, const std::string& device, const std::string& known) {
  return usage_error("the engine " + engine + " has no device '" + device + "'. Choose " + known + ".");
}

Error engine_error(const std::string& what, const std::string& reason) {
  std::string line = reason.substr(0, reason.find('\n'));
  for (char& letter : line) {
    if (static_cast<unsigned char>(letter) < ' ') letter = '?';  // messages quote the file
  }
  while (!line.empty() && (line.back() == '.' || line.back() == ' ' || line.back() == ':')) line.pop_back();
  return data_error(what + ": " + line + ".");
}

std::string short_version(const std::string& version) {
  const std::size_t first = version.find('.');
  if (first == std::string::npos) return version;
  return version.substr(0, version.find_first_of(".-", first + 1));
}

}  // namespace deeplab
