// LiteRT through its C interface: compiled models on the CPU, with XNNPACK.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>
#include <utility>

#include "../error.hpp"
#include "../image/read.hpp"
#include "abi/litert.h"
#include "engines.hpp"
#include "fit.hpp"

#ifndef DEEPLAB_LITERT_VERSION  // the library does not tell
#define DEEPLAB_LITERT_VERSION ""
#endif

namespace deeplab {
namespace {

static_assert(sizeof(LiteRtLayout) == 68 && sizeof(LiteRtRankedTensorType) == 72);
static_assert(sizeof(LiteRtEnvOption) == 24 && sizeof(LiteRtQuantizationPerTensor) == 16);

template <auto destroy>
struct Destroyer {
  template <typename T>
  void operator()(T* object) const { destroy(object); }
};
template <typename Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroyer<destroy>>;

using Environment = Owned<LiteRtEnvironment, LiteRtDestroyEnvironment>;
using Model = Owned<LiteRtModel, LiteRtDestroyModel>;
using CompileOptions = Owned<LiteRtOptions, LiteRtDestroyOptions>;
using CompiledModel = Owned<LiteRtCompiledModel, LiteRtDestroyCompiledModel>;
using Buffer = Owned<LiteRtTensorBuffer, LiteRtDestroyTensorBuffer>;

std::string reason(LiteRtStatus status) {
  switch (status) {
    case kLiteRtStatusErrorMemoryAllocationFailure: return "there is too little memory";
    case kLiteRtStatusErrorUnsupported: return "it holds something that LiteRT does not support";
    case kLiteRtStatusErrorFileIO: return "it is not a TFLite file";
    case kLiteRtStatusErrorInvalidFlatbuffer: return "it is not a TFLite file, or it is damaged";
    case kLiteRtStatusErrorCompilation: return "its operations cannot be compiled";
    default: return "the file is damaged or not supported (status " + std::to_string(status) + ")";
  }
}

LiteRtRankedTensorType make_type(int element_type, const std::vector<std::int64_t>& shape) {
  LiteRtRankedTensorType type{};
  type.element_type = element_type;
  type.layout.rank = static_cast<unsigned>(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    type.layout.dimensions[axis] = static_cast<std::int32_t>(shape[axis]);
  }
  return type;
}

class LitertEngine final : public Engine {
 public:
  LitertEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options) : path_(path) {
    create_environment();
    read_model(spec);
    compile(options.threads);
  }

  std::string name() const override { return "litert" DEEPLAB_LITERT_VERSION " (cpu, f32)"; }
  const TensorInfo& input() const override { return input_.info; }
  const TensorInfo& output() const override { return outputs_[output_index_].info; }

  void* input_buffer(const std::vector<std::int64_t>& shape) override {
    if (shape != input_.shape) {
      input_.shape.clear();  // until all is prepared
      prepare(shape);
      input_.shape = shape;
    }
    return memory(input_);
  }

  TensorView run() override {
    LiteRtTensorBuffer input = input_.buffer.get();
    std::vector<LiteRtTensorBuffer> outputs;
    for (const Tensor& tensor : outputs_) outputs.push_back(tensor.buffer.get());
    const LiteRtStatus status = LiteRtRunCompiledModel(compiled_.get(), 0, 1, &input, outputs.size(), outputs.data());
    if (status != 0) throw engine_error("LiteRT cannot run " + path_, reason(status));
    const Tensor& output = outputs_[output_index_];
    return {memory(output), output.info.dtype, output.shape};
  }

 private:
  struct Tensor {
    TensorInfo info;
    int element_type = 0;
    std::vector<std::int64_t> shape;  // of the buffer
    Buffer buffer;
  };

  void check(LiteRtStatus status) const {
    if (status != 0) throw engine_error("LiteRT cannot open " + path_, reason(status));
  }

  void create_environment() {
    // Nothing but the CPU: other accelerators are libraries that would be looked for and loaded.
    const LiteRtEnvOption options[] = {
        {kLiteRtEnvOptionTagMinLoggerSeverity, {kLiteRtAnyTypeInt, kLiteRtLogSeveritySilent}},
        {kLiteRtEnvOptionTagAutoRegisterAccelerators, {kLiteRtAnyTypeInt, kLiteRtHwAcceleratorCpu}}};
    LiteRtEnvironment environment = nullptr;
    check(LiteRtCreateEnvironment(2, options, &environment));
    environment_.reset(environment);
  }

  // The model's first signature, which every file has: LiteRT makes one up for a file without.
  void read_model(const ModelSpec& spec) {
    file_ = read_file(path_);
    LiteRtModel model = nullptr;
    check(LiteRtCreateModelFromBuffer(environment_.get(), file_.data(), file_.size(), &model));
    model_.reset(model);
    LiteRtSignature signature = nullptr;
    check(LiteRtGetModelSignature(model, 0, &signature));
    std::size_t input_count = 0;
    std::size_t output_count = 0;
    check(LiteRtGetNumSignatureInputs(signature, &input_count));
    check(LiteRtGetNumSignatureOutputs(signature, &output_count));
    std::vector<Tensor> inputs = read_tensors(signature, input_count, LiteRtGetSignatureInputTensorByIndex);
    outputs_ = read_tensors(signature, output_count, LiteRtGetSignatureOutputTensorByIndex);
    input_ = std::move(inputs[pick_tensor(inputs, spec.input.name, spec)]);
    output_index_ = pick_tensor(outputs_, spec.output.name, spec);
    input_.info.dtype = dtype_of(input_);
    outputs_[output_index_].info.dtype = dtype_of(outputs_[output_index_]);
    check_fit(input_.info, input_count, output(), spec, path_);
  }

  template <typename ByIndex>
  std::vector<Tensor> read_tensors(LiteRtSignature signature, std::size_t count, ByIndex by_index) const {
    std::vector<Tensor> tensors;
    for (std::size_t i = 0; i < count; ++i) {
      LiteRtTensor tensor = nullptr;
      check(by_index(signature, i, &tensor));
      tensors.push_back(read_tensor(tensor));
    }
    return tensors;
  }

  Tensor read_tensor(LiteRtTensor handle) const {
    Tensor tensor;
    const char* name = nullptr;
    check(LiteRtGetTensorName(handle, &name));
    tensor.info.name = name ? name : "";
    LiteRtRankedTensorType type{};
    check(LiteRtGetRankedTensorType(handle, &type));
    if (type.layout.rank > LITERT_TENSOR_MAX_RANK) {
      throw data_error(path_ + " has a tensor of " + std::to_string(type.layout.rank) + " axes.");
    }
    tensor.element_type = type.element_type;
    for (unsigned axis = 0; axis < type.layout.rank; ++axis) {
      tensor.info.shape.push_back(std::max(type.layout.dimensions[axis], -1));
    }
    int kind = 0;
    LiteRtQuantizationPerTensor own{};
    check(LiteRtGetQuantizationTypeId(handle, &kind));
    if (kind != kLiteRtQuantizationPerTensor) return tensor;
    check(LiteRtGetPerTensorQuantization(handle, &own));
    if (own.zero_point < std::numeric_limits<int>::min() || own.zero_point > std::numeric_limits<int>::max()) {
      throw data_error(path_ + ": the tensor '" + tensor.info.name + "' has an impossible zero point.");
    }
    if (own.scale > 0) tensor.info.quantization = Quantization{own.scale, static_cast<int>(own.zero_point)};
    return tensor;
  }

  std::size_t pick_tensor(const std::vector<Tensor>& tensors, const std::string& name, const ModelSpec& spec) const {
    std::vector<std::string> names;
    for (const Tensor& tensor : tensors) names.push_back(tensor.info.name);
    return pick(names, name, spec, path_);
  }

  Dtype dtype_of(const Tensor& tensor) const {
    switch (tensor.element_type) {
      case kLiteRtElementTypeFloat32: return Dtype::f32;
      case kLiteRtElementTypeFloat16: return Dtype::f16;
      case kLiteRtElementTypeUInt8: return Dtype::u8;
      case kLiteRtElementTypeInt8: return Dtype::i8;
      case kLiteRtElementTypeInt32: return Dtype::i32;
      case kLiteRtElementTypeInt64: return Dtype::i64;
      default: throw unknown_type(tensor.info.name, path_);
    }
  }

  void compile(int threads) {
    LiteRtOptions options = nullptr;
    check(LiteRtCreateOptions(&options));
    const CompileOptions owner(options);
    check(LiteRtSetOptionsHardwareAccelerators(options, kLiteRtHwAcceleratorCpu));
    add_option(options, "xnnpack", "num_threads = " + std::to_string(threads) + "\n");
    add_option(options, "runtime_options_string", "error_reporter_mode = 2\n");  // into memory, not to stderr
    LiteRtCompiledModel compiled = nullptr;
    check(LiteRtCreateCompiledModel(environment_.get(), model_.get(), options, &compiled));
    compiled_.reset(compiled);
  }

  // The options of a part of LiteRT travel as TOML, under the part's name.
  void add_option(LiteRtOptions options, const char* part, const std::string& toml) const {
    char* text = strdup(toml.c_str());
    if (!text) throw std::bad_alloc();
    LiteRtOpaqueOptions opaque = nullptr;
    const LiteRtStatus created = LiteRtCreateOpaqueOptions(part, text, std::free, &opaque);
    if (created != 0) std::free(text);
    check(created);
    const LiteRtStatus added = LiteRtAddOpaqueOptions(options, opaque);
    if (added != 0) LiteRtDestroyOpaqueOptions(opaque);
    check(added);
  }

  // Buffers for an input of that shape and the outputs that follow from it.
  void prepare(const std::vector<std::int64_t>& shape) {
    check_input_shape(input_.info, shape, path_);
    if (shape != input_.info.shape) {
      const std::vector<int> sides(shape.begin(), shape.end());
      check(LiteRtCompiledModelResizeInputTensor(compiled_.get(), 0, 0, sides.data(), sides.size()));
    }
    std::vector<LiteRtLayout> layouts(outputs_.size());
    check(LiteRtGetCompiledModelOutputTensorLayouts(compiled_.get(), 0, layouts.size(), layouts.data(), true));
    LiteRtTensorBufferRequirements needs = nullptr;
    check(LiteRtGetCompiledModelInputBufferRequirements(compiled_.get(), 0, 0, &needs));
    input_.buffer = make_buffer(make_type(input_.element_type, shape), needs);
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      Tensor& output = outputs_[i];
      output.shape.assign(layouts[i].dimensions, layouts[i].dimensions + layouts[i].rank);
      check(LiteRtGetCompiledModelOutputBufferRequirements(compiled_.get(), 0, i, &needs));
      output.buffer = make_buffer(make_type(output.element_type, output.shape), needs);
    }
  }

  Buffer make_buffer(const LiteRtRankedTensorType& type, LiteRtTensorBufferRequirements needs) const {
    std::size_t bytes = 0;
    LiteRtTensorBuffer buffer = nullptr;
    check(LiteRtGetTensorBufferRequirementsBufferSize(needs, &bytes));
    const auto kind = kLiteRtTensorBufferTypeHostMemory;
    check(LiteRtCreateManagedTensorBuffer(environment_.get(), kind, &type, bytes, &buffer));
    return Buffer(buffer);
  }

  void* memory(const Tensor& tensor) const {
    void* address = nullptr;
    check(LiteRtGetTensorBufferHostMemory(tensor.buffer.get(), &address));
    return address;
  }

  const std::string path_;
  // Destroyed from the last to the first.
  std::vector<std::uint8_t> file_;
  Environment environment_;
  Model model_;
  CompiledModel compiled_;
  Tensor input_;
  std::vector<Tensor> outputs_;
  std::size_t output_index_ = 0;
};

}  // namespace

std::unique_ptr<Engine> open_litert(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  if (!&LiteRtCreateModelFromFd) {
    throw missing_error("this libLiteRt.so is older than LiteRT 2.1.6, whose interface is needed. Take a newer one.");
  }
  if (!options.device.empty() && options.device != "cpu") throw unknown_device("tflite", options.device, "cpu");
  return std::make_unique<LitertEngine>(path, spec, options);
}

}  // namespace deeplab
