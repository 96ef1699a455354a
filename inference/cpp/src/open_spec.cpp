#include "open_spec.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "classes.hpp"
#include "error.hpp"

namespace deeplab {
namespace {

namespace fs = std::filesystem;

// One number for all channels, or three.
std::array<float, 3> channels(const std::vector<float>& values, const char* name) {
  if (values.size() != 1 && values.size() != 3) {
    throw usage_error(std::string(name) + " takes one number or three, not " + std::to_string(values.size()) + ".");
  }
  for (const float value : values) {
    if (!std::isfinite(value)) throw usage_error(std::string(name) + " must be a finite number.");
  }
  if (values.size() == 1) return {values[0], values[0], values[0]};
  return {values[0], values[1], values[2]};
}

void override_spec(ModelSpec& spec, const Options& options, std::string& notes) {
  if (options.picture_max < 0 || options.picture_max > 65535) throw usage_error("picture_max is 1 to 65535.");
  if (options.picture_max) {
    spec.input.picture_max = options.picture_max;
    notes += ", picture_max overridden";
  }
  if (!options.mean.empty()) {
    spec.input.mean = channels(options.mean, "the mean");
    notes += ", mean overridden";
  }
  if (!options.std_deviation.empty()) {
    spec.input.std_deviation = channels(options.std_deviation, "the standard deviation");
    for (const float value : spec.input.std_deviation) {
      if (value <= 0) throw usage_error("the standard deviation must be above 0.");
    }
    notes += ", standard deviation overridden";
  }
  if (!options.classes.empty()) {
    if (!spec.classes.empty() && options.classes.size() != spec.classes.size()) {
      throw usage_error("the class list names " + std::to_string(options.classes.size()) + " classes, but the model has " +
                        std::to_string(spec.classes.size()) + ". Give a list of the model's classes.");
    }
    spec.classes = options.classes;
    notes += ", classes overridden";
  }
}

// The window that slides over the picture, if any: the options' or, where the spec's resize rule asks for it, its own.
std::optional<SpecWindow> sliding_window(const ModelSpec& spec, const Options& options) {
  std::optional<SpecWindow> window;
  const Window& given = options.window;
  if (given.height != 0 || given.width != 0) {
    const auto stride = [](int asked, int size) { return asked ? asked : std::max(1, size * 3 / 4); };
    window = {{given.height, given.width}, {stride(given.stride_y, given.height), stride(given.stride_x, given.width)}};
  } else if (spec.input.resize == Resize::window) {
    if (!spec.window) {
      throw usage_error("the spec asks for a sliding window but does not say its size. Name one.");
    }
    window = spec.window;
  }
  if (!window) return window;
  const auto [size, step] = *window;
  if (size.height < 1 || size.width < 1 || step.height < 1 || step.width < 1) {
    throw usage_error("the size and the stride of a window are 1 pixel or more.");
  }
  if (step.height > size.height || step.width > size.width) {
    throw usage_error("the stride of a window must not be larger than the window: it would leave pixels out.");
  }
  if (spec.input.size && *spec.input.size != size) {
    throw usage_error("the model takes " + std::to_string(spec.input.size->height) + "x" +
                      std::to_string(spec.input.size->width) + " pixels, so the window must have that size.");
  }
  if (spec.output.kind == OutputKind::labels) {
    throw usage_error("the model puts out labels, but a sliding window takes scores. Use a model that puts out logits.");
  }
  return window;
}

// What can be known of a file without a spec: what its tensors are. The batch axis comes first; of the others the
// one of three channels is an end.
ModelSpec assumed_spec(const Engine& engine, const Options& options) {
  ModelSpec spec;
  const TensorInfo& input = engine.input();
  const TensorInfo& output = engine.output();
  if (input.shape.size() != 4 || (input.shape[3] != 3 && input.shape[1] != 3)) {
    throw data_error("the input '" + input.name + "' is no picture of three channels. Write a spec for this model.");
  }
  const bool nhwc = input.shape[3] == 3;
  spec.input.layout = nhwc ? Layout::nhwc : Layout::nchw;
  const auto height = input.shape[nhwc ? 1 : 2];
  const auto width = input.shape[nhwc ? 2 : 3];
  if (height > 0 && width > 0) spec.input.size = Size{static_cast<int>(height), static_cast<int>(width)};
  spec.input.dtype = input.dtype;
  // Real inputs are mostly -1 to 1. Whole numbers are mostly the picture's own.
  const bool real = input.dtype == Dtype::f32 || input.dtype == Dtype::f16;
  const float shift = real ? 127.5f : input.dtype == Dtype::i8 ? 128.0f : 0.0f;
  const float scale = real ? 127.5f : 1.0f;
  spec.input.mean = {shift, shift, shift};
  spec.input.std_deviation = {scale, scale, scale};
  spec.input.pad_value = 127.5f;

  const bool labels = output.dtype == Dtype::i32 || output.dtype == Dtype::i64 || output.shape.size() == 3;
  spec.output.kind = labels ? OutputKind::labels : OutputKind::logits;
  spec.output.layout = spec.input.layout;
  std::size_t classes = options.classes.size();
  if (!labels) {
    if (output.shape.size() != 4) throw data_error("the output '" + output.name + "' is no grid of scores.");
    // The class axis is where the number of classes is, or else where the channels of the input are.
    const auto first = output.shape[1];
    const auto last = output.shape[3];
    const auto wanted = static_cast<std::int64_t>(classes);
    if (wanted && (first == wanted) != (last == wanted)) {
      spec.output.layout = last == wanted ? Layout::nhwc : Layout::nchw;
    }
    const auto count = spec.output.layout == Layout::nhwc ? last : first;
    if (count < 1 || count > 255) {
      throw data_error("the output '" + output.name + "' has no axis of 1 to 255 classes. Write a spec for this model.");
    }
    classes = static_cast<std::size_t>(count);
  }
  if (classes == 0) throw usage_error("without a spec a model that puts out labels needs a class list.");
  if (options.classes.empty()) {
    for (std::size_t i = 0; i < classes; ++i) spec.classes.push_back({"class " + std::to_string(i), default_color(i)});
  } else if (options.classes.size() != classes) {
    throw usage_error("the class list names " + std::to_string(options.classes.size()) + " classes, but the model has " +
                      std::to_string(classes) + ".");
  }
  return spec;
}

int thread_count(int asked) {
  if (asked < 0) throw usage_error("the number of threads is 0 (all cores) or more.");
  return asked ? asked : std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

OpenedModel open_model(const std::string& path, const Options& options) {
  std::error_code error;
  if (!fs::exists(path, error)) throw data_error("there is no model file " + path + ".");
  const EngineOptions engine_options{options.device, thread_count(options.threads), options.half};
  OpenedModel opened;
  const std::string spec_path = options.spec.empty() ? path + ".spec.json" : options.spec;
  if (options.assume_spec && options.spec.empty() && !fs::exists(spec_path, error)) {
    opened.engine = open_engine(path, options.engine, opened.spec, engine_options);
    opened.spec = assumed_spec(*opened.engine, options);
    opened.notes = ", spec assumed";
    override_spec(opened.spec, options, opened.notes);
  } else {
    if (options.spec.empty() && !fs::exists(spec_path, error)) {
      throw data_error("the spec " + spec_path + " is missing: it says what the model wants. Copy it beside the model.");
    }
    opened.spec = load_spec(spec_path);
    override_spec(opened.spec, options, opened.notes);
    opened.engine = open_engine(path, options.engine, opened.spec, engine_options);
  }
  opened.spec.window = sliding_window(opened.spec, options);
  if (options.scores && (opened.spec.window || opened.spec.output.kind == OutputKind::labels)) {
    throw usage_error("scores are not available with a sliding window, or for a model that puts out labels.");
  }
  return opened;
}

}  // namespace deeplab
