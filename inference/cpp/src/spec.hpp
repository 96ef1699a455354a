// ModelSpec: the contract that travels with every model file, as JSON. The twin of deeplabv3p/spec.py, and as strict.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "deeplab/deeplab.hpp"

namespace deeplab {

enum class Layout { nhwc, nchw };
enum class Dtype { f32, f16, u8, i8, i32, i64 };  // the last two are of outputs only; a spec's input has the others
enum class Color { rgb, bgr };
enum class Resize { stretch, fit, pad, crop, window };
enum class OutputKind { logits, probabilities, labels };

struct Size {
  int height = 0;
  int width = 0;
  bool operator==(const Size&) const = default;
};

struct Quantization {
  float scale = 1;
  int zero_point = 0;
};

struct InputSpec {
  std::string name;
  std::optional<Size> size;     // none: any size, bounded by max_side
  std::optional<int> max_side;  // pixels
  Layout layout = Layout::nhwc;
  Dtype dtype = Dtype::f32;
  Color color = Color::rgb;
  std::array<float, 3> mean{};  // in the order of `color`, units of 0 to 255
  std::array<float, 3> std_deviation{};
  std::optional<Quantization> quantization;
  Resize resize = Resize::stretch;
  float pad_value = 0;       // in units of 0 to 255
  int picture_max = 65535;   // the value of white in picture files of 16 bits a channel
};

struct OutputSpec {
  std::string name;
  Layout layout = Layout::nhwc;
  OutputKind kind = OutputKind::logits;
  int stride = 1;
  bool align_corners = false;
  std::optional<Quantization> quantization;
};

struct SpecWindow {
  Size size;
  Size stride;
};

struct ModelSpec {
  std::string model_name;
  InputSpec input;
  OutputSpec output;
  std::vector<ClassInfo> classes;
  std::optional<int> ignore_index;
  std::optional<SpecWindow> window;
};

// Read a spec from JSON text. `where` names it in messages. Throws Error (data) that names the key where a key is
// unknown, missing, twice, of a wrong type or out of range, the schema is newer, or the task is not segmentation.
ModelSpec parse_spec(std::string_view text, const std::string& where);

// Read a spec file; throws Error (data), also where it cannot be read or is larger than 16 MiB.
ModelSpec load_spec(const std::string& path);

}  // namespace deeplab
