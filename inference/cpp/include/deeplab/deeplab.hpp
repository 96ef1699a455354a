// Segment pictures with a model file and its spec: the same labels as deeplab.py gives.
//
//     #include <deeplab/deeplab.hpp>
//
//     std::unique_ptr<deeplab::Segmenter> segmenter;
//     deeplab::Status status = deeplab::Segmenter::open("model.tflite", {}, segmenter);
//     if (!status.ok()) return fail(status.message);
//     deeplab::ImageView picture{pixels, height, width, row_bytes, deeplab::PixelFormat::rgb};
//     deeplab::Result result;
//     status = segmenter->segment(picture, result);
//     if (!status.ok()) return fail(status.message);
//     use(result.labels.data(), result.height, result.width);  // a class per pixel of the picture
//
// What the model wants (size, layout, mean, quantization, window) is read from model.tflite.spec.json, which every
// converter writes beside its file. Nothing here throws: what goes wrong is a Status with a sentence for the user.
//
// Threads: a Segmenter serves one thread at a time. Different Segmenters, also of the same file, are independent.
// The static functions may be called from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deeplab/export.h"

namespace deeplab {

// What a call came to. The numbers are the exit codes of the command.
enum class Code {
  ok = 0,
  internal = 1,  // a bug here: please report the message
  usage = 2,     // options that do not exist or do not fit together
  data = 3,      // a model, spec or picture that cannot be used, or too little memory for it
  missing = 5,   // an engine that is not built in, or a device that is not there
};

struct Status {
  Code code = Code::ok;
  std::string message;  // one sentence: what, where, what to do; empty if ok

  bool ok() const noexcept { return code == Code::ok; }
};

enum class PixelFormat { rgb, bgr, rgba, bgra, grey };  // 8 bits each; alpha is dropped

// A picture in the caller's memory, read only during the call.
struct ImageView {
  const std::uint8_t* pixels = nullptr;
  int height = 0;
  int width = 0;
  std::ptrdiff_t row_bytes = 0;  // from one row to the next; 0: rows follow each other without a gap
  PixelFormat format = PixelFormat::rgb;
};

struct ClassInfo {
  std::string name;
  std::array<std::uint8_t, 3> color{};  // red, green, blue
};

// A sliding window in pixels; a stride of 0 is three quarters of the size.
struct Window {
  int height = 0;
  int width = 0;
  int stride_y = 0;
  int stride_x = 0;
};

struct Options {
  std::string engine;  // tflite, mnn, openvino or onnx; empty: by the file's extension
  std::string device;  // as the engine names it, such as "GPU"; empty: the CPU
  std::string spec;    // the spec file; empty: the model's name with ".spec.json"
  int threads = 0;     // 0: all cores
  bool half = false;   // let the engine compute in 16 bits where it can: faster, other rounding
  bool scores = false;  // fill Result::scores

  // What the spec says is overridden by what is given here.
  std::vector<float> mean;           // one or three numbers, in units of 0 to 255
  std::vector<float> std_deviation;  // likewise, above 0
  std::vector<ClassInfo> classes;
  Window window;        // its height 0: as the spec says
  int picture_max = 0;  // the value of white in picture files of 16 bits a channel; 0: as the spec says

  // Without a spec file: take the input and output as the file declares them, pictures stretched to the input's size,
  // RGB, with `classes`, `mean` and `std_deviation` from above (127.5 where there are none).
  bool assume_spec = false;
};

struct Timings {  // milliseconds of the last call; windows are added up
  double prepare = 0;  // picture → input tensor
  double network = 0;
  double labels = 0;  // output → label of every pixel
};

struct Result {
  int height = 0;
  int width = 0;
  std::vector<std::uint8_t> labels;  // [height, width], each below the number of classes
  std::vector<float> scores;         // [height, width], 0 to 1: the label's probability; empty unless asked for
  std::vector<std::int64_t> areas;   // pixels of each class
  Timings timings;
};

// An open model: engine, weights and buffers.
class DEEPLAB_API Segmenter {
 public:
  // Open a model file. `opened` is left alone unless the status is ok.
  static Status open(const std::string& path, const Options& options, std::unique_ptr<Segmenter>& opened) noexcept;

  // Engines that this library was built with, such as {"tflite", "openvino"}.
  static std::vector<std::string> engines();

  // Label every pixel of a picture. Buffers of `result` are used again, so keep it for the next picture.
  // After an error `result` holds nothing of use.
  Status segment(const ImageView& picture, Result& result) noexcept;

  const std::vector<ClassInfo>& classes() const noexcept;
  const std::string& description() const noexcept;  // one line: model, engine, input size, window, overrides
  int picture_max() const noexcept;                 // the value of white in picture files of 16 bits a channel
  int ignore_index() const noexcept;                // number in label files that means "no class"; -1: none
  // {height, width} of the input, where it is fixed and pictures are stretched to it; else {0, 0}.
  std::array<int, 2> stretched_size() const noexcept;

  ~Segmenter();
  Segmenter(const Segmenter&) = delete;
  Segmenter& operator=(const Segmenter&) = delete;

 private:
  struct State;
  explicit Segmenter(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace deeplab
