// OpenVINO, on any of its devices.
#include <openvino/openvino.hpp>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <utility>

#include "../error.hpp"
#include "engines.hpp"
#include "fit.hpp"

namespace deeplab {
namespace {

// The last line of what OpenVINO says: those before it name lines of its sources.
std::string reason(const std::exception& error) {
  std::string text = error.what();
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

// What `work` gives; whatever OpenVINO throws in it becomes an Error that begins with `what`.
template <typename Work>
auto guarded(const std::string& what, Work&& work) {
  try {
    return work();
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw engine_error(what, reason(error));
  }
}

Dtype dtype_of(ov::element::Type type, const std::string& tensor, const std::string& path) {
  if (type == ov::element::f32) return Dtype::f32;
  if (type == ov::element::f16) return Dtype::f16;
  if (type == ov::element::u8) return Dtype::u8;
  if (type == ov::element::i8) return Dtype::i8;
  if (type == ov::element::i32) return Dtype::i32;
  if (type == ov::element::i64) return Dtype::i64;
  throw unknown_type(tensor, path);
}

// A tensor goes by several names; Python's twin takes the first in the order of the alphabet.
std::string name_of(const ov::Output<const ov::Node>& port) {
  const auto& names = port.get_names();
  return names.empty() ? port.get_node()->get_friendly_name() : *std::min_element(names.begin(), names.end());
}

std::size_t pick_port(const std::vector<ov::Output<const ov::Node>>& ports, const std::string& name,
                      const ModelSpec& spec, const std::string& path) {
  std::vector<std::string> names;
  for (const auto& port : ports) names.push_back(name_of(port));
  return pick(names, name, spec, path);
}

TensorInfo read_tensor(const ov::Output<const ov::Node>& port, const std::string& path) {
  TensorInfo info;
  info.name = name_of(port);
  info.dtype = dtype_of(port.get_element_type(), info.name, path);
  const ov::PartialShape& shape = port.get_partial_shape();
  if (shape.rank().is_dynamic()) return info;
  for (const ov::Dimension& side : shape) info.shape.push_back(side.is_static() ? side.get_length() : -1);
  return info;
}

std::string upper(std::string text) {
  for (char& letter : text) letter = static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
  return text;
}

// OpenVINO's name of a device: CPU, GPU, GPU.1, NPU, AUTO.
std::string target_of(ov::Core& core, const std::string& device) {
  const std::string target = device.empty() ? "CPU" : upper(device);
  const std::string kind = target.substr(0, target.find('.'));
  const std::string number = kind.size() < target.size() ? target.substr(kind.size() + 1) : "0";
  const bool numbered = !number.empty() && number.find_first_not_of("0123456789") == std::string::npos;
  if (!numbered || (kind != "CPU" && kind != "GPU" && kind != "NPU" && kind != "AUTO")) {
    throw unknown_device("openvino", device, "CPU, GPU, NPU, AUTO or GPU.N");
  }
  if (target == "AUTO") return target;
  std::string present;
  for (const std::string& name : core.get_available_devices()) {
    if (name == target || name == kind + "." + number || (number == "0" && name == kind)) return target;
    present += (present.empty() ? "" : ", ") + name;
  }
  throw missing_error("OpenVINO finds no device '" + target + "' on this machine. It has " + present + ".");
}

// The arithmetic: OpenVINO's own choice is bf16 on CPUs that have it, which is not the same as f32.
ov::element::Type precision_of(ov::Core& core, const std::string& target, bool half) {
  if (!half) return ov::element::f32;
  if (target == "AUTO") return ov::element::f16;
  const auto abilities = core.get_property(target, ov::device::capabilities);
  const auto has = [&](const char* ability) {
    return std::find(abilities.begin(), abilities.end(), ability) != abilities.end();
  };
  if (has(ov::device::capability::BF16)) return ov::element::bf16;
  return has(ov::device::capability::FP16) ? ov::element::f16 : ov::element::f32;
}

class OpenVinoEngine final : public Engine {
 public:
  OpenVinoEngine(const std::string& path, const ModelSpec& spec, const EngineOptions& options) : path_(path) {
    guarded("OpenVINO cannot open " + path_, [&] { open(spec, options); });
  }

  std::string name() const override { return name_; }
  const TensorInfo& input() const override { return input_; }
  const TensorInfo& output() const override { return output_; }

  void* input_buffer(const std::vector<std::int64_t>& shape) override {
    check_input_shape(input_, shape, path_);
    return guarded("OpenVINO cannot take an input for " + path_, [&] {
      ov::Tensor tensor = request_.get_tensor(source_);
      tensor.set_shape(ov::Shape(shape.begin(), shape.end()));  // keeps its memory where it suffices
      return tensor.data();
    });
  }

  TensorView run() override {
    return guarded("OpenVINO cannot run " + path_, [&] {
      request_.infer();
      result_tensor_ = request_.get_tensor(result_);
      const ov::Shape shape = result_tensor_.get_shape();
      return TensorView{result_tensor_.data(), output_.dtype, {shape.begin(), shape.end()}};
    });
  }

 private:
  void open(const ModelSpec& spec, const EngineOptions& options) {
    ov::Core core;
    const std::string target = target_of(core, options.device);
    const std::shared_ptr<const ov::Model> model = core.read_model(path_);
    const auto inputs = model->inputs();
    const auto outputs = model->outputs();
    const std::size_t source = pick_port(inputs, spec.input.name, spec, path_);
    const std::size_t result = pick_port(outputs, spec.output.name, spec, path_);
    input_ = read_tensor(inputs[source], path_);
    output_ = read_tensor(outputs[result], path_);
    check_fit(input_, inputs.size(), output_, spec, path_);
    const ov::element::Type precision = precision_of(core, target, options.half);
    ov::AnyMap config{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY),
                      ov::hint::inference_precision(precision)};
    if (target == "CPU") {
      // Pinned, two engines of one thread each would share one core.
      config.insert(ov::hint::enable_cpu_pinning(false));
      config.insert(ov::inference_num_threads(options.threads));
    }
    ov::CompiledModel compiled = core.compile_model(model, target, config);
    source_ = compiled.inputs()[source];
    result_ = compiled.outputs()[result];
    request_ = compiled.create_infer_request();
    const std::string version = ov::get_openvino_version().buildNumber;
    name_ = "openvino " + short_version(version) + " (" + target + ", " + precision.get_type_name() + ")";
  }

  const std::string path_;
  std::string name_;
  TensorInfo input_, output_;
  ov::Output<const ov::Node> source_, result_;
  ov::InferRequest request_;
  ov::Tensor result_tensor_;  // keeps the memory of the last output
};

// OpenVINO would try all its readers on any file, and takes a missing .bin for an empty one.
void check_file(const std::string& path) {
  const std::filesystem::path file(path);
  const std::string extension = upper(file.extension().string());
  if (extension == ".ONNX") return;
  if (extension != ".XML") throw data_error(path + ": OpenVINO opens files that end in .xml or .onnx.");
  std::filesystem::path weights = file;
  weights.replace_extension(".bin");
  std::error_code error;
  if (!std::filesystem::exists(weights, error)) {
    throw data_error(weights.string() + " is missing: it holds the weights of " + file.filename().string() + ".");
  }
}

}  // namespace

std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelSpec& spec, const EngineOptions& options) {
  check_file(path);
  return std::make_unique<OpenVinoEngine>(path, spec, options);
}

}  // namespace deeplab
