// Engines by name and extension, and whether a file fits its spec. What the engines themselves compute is compared with
// Python's in tests/device/test_device_engines.py.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>

#include "engine.hpp"
#include "engines/fit.hpp"
#include "error.hpp"

using namespace deeplab;

namespace {

ModelSpec example_spec() {
  ModelSpec spec;
  spec.input.name = "image";
  spec.input.size = Size{64, 97};
  spec.output.name = "logits";
  spec.output.stride = 4;
  spec.classes.resize(5);
  return spec;
}

TensorInfo image() { return {"image", Dtype::f32, {1, 64, 97, 3}, {}}; }
TensorInfo logits() { return {"logits", Dtype::f32, {1, 16, 25, 5}, {}}; }

// The code and the message of what `work` throws.
template <typename Work>
std::pair<Code, std::string> caught(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return {error.code, error.what()};
  }
  return {Code::ok, ""};
}

std::string misfit(const TensorInfo& input, const TensorInfo& output, const ModelSpec& spec) {
  const auto [code, message] = caught([&] { check_fit(input, 1, output, spec, "m"); });
  CHECK((code == Code::ok || code == Code::data));
  return message;
}

bool is_built_in(const std::string& name) {
  const auto& built = engine_factories();
  return std::any_of(built.begin(), built.end(), [&](const auto& factory) { return factory.name == name; });
}

}  // namespace

TEST_CASE("what fits, fits") {
  CHECK(misfit(image(), logits(), example_spec()).empty());
  TensorInfo open_input = image();
  TensorInfo open_output = logits();
  open_input.shape = {-1, -1, -1, 3};
  open_output.shape = {-1, -1, -1, 5};
  CHECK(misfit(open_input, open_output, example_spec()).empty());
  open_output.shape = {1, 16, 24, 5};  // halving may round down
  CHECK(misfit(image(), open_output, example_spec()).empty());
}

TEST_CASE("an assumed spec says nothing against a file") {
  TensorInfo input = image();
  input.dtype = Dtype::u8;
  CHECK(misfit(input, logits(), ModelSpec{}).empty());
}

TEST_CASE("what does not fit is told in a sentence") {
  const ModelSpec spec = example_spec();
  TensorInfo input = image();
  TensorInfo output = logits();
  SUBCASE("rank") {
    input.shape = {64, 97, 3};
    CHECK(misfit(input, output, spec) == "m does not take one batch of pictures.");
  }
  SUBCASE("batch") {
    input.shape[0] = 4;
    CHECK(misfit(input, output, spec) ==
          "m takes batches of 4 pictures, but they are run one at a time. "
          "Convert it with a batch of 1 or of any size.");
  }
  SUBCASE("channels") {
    input.shape = {1, 3, 64, 97};
    CHECK(misfit(input, output, spec) == "m takes 97 channels, not 3 in the layout NHWC of its spec.");
  }
  SUBCASE("size") {
    input.shape[2] = 96;
    CHECK(misfit(input, output, spec) == "m takes pictures of 64x96, but its spec says 64x97.");
    input.shape[1] = -1;
    CHECK(misfit(input, output, spec) == "m takes pictures of ?x96, but its spec says 64x97.");
    ModelSpec any = spec;
    any.input.size.reset();
    CHECK(misfit(input, output, any) == "m takes pictures of ?x96, but its spec says any size.");
  }
  SUBCASE("type") {
    input.dtype = Dtype::u8;
    CHECK(misfit(input, output, spec) == "m takes uint8, but its spec says float32.");
  }
  SUBCASE("axes of the output") {
    output.shape = {1, 5};
    CHECK(misfit(input, output, spec) == "m does not put out a score per class and pixel: its output has 2 axes.");
  }
  SUBCASE("classes") {
    output.shape[3] = 6;
    CHECK(misfit(input, output, spec) == "m has 6 classes, but its spec lists 5.");
  }
  SUBCASE("stride") {
    output.shape[2] = 26;
    CHECK(misfit(input, output, spec) == "m puts out 16x26 for pictures of 64x97, but its spec says stride 4.");
  }
  SUBCASE("integers without a scale") {
    output.dtype = Dtype::i8;
    CHECK(misfit(input, output, spec) == "m puts out int8, but its spec gives no scale for it.");
  }
  SUBCASE("quantization") {
    output.quantization = Quantization{0.125f, 3};
    CHECK(misfit(input, output, spec) ==
          "m has an output of scale 0.125 and zero point 3, but its spec says none.");
    ModelSpec other = spec;
    other.output.quantization = Quantization{0.125f, 4};
    CHECK(misfit(input, output, other) ==
          "m has an output of scale 0.125 and zero point 3, but its spec says 0.125 and 4.");
    other.output.quantization = Quantization{0.1250001f, 3};
    CHECK(misfit(input, output, other).empty());
    other.output.quantization = Quantization{0.12501f, 3};
    CHECK_FALSE(misfit(input, output, other).empty());
  }
  SUBCASE("a huge size") {
    ModelSpec any = spec;
    any.input.size.reset();
    any.input.max_side = 20000;
    input.shape = {1, -1, -1, 3};
    CHECK(misfit(input, output, any) == "m: its spec says pictures of more than 16384 pixels a side.");
  }
  SUBCASE("inputs") {
    CHECK(caught([&] { check_fit(input, 2, output, spec, "m"); }).second ==
          "m has 2 inputs, but only a picture can be given to it.");
  }
}

TEST_CASE("a stride that is larger than the picture, or than an int can double") {
  ModelSpec spec = example_spec();
  spec.output.stride = std::numeric_limits<int>::max();
  CHECK_FALSE(misfit(image(), logits(), spec).empty());
}

TEST_CASE("labels have three or four axes") {
  ModelSpec spec = example_spec();
  spec.output.kind = OutputKind::labels;
  TensorInfo output{"labels", Dtype::i64, {1, 64, 97}, {}};
  CHECK(misfit(image(), output, spec).empty());
  output.shape = {};
  CHECK(misfit(image(), output, spec).empty());
  output.shape = {64, 97};
  CHECK(misfit(image(), output, spec) == "m does not put out labels, as its spec says.");
}

TEST_CASE("tensors are picked by name, or are the only ones") {
  const ModelSpec spec = example_spec();
  CHECK(pick({"a", "b"}, "b", spec, "m") == 1);
  CHECK(pick({"a"}, "other", spec, "m") == 0);
  CHECK(pick({"a", "b"}, "", ModelSpec{}, "m") == 0);
  CHECK(caught([&] { pick({"a", "b"}, "c", spec, "m"); }) ==
        std::pair{Code::data, std::string("m has no tensor 'c', which its spec names. It has 'a', 'b'.")});
  CHECK(caught([&] { pick({}, "c", ModelSpec{}, "m"); }).second ==
        "m has no tensor 'c', which its spec names. It has none.");
}

TEST_CASE("shapes of an input") {
  TensorInfo input = image();
  CHECK(caught([&] { check_input_shape(input, {1, 64, 97, 3}, "m"); }).first == Code::ok);
  CHECK(caught([&] { check_input_shape(input, {1, 64, 96, 3}, "m"); }).first == Code::data);
  CHECK(caught([&] { check_input_shape(input, {64, 97, 3}, "m"); }).first == Code::data);
  input.shape = {-1, -1, -1, 3};
  CHECK(caught([&] { check_input_shape(input, {1, 5, 16384, 3}, "m"); }).first == Code::ok);
  CHECK(caught([&] { check_input_shape(input, {1, 5, 16385, 3}, "m"); }).first == Code::data);
  CHECK(caught([&] { check_input_shape(input, {1, 0, 5, 3}, "m"); }).first == Code::data);
}

TEST_CASE("bytes of a tensor do not overflow") {
  CHECK(tensor_bytes({1, 2, 3, 4}, Dtype::f32, "m") == 96);
  CHECK(tensor_bytes({}, Dtype::i64, "m") == 8);
  const std::int64_t huge = std::int64_t{1} << 31;
  for (const auto& shape : {std::vector<std::int64_t>{huge, huge}, {huge, huge, huge, huge}, {-1, 4}, {0, 4}}) {
    CHECK(caught([&] { tensor_bytes(shape, Dtype::f32, "m"); }).first == Code::data);
  }
}

TEST_CASE("what engines say becomes one line") {
  CHECK(std::string(engine_error("E cannot open m", "bad \x1b[2J file.\nat line 3").what()) ==
        "E cannot open m: bad ?[2J file.");
}

TEST_CASE("versions") {
  CHECK(short_version("1.31.1") == "1.31");
  CHECK(short_version("2026.4.1-21919-abc") == "2026.4");
  CHECK(short_version("3") == "3");
}

TEST_CASE("engines by name and extension") {
  const auto open = [](const std::string& path, const std::string& engine) {
    return caught([&] { open_engine(path, engine, example_spec(), {}); });
  };
  CHECK(open("m.tflite", "nothing") ==
        std::pair{Code::usage,
                  std::string("there is no engine 'nothing'. Choose one of tflite, mnn, onnx, openvino.")});
  CHECK(open("m.pb", "").first == Code::usage);
  CHECK(open("", "").first == Code::usage);
  for (const auto& [name, extension] : {std::pair{"tflite", ".TFLITE"}, {"mnn", ".mnn"}, {"openvino", ".xml"}}) {
    const auto [code, message] = open(std::string("absent") + extension, "");
    CAPTURE(message);
    if (is_built_in(name)) {
      CHECK(code == Code::data);
    } else {
      CHECK(code == Code::missing);
      CHECK(message.find("build with -D") != std::string::npos);
    }
  }
}

TEST_CASE("each engine refuses what it cannot have") {
  const auto path = std::filesystem::temp_directory_path() / "deeplab_test_engines.xml";
  std::ofstream(path) << "no model";
  std::ofstream(std::filesystem::path(path).replace_extension(".bin")) << "";
  for (const auto& factory : engine_factories()) {
    CAPTURE(factory.name);
    const auto open = [&](const EngineOptions& options) {
      return caught([&] { open_engine(path.string(), factory.name, example_spec(), options); }).first;
    };
    CHECK(open({"nowhere", 1, false}) == Code::usage);
    CHECK(open({"", 0, false}) == Code::usage);
    CHECK(open({"", 1, false}) == Code::data);
  }
  std::filesystem::remove(path);
  std::filesystem::remove(std::filesystem::path(path).replace_extension(".bin"));
}
