#include "spec.hpp"

#include <algorithm>
#include <cfloat>
#include <climits>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "error.hpp"
#include "image/read.hpp"
#include "json.hpp"

namespace deeplab {
namespace {

constexpr int kSchemaVersion = 1;
constexpr std::size_t kMostBytes = std::size_t{16} << 20;

// A value as it stands in the file, on one line and not too long.
std::string show(const json::Value& value) {
  std::string text(value.source);
  std::replace_if(text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r' || c == '\t'; }, ' ');
  if (text.size() <= 60) return text;
  std::size_t end = 57;
  while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

// A value, and the dotted key that names it in messages.
class Field {
 public:
  Field(const json::Value& value, std::string key, const std::string& where)
      : value_(value), key_(std::move(key)), where_(where) {}

  [[noreturn]] void refuse(const std::string& expected) const {
    const std::string name = key_.empty() ? "the spec" : "'" + key_ + "'";
    throw data_error(where_ + ": " + name + " is " + show(value_) + ", expected " + expected + ".");
  }

  bool is_null() const { return value_.kind == json::Kind::null; }

  const std::string& text() const {
    if (value_.kind != json::Kind::text) refuse("a string");
    return value_.text;
  }

  bool boolean() const {
    if (value_.kind != json::Kind::boolean) refuse("true or false");
    return value_.boolean;
  }

  int whole(int least, int most, const char* expected) const {
    if (value_.kind != json::Kind::integer) refuse("a whole number");
    if (value_.integer < least || value_.integer > most) refuse(expected);
    return static_cast<int>(value_.integer);
  }

  int positive() const { return whole(1, INT_MAX, "a positive number below 2^31"); }

  double number() const {
    if (value_.kind != json::Kind::integer && value_.kind != json::Kind::real) refuse("a number");
    if (!std::isfinite(value_.number)) refuse("a finite number");
    return value_.number;
  }

  float float32() const {
    const double wide = number();
    if (std::abs(wide) > FLT_MAX) refuse("a number that a 32-bit float can hold");
    return static_cast<float>(wide);
  }

  float positive_float32() const {
    const float result = float32();
    if (!(result > 0)) refuse("a positive number");
    return result;
  }

  template <typename Choice>
  Choice one_of(std::initializer_list<std::pair<const char*, Choice>> choices) const {
    std::string names;
    for (const auto& [name, choice] : choices) {
      if (value_.kind == json::Kind::text && value_.text == name) return choice;
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    refuse("one of " + names);
  }

  std::vector<Field> list() const {
    if (value_.kind != json::Kind::list) refuse("a list");
    std::vector<Field> result;
    for (const json::Value& item : value_.items) {
      result.emplace_back(item, key_ + "[" + std::to_string(result.size()) + "]", where_);
    }
    return result;
  }

  std::vector<Field> list_of(std::size_t count) const {
    std::string expected = "a list of " + std::to_string(count);
    if (value_.kind != json::Kind::list || value_.items.size() != count) refuse(expected);
    return list();
  }

  // The values of an object that has exactly these keys, in their order; `optional` is a key that it may have.
  std::vector<Field> members(std::initializer_list<const char*> names, const char* optional = nullptr) const {
    if (value_.kind != json::Kind::object) refuse("an object");
    const std::string prefix = key_.empty() ? "" : key_ + ".";
    for (const std::string& key : value_.keys) {
      if (std::find(names.begin(), names.end(), key) != names.end() || (optional && key == optional)) continue;
      std::string known;
      for (const char* name : names) known += (known.empty() ? "" : ", ") + std::string(name);
      if (optional) known += ", " + std::string(optional);
      throw data_error(where_ + ": unknown key '" + prefix + key + "'. Known here: " + known + ".");
    }
    std::vector<Field> result;
    for (const char* name : names) {
      const json::Value* member = value_.find(name);
      if (member == nullptr) throw data_error(where_ + ": missing key '" + prefix + name + "'.");
      result.emplace_back(*member, prefix + name, where_);
    }
    return result;
  }

  // The value of a key that an object may have.
  std::optional<Field> member(const char* name) const {
    const json::Value* found = value_.find(name);
    return found == nullptr ? std::nullopt : std::optional<Field>(std::in_place, *found, key_ + "." + name, where_);
  }

 private:
  const json::Value& value_;
  std::string key_;
  const std::string& where_;
};

std::optional<int> positive_or_null(const Field& field) {
  return field.is_null() ? std::nullopt : std::optional(field.positive());
}

Size read_size(const Field& field) {
  const auto sides = field.list_of(2);
  return {sides[0].positive(), sides[1].positive()};
}

Layout read_layout(const Field& field) {
  return field.one_of<Layout>({{"NHWC", Layout::nhwc}, {"NCHW", Layout::nchw}});
}

std::optional<Quantization> read_quantization(const Field& scale, const Field& zero_point) {
  if (scale.is_null() != zero_point.is_null()) zero_point.refuse("null exactly where scale is null");
  if (scale.is_null()) return std::nullopt;
  return Quantization{scale.positive_float32(),
                      zero_point.whole(INT_MIN, INT_MAX, "a whole number that 32 bits can hold")};
}

InputSpec read_input(const Field& field) {
  const auto in = field.members({"name", "size_hw", "max_side", "layout", "dtype", "color", "mean", "std", "scale",
                                 "zero_point", "resize", "pad_value", "interpolation"},
                                "picture_max");
  InputSpec input;
  input.name = in[0].text();
  if (!in[1].is_null()) input.size = read_size(in[1]);
  input.max_side = positive_or_null(in[2]);
  input.layout = read_layout(in[3]);
  input.dtype = in[4].one_of<Dtype>(
      {{"float32", Dtype::f32}, {"float16", Dtype::f16}, {"uint8", Dtype::u8}, {"int8", Dtype::i8}});
  input.color = in[5].one_of<Color>({{"RGB", Color::rgb}, {"BGR", Color::bgr}});
  const auto mean = in[6].list_of(3), deviation = in[7].list_of(3);
  for (std::size_t channel = 0; channel < 3; ++channel) {
    input.mean[channel] = mean[channel].float32();
    input.std_deviation[channel] = deviation[channel].positive_float32();
  }
  input.quantization = read_quantization(in[8], in[9]);
  input.resize = in[10].one_of<Resize>({{"stretch", Resize::stretch},
                                        {"fit", Resize::fit},
                                        {"pad", Resize::pad},
                                        {"crop", Resize::crop},
                                        {"window", Resize::window}});
  input.pad_value = in[11].float32();
  in[12].one_of<int>({{"bilinear", 0}});
  if (const auto white = field.member("picture_max")) input.picture_max = white->whole(1, 65535, "1 to 65535");
  return input;
}

OutputSpec read_output(const Field& field) {
  const auto out = field.members({"name", "layout", "kind", "stride", "align_corners", "scale", "zero_point"});
  OutputSpec output;
  output.name = out[0].text();
  output.layout = read_layout(out[1]);
  output.kind = out[2].one_of<OutputKind>({{"logits", OutputKind::logits},
                                           {"probabilities", OutputKind::probabilities},
                                           {"labels", OutputKind::labels}});
  output.stride = out[3].positive();
  output.align_corners = out[4].boolean();
  output.quantization = read_quantization(out[5], out[6]);
  return output;
}

std::vector<ClassInfo> read_classes(const Field& field) {
  std::vector<ClassInfo> classes;
  for (const Field& item : field.list()) {
    const auto members = item.members({"name", "color"});
    ClassInfo& info = classes.emplace_back();
    info.name = members[0].text();
    const auto color = members[1].list_of(3);
    for (std::size_t channel = 0; channel < 3; ++channel) {
      info.color[channel] = static_cast<std::uint8_t>(color[channel].whole(0, 255, "a value from 0 to 255"));
    }
  }
  if (classes.empty()) field.refuse("at least one class");
  return classes;
}

// Where the weights come from means nothing to a device, but it is read as strictly as the rest.
void check_provenance(const Field& field) {
  const auto members = field.members({"weights_sha256", "dataset", "protocol", "miou"}, "terms");
  if (const auto terms = field.member("terms")) terms->text();
  for (std::size_t i = 0; i < 3; ++i) members[i].text();
  const Field& miou = members[3];
  if (!miou.is_null() && !(miou.number() >= 0 && miou.number() <= 1)) miou.refuse("a fraction or null");
}

}  // namespace

ModelSpec parse_spec(std::string_view text, const std::string& where) {
  const json::Value document = json::parse(text, where);
  const json::Value* version = document.find("schema_version");
  if (version != nullptr && version->kind == json::Kind::integer && version->integer > kSchemaVersion) {
    throw data_error(where + ": schema_version " + show(*version) + " is newer than " +
                     std::to_string(kSchemaVersion) + ", the newest this version reads. Update this program.");
  }
  const auto top = Field(document, "", where)
                       .members({"schema_version", "task", "model", "input", "output", "classes", "ignore_index",
                                 "window", "provenance"});
  top[0].whole(kSchemaVersion, kSchemaVersion, std::to_string(kSchemaVersion).c_str());
  const bool segments = top[1].one_of<bool>({{"segmentation", true}, {"classification", false}});

  ModelSpec spec;
  const auto model = top[2].members({"name", "output_stride"});
  spec.model_name = model[0].text();
  positive_or_null(model[1]);
  spec.input = read_input(top[3]);
  spec.output = read_output(top[4]);
  spec.classes = read_classes(top[5]);
  if (!top[6].is_null()) spec.ignore_index = top[6].whole(0, 65535, "0 to 65535 or null");
  if (!top[7].is_null()) {
    const auto window = top[7].members({"size_hw", "stride_hw"});
    spec.window = SpecWindow{read_size(window[0]), read_size(window[1])};
  }
  check_provenance(top[8]);
  if (!segments) {
    throw data_error(where + ": the model classifies whole pictures ('task' is classification), and this program "
                             "segments them. Take a model whose task is segmentation.");
  }
  return spec;
}

ModelSpec load_spec(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, kMostBytes);
  return parse_spec({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace deeplab
