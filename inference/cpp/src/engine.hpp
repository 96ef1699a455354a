// An engine: a model file opened for one picture at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "spec.hpp"

namespace deeplab {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;  // with the batch axis, in the file's own order; -1: any; empty: not even the rank
  std::optional<Quantization> quantization;  // one for the whole tensor, where the file says it
};

// A tensor in the engine's memory, dense, rows of the last axis without gaps.
struct TensorView {
  const void* data = nullptr;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;  // with the batch axis
};

struct EngineOptions {
  std::string device;  // empty: the CPU
  int threads = 1;     // 1 or more
  bool half = false;   // 16-bit arithmetic where the engine has it
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::string name() const = 0;  // with version and arithmetic: "litert 2.3 (cpu)"
  virtual const TensorInfo& input() const = 0;
  virtual const TensorInfo& output() const = 0;

  // Where to write the input of the next run: `shape` with a batch of 1, in the spec's layout and type. Throws Error
  // (data) where the file does not take that shape. The pointer is good until the next call of input_buffer.
  virtual void* input_buffer(const std::vector<std::int64_t>& shape) = 0;

  // Run the network. The view is good until the next call of input_buffer or run, and in the layout of the spec.
  virtual TensorView run() = 0;
};

struct EngineFactory {
  const char* name;                     // tflite
  std::vector<const char*> extensions;  // {".tflite"}
  std::unique_ptr<Engine> (*open)(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
};

// The engines that were built in.
const std::vector<EngineFactory>& engine_factories();

// Open a model with an engine by name, or (empty) the one of the file's extension. The tensors that the spec means are
// found by name, or are the only ones there are; they are compared with it. A spec without classes is an assumed one: it
// says nothing yet, and means the first tensors.
// Throws Error: usage (unknown engine, extension or device), missing (an engine that is not built in, a device that is
// not there), data (the file is missing, damaged, or has other tensors than the spec says).
std::unique_ptr<Engine> open_engine(const std::string& path, const std::string& engine, const ModelSpec& spec,
                                    const EngineOptions& options);

}  // namespace deeplab
