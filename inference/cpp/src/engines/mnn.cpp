// MNN's interpreter. Layouts are MNN's own affair: whichever the spec has, it converts from and to its blocked one, so
// tensors are copied in and out.
#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "../error.hpp"
#include "engines.hpp"
#include "fit.hpp"
#include "mnn_strings.hpp"

namespace deeplab {
namespace {

struct Device {
  const char* name;
  MNNForwardType type;
};
constexpr Device devices[] = {{"cpu", MNN_FORWARD_CPU},
                              {"opencl", MNN_FORWARD_OPENCL},
                              {"vulkan", MNN_FORWARD_VULKAN},
                              {"cuda", MNN_FORWARD_CUDA},
                              {"metal", MNN_FORWARD_METAL}};

struct DestroyTensor {
  void operator()(MNN::Tensor* tensor) const { MNN::Tensor::destroy(tensor); }
};
struct DestroyInterpreter {
  void operator()(MNN::Interpreter* interpreter) const { MNN::Interpreter::destroy(interpreter); }
};
using HostTensor = std::unique_ptr<MNN::Tensor, DestroyTensor>;

// A tensor of the session as the spec sees it, and the order in which MNN shall hand it over.
struct Port {
  TensorInfo info;
  MNN::Tensor* tensor = nullptr;
  MNN::Tensor::DimensionType order{};
  bool turned = false;  // that is not MNN's own order
};

Dtype dtype_of(const MNN::Tensor& tensor, const std::string& name, const std::string& path) {
  const halide_type_t type = tensor.getType();
  if (type.code == halide_type_float && type.bits == 32) return Dtype::f32;
  if (type.code == halide_type_uint && type.bits == 8) return Dtype::u8;
  if (type.code == halide_type_int && type.bits == 8) return Dtype::i8;
  if (type.code == halide_type_int && type.bits == 32) return Dtype::i32;
  throw unknown_type(name, path);
}

// The shape in the other layout: NHWC from NCHW, or back.
template <typename T>
std::vector<T> turn(const std::vector<T>& shape, Layout to) {
  if (to == Layout::nhwc) return {shape[0], shape[2], shape[3], shape[1]};
  return {shape[0], shape[3], shape[1], shape[2]};
}

class MnnEngine final : public Engine {
 public:
  MnnEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options, const Device& device)
      : path_(path) {
    interpreter_.reset(MNN::Interpreter::createFromFile(path.c_str()));
    if (!interpreter_) throw data_error("MNN cannot open " + path + ": it is not an MNN file, or it is damaged.");
    session_ = mnn::create_session(*interpreter_, device.type, options.threads, options.half);
    if (!session_) throw data_error("MNN cannot open " + path + ": it makes no session of it.");
    check_device(device);
    std::size_t inputs = 0;
    input_ = find(mnn::visit_inputs, spec.input.name, spec.input.layout, 3, spec, inputs);
    std::size_t outputs = 0;
    output_ = find(mnn::visit_outputs, spec.output.name, spec.output.layout,
                   static_cast<std::int64_t>(spec.classes.size()), spec, outputs);
    check_fit(input_.info, inputs, output_.info, spec, path);
    name_ = "mnn " + short_version(MNN::getVersion()) + " (" + device.name + (options.half ? ", low)" : ", f32)");
  }

  std::string name() const override { return name_; }
  const TensorInfo& input() const override { return input_.info; }
  const TensorInfo& output() const override { return output_.info; }

  void* input_buffer(const std::vector<std::int64_t>& shape) override {
    if (shape != shape_) {
      shape_.clear();
      check_input_shape(input_.info, shape, path_);
      resize(shape);
      given_values_.resize(checked_bytes(shape, input_.info.dtype));
      given_ = wrap(input_, shape, given_values_);
      shape_ = shape;
    }
    return given_values_.data();
  }

  TensorView run() override {
    input_.tensor->copyFromHostTensor(given_.get());
    if (interpreter_->runSession(session_) != MNN::NO_ERROR) {
      throw data_error("MNN cannot run " + path_ + ": it ended with an error.");
    }
    const std::vector<std::int64_t> shape = shape_of(output_);
    taken_values_.resize(checked_bytes(shape, output_.info.dtype));
    const HostTensor taken = wrap(output_, shape, taken_values_);
    output_.tensor->copyToHostTensor(taken.get());
    return {taken_values_.data(), output_.info.dtype, shape};
  }

 private:
  void check_device(const Device& device) {
    int used[2] = {};  // one for each device that was asked for, and one
    interpreter_->getSessionInfo(session_, MNN::Interpreter::BACKENDS, used);
    if (device.type == MNN_FORWARD_CPU || used[0] == device.type) return;
    const bool cpu = used[0] == MNN_FORWARD_CPU || used[0] == MNN_FORWARD_CPU_EXTENSION;
    throw missing_error(std::string("MNN finds no device '") + device.name + "' on this machine: it would run on " +
                        (cpu ? "the CPU." : "another device."));
  }

  template <typename VisitAll>
  Port find(VisitAll visit_all, const std::string& name, Layout layout, std::int64_t channels, const ModelSpec& spec,
            std::size_t& count) const {
    struct Found {
      std::vector<std::string> names;
      std::vector<MNN::Tensor*> tensors;
    } found;
    visit_all(*interpreter_, session_, &found, [](void* context, const char* own, MNN::Tensor* tensor) {
      auto& all = *static_cast<Found*>(context);
      all.names.emplace_back(own);
      all.tensors.push_back(tensor);
    });
    count = found.names.size();
    const std::size_t index = pick(found.names, name, spec, path_);
    Port port;
    port.tensor = found.tensors[index];
    port.info.name = found.names[index];
    port.info.dtype = dtype_of(*port.tensor, port.info.name, path_);
    port.order = port.tensor->getDimensionType();
    port.info.shape = shape_of(port);
    orient(port, layout, channels);
    return port;
  }

  // MNN tells its order beside the shape. Where that is not the spec's, the shape is turned, but where the channels are
  // in their place already, as with channels-last models that came through ONNX, it is taken as it stands.
  static void orient(Port& port, Layout layout, std::int64_t channels) {
    const bool last = port.order == MNN::Tensor::TENSORFLOW;
    if (port.info.shape.size() != 4 || last == (layout == Layout::nhwc)) return;
    const auto turned = turn(port.info.shape, layout);
    const std::size_t axis = layout == Layout::nhwc ? 3 : 1;
    if (turned[axis] != channels && port.info.shape[axis] == channels) return;
    port.info.shape = turned;
    port.order = layout == Layout::nhwc ? MNN::Tensor::TENSORFLOW : MNN::Tensor::CAFFE;
    port.turned = true;
  }

  static Layout layout_of(MNN::Tensor::DimensionType order) {
    return order == MNN::Tensor::TENSORFLOW ? Layout::nhwc : Layout::nchw;
  }

  // The shape that a tensor has now, in the port's order; -1 where it is open.
  static std::vector<std::int64_t> shape_of(const Port& port) {
    std::vector<std::int64_t> shape;
    for (const int side : port.tensor->shape()) shape.push_back(side > 0 ? side : -1);
    return port.turned && shape.size() == 4 ? turn(shape, layout_of(port.order)) : shape;
  }

  void resize(const std::vector<std::int64_t>& shape) {
    if (shape == shape_of(input_)) return;
    std::vector<int> sides(shape.begin(), shape.end());
    if (input_.turned) sides = turn(sides, layout_of(input_.tensor->getDimensionType()));
    interpreter_->resizeTensor(input_.tensor, sides);
    interpreter_->resizeSession(session_);
    int status = 0;
    if (interpreter_->getSessionInfo(session_, MNN::Interpreter::RESIZE_STATUS, &status) && status != 0) {
      throw data_error("MNN cannot give " + path_ + " an input of this size.");
    }
  }

  // MNN counts bytes in int.
  std::size_t checked_bytes(const std::vector<std::int64_t>& shape, Dtype dtype) const {
    const std::size_t bytes = tensor_bytes(shape, dtype, path_);
    if (bytes > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
      throw data_error(path_ + ": a tensor of " + std::to_string(bytes) + " bytes is too large for MNN.");
    }
    return bytes;
  }

  // Our memory as a tensor of the port's type and order.
  static HostTensor wrap(const Port& port, const std::vector<std::int64_t>& shape, std::vector<std::uint8_t>& values) {
    const std::vector<int> sides(shape.begin(), shape.end());
    return HostTensor(MNN::Tensor::create(sides, port.tensor->getType(), values.data(), port.order));
  }

  const std::string path_;
  std::string name_;
  std::unique_ptr<MNN::Interpreter, DestroyInterpreter> interpreter_;
  MNN::Session* session_ = nullptr;  // the interpreter's
  Port input_, output_;
  std::vector<std::int64_t> shape_;  // of the given values
  std::vector<std::uint8_t> given_values_, taken_values_;
  HostTensor given_;
};

void check_version() {
#ifdef DEEPLAB_MNN_ABI
  if (std::strncmp(MNN::getVersion(), DEEPLAB_MNN_ABI, std::strlen(DEEPLAB_MNN_ABI)) != 0) {
    throw missing_error(std::string("this is MNN ") + MNN::getVersion() + ", but without its headers only MNN " +
                        DEEPLAB_MNN_ABI + "x can be used. Build with -DMNN_ROOT=….");
  }
#endif
}

}  // namespace

std::unique_ptr<Engine> open_mnn(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  check_version();
  const std::string name = options.device.empty() ? "cpu" : options.device;
  const Device* device = std::find_if(std::begin(devices), std::end(devices),
                                      [&](const Device& known) { return name == known.name; });
  if (device == std::end(devices)) throw unknown_device("mnn", name, "cpu, opencl, vulkan, cuda or metal");
  return std::make_unique<MnnEngine>(path, spec, options, *device);
}

}  // namespace deeplab
