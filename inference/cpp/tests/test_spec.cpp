// Whether C++ and Python judge specs alike is tested in tests/device/test_device_spec.py, for every change of a spec.
#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "error.hpp"
#include "spec.hpp"

using namespace deeplab;

namespace {

const std::string kSpec = R"({
  "schema_version": 1, "task": "segmentation", "model": {"name": "mobilenetv2", "output_stride": 16},
  "input": {"name": "image", "size_hw": [512, 384], "max_side": null, "layout": "NCHW", "dtype": "int8", "color": "BGR",
            "mean": [127.5, 1, 2], "std": [3, 4, 5.5], "scale": 0.5, "zero_point": -3, "resize": "fit",
            "pad_value": 127.5, "interpolation": "bilinear"},
  "output": {"name": "logits", "layout": "NHWC", "kind": "probabilities", "stride": 4, "align_corners": true,
             "scale": null, "zero_point": null},
  "classes": [{"name": "background", "color": [0, 0, 0]}, {"name": "Straße 道路", "color": [128, 64, 255]}],
  "ignore_index": 255, "window": {"size_hw": [512, 384], "stride_hw": [256, 192]},
  "provenance": {"weights_sha256": "", "dataset": "", "protocol": "", "miou": 0.75}})";

std::string refusal(const std::string& old_text, const std::string& new_text) {
  std::string text = kSpec;
  const std::size_t at = text.find(old_text);
  REQUIRE(at != std::string::npos);
  try {
    parse_spec(text.replace(at, old_text.size(), new_text), "here");
  } catch (const Error& error) {
    CHECK(error.code == Code::data);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a spec is read") {
  const ModelSpec spec = parse_spec(kSpec, "here");
  CHECK(spec.model_name == "mobilenetv2");
  CHECK(spec.input.size == Size{512, 384});
  CHECK_FALSE(spec.input.max_side.has_value());
  CHECK(spec.input.layout == Layout::nchw);
  CHECK(spec.input.dtype == Dtype::i8);
  CHECK(spec.input.color == Color::bgr);
  CHECK(spec.input.std_deviation == std::array<float, 3>{3, 4, 5.5f});
  CHECK(spec.input.quantization->scale == 0.5f);
  CHECK(spec.input.quantization->zero_point == -3);
  CHECK(spec.input.resize == Resize::fit);
  CHECK(spec.output.kind == OutputKind::probabilities);
  CHECK(spec.output.align_corners);
  CHECK_FALSE(spec.output.quantization.has_value());
  CHECK(spec.classes[1].name == "Straße 道路");
  CHECK(spec.classes[1].color == std::array<std::uint8_t, 3>{128, 64, 255});
  CHECK(spec.ignore_index == 255);
  CHECK(spec.window->stride == Size{256, 192});
}

TEST_CASE("messages say what is wrong, where, and what is expected") {
  CHECK(refusal("\"stride\": 4", "\"stride\": 4.0") == "here: 'output.stride' is 4.0, expected a whole number.");
  CHECK(refusal("\"stride\": 4, ", "") == "here: missing key 'output.stride'.");
  CHECK(refusal("[3, 4, 5.5]", "[3, 0, 5.5]") == "here: 'input.std[1]' is 0, expected a positive number.");
  CHECK(refusal("64, 255", "64, 256") == "here: 'classes[1].color[2]' is 256, expected a value from 0 to 255.");
  CHECK(refusal("\"BGR\"", "\"GBR\"") == "here: 'input.color' is \"GBR\", expected one of RGB, BGR.");
  CHECK(refusal("\"name\": \"image\"", "\"nam\": 1").find("unknown key 'input.nam'. Known here: name, size_hw") == 6);
  CHECK(refusal("\"zero_point\": -3", "\"zero_point\": null") ==
        "here: 'input.zero_point' is null, expected null exactly where scale is null.");
  CHECK(refusal("\"schema_version\": 1", "\"schema_version\": 7").find("is newer than 1") != std::string::npos);
  CHECK(refusal("\"segmentation\"", "\"classification\"").find("segmentation") != std::string::npos);
}

TEST_CASE("long and many-lined values are shown short, on one line, in whole characters") {
  std::string name;
  for (int i = 0; i < 40; ++i) name += "道";
  const std::string text = refusal("\"stride\": 4", "\"stride\": [\n\"" + name + "\"]");
  CHECK(text.find("'output.stride' is [ \"道") != std::string::npos);
  CHECK(text.find("道..., expected") != std::string::npos);
  CHECK(text.find('\n') == std::string::npos);
}

TEST_CASE("what a device cannot hold is refused, though Python would take it") {
  CHECK(refusal("\"stride\": 4", "\"stride\": 2147483648").find("below 2^31") != std::string::npos);
  CHECK(refusal("\"zero_point\": -3", "\"zero_point\": 99999999999999999999").find("32 bits") != std::string::npos);
  CHECK(refusal("\"pad_value\": 127.5", "\"pad_value\": 1e39").find("32-bit float") != std::string::npos);
  CHECK(refusal("[3, 4, 5.5]", "[3, 1e-50, 5.5]").find("positive") != std::string::npos);
}

TEST_CASE("a file is read, and one that is not there is an error") {
  const std::string path = "test_spec.json";
  std::ofstream(path) << kSpec;
  CHECK(load_spec(path).model_name == "mobilenetv2");
  std::remove(path.c_str());
  CHECK_THROWS_AS(load_spec(path), Error);
}

TEST_CASE("a file of more than 16 MiB is refused") {
  const std::string path = "test_spec_large.json";
  std::ofstream(path) << kSpec << std::string(std::size_t{16} << 20, ' ');
  CHECK_THROWS_AS(load_spec(path), Error);
  std::remove(path.c_str());
}
