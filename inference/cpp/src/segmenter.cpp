// Segmenter: spec, engine and arithmetic put together, and the boundary where exceptions end.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>
#include <utility>

#include "deeplab/deeplab.hpp"
#include "engine.hpp"
#include "error.hpp"
#include "open_spec.hpp"
#include "pixels.hpp"
#include "sampling.hpp"
#include "window.hpp"

namespace deeplab {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// Run `work`, whatever it throws as a Status.
template <typename Work>
Status guarded(Work&& work) noexcept {
  try {
    try {
      work();
      return {};
    } catch (const Error& error) {
      return {error.code, error.what()};
    } catch (const std::bad_alloc&) {
      return {Code::data, "there is too little memory for this picture or model. Use a smaller one."};
    } catch (const std::length_error&) {
      return {Code::data, "this picture or model is too large for this machine. Use a smaller one."};
    } catch (const std::exception& error) {
      return {Code::internal, std::string("unexpected: ") + error.what()};
    }
  } catch (...) {  // no memory for the message, or something that is no std::exception
    return {Code::internal, {}};
  }
}

std::string size_text(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

// The input of a window: a piece of the picture that keeps its scale.
InputSpec window_input(const ModelSpec& spec) {
  InputSpec input = spec.input;
  input.size = spec.window->size;
  input.resize = Resize::pad;
  return input;
}

std::string describe(const ModelSpec& spec, const Engine& engine, const std::string& notes) {
  std::string text = spec.model_name.empty() ? "unknown network" : spec.model_name;
  text += ", " + engine.name() + ", ";
  if (spec.window) {
    const auto& stride = spec.window->stride;
    text += "window " + size_text(spec.window->size) + " stride " + size_text(stride);
  } else {
    text += "input " + (spec.input.size ? size_text(*spec.input.size) : std::string("of any size"));
  }
  return text + ", " + std::to_string(spec.classes.size()) + " classes" + notes;
}

}  // namespace

struct Segmenter::State {
  State(OpenedModel opened, bool asked_for_scores)
      : spec(std::move(opened.spec)),
        engine(std::move(opened.engine)),
        input(spec.window ? window_input(spec) : spec.input),
        preparer(input),
        with_scores(asked_for_scores),
        description(describe(spec, *engine, opened.notes)) {}

  // The network's output for a picture or a piece of one, and where that lies on the input tensor.
  TensorView run(const ImageView& picture, Geometry& geometry, Timings& timings) {
    const auto start = Clock::now();
    const Size size = place({picture.height, picture.width}, input).tensor;
    const bool nhwc = spec.input.layout == Layout::nhwc;
    void* tensor = engine->input_buffer(nhwc ? std::vector<std::int64_t>{1, size.height, size.width, 3}
                                             : std::vector<std::int64_t>{1, 3, size.height, size.width});
    geometry = preparer.prepare(picture, tensor);
    timings.prepare += milliseconds_since(start);
    const auto prepared = Clock::now();
    const TensorView output = engine->run();
    timings.network += milliseconds_since(prepared);
    return output;
  }

  void segment(const ImageView& picture, Result& result) {
    checked_row_bytes(picture);
    result.height = picture.height;
    result.width = picture.width;
    result.labels.resize(static_cast<std::size_t>(picture.height) * picture.width);
    result.scores.clear();
    result.timings = {};
    if (spec.window) {
      segment_windows(picture, result);
    } else {
      segment_whole(picture, result);
    }
    result.areas.assign(spec.classes.size(), 0);
    std::array<std::int64_t, 256> counts{};
    for (const std::uint8_t label : result.labels) ++counts[label];
    std::copy_n(counts.begin(), result.areas.size(), result.areas.begin());
  }

  void segment_whole(const ImageView& picture, Result& result) {
    Geometry geometry;
    const TensorView output = run(picture, geometry, result.timings);
    const auto start = Clock::now();
    const int classes = static_cast<int>(spec.classes.size());
    if (spec.output.kind == OutputKind::labels) {
      sample_labels(output, spec.output, classes, geometry, result.labels.data());
    } else {
      class_planes(output, spec.output, classes, with_scores, planes);
      sampler.label(planes, geometry, spec.output.align_corners, result.labels.data());
      if (with_scores) fill_scores(geometry, result);
    }
    result.timings.labels = milliseconds_since(start);
  }

  void segment_windows(const ImageView& picture, Result& result) {
    const auto start = Clock::now();
    const std::ptrdiff_t row_bytes = checked_row_bytes(picture);
    const int pixel_bytes = bytes_of(picture.format);
    const int classes = static_cast<int>(spec.classes.size());
    double other = 0;
    const auto run_tile = [&](const Tile& tile, bool dequantized, Planes& tile_planes) {
      const auto began = Clock::now();
      ImageView piece = picture;
      piece.pixels += tile.top * row_bytes + static_cast<std::ptrdiff_t>(tile.left) * pixel_bytes;
      piece.height = std::min(spec.window->size.height, picture.height - tile.top);
      piece.width = std::min(spec.window->size.width, picture.width - tile.left);
      piece.row_bytes = row_bytes;
      Geometry ignored;  // of the piece; the tile's own is that of the whole picture
      const TensorView output = run(piece, ignored, result.timings);
      other += milliseconds_since(began);
      class_planes(output, spec.output, classes, dequantized, tile_planes);
    };
    label_by_windows({picture.height, picture.width}, *spec.window, spec.output, classes, run_tile,
                     result.labels.data());
    result.timings.labels = milliseconds_since(start) - other;
  }

  // The probability of each pixel's label, a row at a time.
  void fill_scores(const Geometry& geometry, Result& result) {
    const Size size = geometry.picture;
    const int classes = planes.classes;
    const auto width = static_cast<std::size_t>(size.width);
    const bool corners = spec.output.align_corners;
    const Neighbours y = neighbours(geometry.y, size.height, geometry.tensor.height, planes.height, corners);
    const Neighbours x = neighbours(geometry.x, size.width, geometry.tensor.width, planes.width, corners);
    result.scores.resize(result.labels.size());
    row_scores.resize(classes * width);
    for (int row = 0; row < size.height; ++row) {
      std::fill(row_scores.begin(), row_scores.end(), 0.0f);
      add_scores(planes, y, x, row, row + 1, 0, size.width, row_scores.data());
      const std::uint8_t* labels = result.labels.data() + row * width;
      for (std::size_t column = 0; column < width; ++column) {
        const float own = row_scores[labels[column] * width + column];
        float& score = result.scores[row * width + column];
        if (spec.output.kind == OutputKind::probabilities) {
          score = own;
          continue;
        }
        float sum = 0;  // of exp(other − own), which is at most the number of classes, but for rounding
        for (int k = 0; k < classes; ++k) sum += std::exp(row_scores[k * width + column] - own);
        score = 1 / sum;
      }
    }
  }

  const ModelSpec spec;
  const std::unique_ptr<Engine> engine;
  const InputSpec input;  // of the whole picture, or of a window
  Preparer preparer;
  LabelSampler sampler;
  Planes planes;
  std::vector<float> row_scores;
  const bool with_scores;
  const std::string description;
};

Segmenter::Segmenter(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Segmenter::~Segmenter() = default;

Status Segmenter::open(const std::string& path, const Options& options, std::unique_ptr<Segmenter>& opened) noexcept {
  return guarded([&] {
    auto state = std::make_unique<State>(open_model(path, options), options.scores);
    opened.reset(new Segmenter(std::move(state)));
  });
}

std::vector<std::string> Segmenter::engines() {
  std::vector<std::string> names;
  for (const auto& factory : engine_factories()) names.emplace_back(factory.name);
  return names;
}

Status Segmenter::segment(const ImageView& picture, Result& result) noexcept {
  return guarded([&] { state_->segment(picture, result); });
}

const std::vector<ClassInfo>& Segmenter::classes() const noexcept { return state_->spec.classes; }
const std::string& Segmenter::description() const noexcept { return state_->description; }
int Segmenter::picture_max() const noexcept { return state_->spec.input.picture_max; }
int Segmenter::ignore_index() const noexcept { return state_->spec.ignore_index.value_or(-1); }

std::array<int, 2> Segmenter::stretched_size() const noexcept {
  const auto& input = state_->spec.input;
  if (state_->spec.window || !input.size || input.resize != Resize::stretch) return {0, 0};
  return {input.size->height, input.size->width};
}

}  // namespace deeplab
