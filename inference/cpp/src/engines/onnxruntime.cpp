// ONNX Runtime through its C interface, on the CPU.
#include <onnxruntime_c_api.h>

#include <cstddef>
#include <cstdlib>
#include <utility>

#include "../error.hpp"
#include "engines.hpp"
#include "fit.hpp"

namespace deeplab {
namespace {

// All that is called is in the first version of the interface.
constexpr std::uint32_t api_version = 1;
static_assert(offsetof(OrtApi, Run) == 9 * sizeof(void*));
static_assert(offsetof(OrtApi, CreateTensorAsOrtValue) == 48 * sizeof(void*));
static_assert(offsetof(OrtApi, ReleaseSessionOptions) == 100 * sizeof(void*));

// From 1.32 on the library writes a device id and a database of events into the user's cache and looks up its host. It
// asks the environment whether it may, once, before it gives anything out.
const OrtApiBase& base() {
  static const bool silent = ::setenv("ORT_DISABLE_TELEMETRY", "1", 1) == 0;
  if (!silent) throw missing_error("ONNX Runtime is not used: its telemetry cannot be switched off.");
  return *OrtGetApiBase();
}

const OrtApi& api() {
  static const OrtApi* const table = base().GetApi(api_version);
  if (!table) {
    throw missing_error(std::string("ONNX Runtime ") + base().GetVersionString() +
                        " no longer serves the interface that this program was built for. Build with its headers.");
  }
  return *table;
}

// An object of ONNX Runtime that is ours; `release` names its slot in the table.
template <typename T, void (*OrtApi::*release)(T*)>
struct Releaser {
  void operator()(T* object) const { (api().*release)(object); }
};
template <typename T, void (*OrtApi::*release)(T*)>
using Owned = std::unique_ptr<T, Releaser<T, release>>;

using StatusOwner = Owned<OrtStatus, &OrtApi::ReleaseStatus>;
using Env = Owned<OrtEnv, &OrtApi::ReleaseEnv>;
using SessionOptions = Owned<OrtSessionOptions, &OrtApi::ReleaseSessionOptions>;
using Session = Owned<OrtSession, &OrtApi::ReleaseSession>;
using Value = Owned<OrtValue, &OrtApi::ReleaseValue>;
using TypeInfo = Owned<OrtTypeInfo, &OrtApi::ReleaseTypeInfo>;
using ShapeInfo = Owned<OrtTensorTypeAndShapeInfo, &OrtApi::ReleaseTensorTypeAndShapeInfo>;

ONNXTensorElementDataType element_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case Dtype::f16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case Dtype::u8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case Dtype::i8: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8;
    case Dtype::i32: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case Dtype::i64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

class OnnxRuntimeEngine final : public Engine {
 public:
  OnnxRuntimeEngine(const std::string& path, const ModelSpec& spec, int threads) : path_(path) {
    create_session(threads);
    std::size_t inputs = 0;
    std::size_t outputs = 0;
    check(api().SessionGetInputCount(session_.get(), &inputs));
    check(api().SessionGetOutputCount(session_.get(), &outputs));
    input_ = find(inputs, api().SessionGetInputName, api().SessionGetInputTypeInfo, spec.input.name, spec);
    output_ = find(outputs, api().SessionGetOutputName, api().SessionGetOutputTypeInfo, spec.output.name, spec);
    check_fit(input_, inputs, output_, spec, path_);
  }

  std::string name() const override {
    return "onnxruntime " + short_version(base().GetVersionString()) + " (cpu, f32)";
  }
  const TensorInfo& input() const override { return input_; }
  const TensorInfo& output() const override { return output_; }

  void* input_buffer(const std::vector<std::int64_t>& shape) override {
    if (shape != shape_) {
      shape_.clear();
      check_input_shape(input_, shape, path_);
      OrtAllocator* allocator = nullptr;  // not ours
      check(api().GetAllocatorWithDefaultOptions(&allocator));
      input_value_ = make<Value>([&](OrtValue** value) {
        return api().CreateTensorAsOrtValue(allocator, shape.data(), shape.size(), element_type(input_.dtype), value);
      });
      shape_ = shape;
    }
    return data_of(input_value_);
  }

  TensorView run() override {
    const char* const input_name = input_.name.c_str();
    const char* const output_name = output_.name.c_str();
    const OrtValue* const input = input_value_.get();
    output_value_.reset();
    doing_ = "run";
    output_value_ = make<Value>([&](OrtValue** value) {
      return api().Run(session_.get(), nullptr, &input_name, &input, 1, &output_name, 1, value);
    });
    int is_tensor = 0;
    check(api().IsTensor(output_value_.get(), &is_tensor));
    if (!is_tensor) throw data_error(path_ + " put out something that is not a tensor.");
    const auto info = make<ShapeInfo>(
        [&](OrtTensorTypeAndShapeInfo** made) { return api().GetTensorTypeAndShape(output_value_.get(), made); });
    TensorInfo actual{output_.name, {}, {}, {}};
    read_tensor(info.get(), actual);
    return {data_of(output_value_), actual.dtype, actual.shape};
  }

 private:
  void check(OrtStatus* status) const {
    if (!status) return;
    const StatusOwner owner(status);
    throw engine_error("ONNX Runtime cannot " + std::string(doing_) + " " + path_, api().GetErrorMessage(status));
  }

  // What a function of ONNX Runtime makes through its last argument.
  template <typename Object, typename Create>
  Object make(Create create) const {
    typename Object::pointer made = nullptr;
    check(create(&made));
    return Object(made);
  }

  void create_session(int threads) {
    // What goes wrong is in a status as well, so nothing need be logged.
    env_ = make<Env>([](OrtEnv** env) { return api().CreateEnv(ORT_LOGGING_LEVEL_FATAL, "deeplab", env); });
    check(api().DisableTelemetryEvents(env_.get()));
    const auto options =
        make<SessionOptions>([](OrtSessionOptions** made) { return api().CreateSessionOptions(made); });
    check(api().SetSessionLogSeverityLevel(options.get(), ORT_LOGGING_LEVEL_FATAL));
    check(api().SetIntraOpNumThreads(options.get(), threads));
    check(api().SetInterOpNumThreads(options.get(), 1));
    session_ = make<Session>([&](OrtSession** session) {
      return api().CreateSession(env_.get(), path_.c_str(), options.get(), session);
    });
  }

  template <typename GetName, typename GetTypeInfo>
  TensorInfo find(std::size_t count, GetName get_name, GetTypeInfo get_type_info, const std::string& name,
                  const ModelSpec& spec) const {
    std::vector<std::string> names;
    OrtAllocator* allocator = nullptr;
    check(api().GetAllocatorWithDefaultOptions(&allocator));
    for (std::size_t i = 0; i < count; ++i) {
      char* own = nullptr;
      check(get_name(session_.get(), i, allocator, &own));
      names.emplace_back(own);
      check(api().AllocatorFree(allocator, own));
    }
    const std::size_t index = pick(names, name, spec, path_);
    const auto type = make<TypeInfo>([&](OrtTypeInfo** info) { return get_type_info(session_.get(), index, info); });
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;  // part of `type`
    check(api().CastTypeInfoToTensorInfo(type.get(), &tensor));
    if (!tensor) throw data_error(path_ + ": '" + names[index] + "' is not a tensor.");
    TensorInfo info{names[index], {}, {}, {}};
    read_tensor(tensor, info);
    return info;
  }

  void read_tensor(const OrtTensorTypeAndShapeInfo* tensor, TensorInfo& info) const {
    ONNXTensorElementDataType type{};
    check(api().GetTensorElementType(tensor, &type));
    switch (type) {
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: info.dtype = Dtype::f32; break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: info.dtype = Dtype::f16; break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: info.dtype = Dtype::u8; break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: info.dtype = Dtype::i8; break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: info.dtype = Dtype::i32; break;
      case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: info.dtype = Dtype::i64; break;
      default: throw unknown_type(info.name, path_);
    }
    std::size_t rank = 0;
    check(api().GetDimensionsCount(tensor, &rank));
    info.shape.resize(rank);
    check(api().GetDimensions(tensor, info.shape.data(), rank));
  }

  void* data_of(const Value& value) const {
    void* data = nullptr;
    check(api().GetTensorMutableData(value.get(), &data));
    return data;
  }

  const std::string path_;
  const char* doing_ = "open";  // for messages
  TensorInfo input_, output_;
  std::vector<std::int64_t> shape_;  // of the input value
  // Released from the last to the first.
  Env env_;
  Session session_;
  Value input_value_, output_value_;
};

}  // namespace

std::unique_ptr<Engine> open_onnxruntime(const std::string& path, const ModelSpec& spec,
                                         const EngineOptions& options) {
  if (!options.device.empty() && options.device != "cpu") throw unknown_device("onnx", options.device, "cpu");
  return std::make_unique<OnnxRuntimeEngine>(path, spec, options.threads);
}

}  // namespace deeplab
