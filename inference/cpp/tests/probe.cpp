// For the tests in Python, not installed: answers jobs on standard input with bytes on standard output, until its end.
//
// A job: two numbers (uint64, the machine's order), the lengths of what follows; a JSON object; bytes.
// An answer: a number, 0 or the exit code of an error; the length of what follows; bytes, or the error's message.
#include <bit>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <locale>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "error.hpp"
#include "json.hpp"
#include "pixels.hpp"
#include "resize.hpp"
#include "sampling.hpp"
#include "spec.hpp"
#include "window.hpp"

using namespace deeplab;

namespace {

using Bytes = std::string;

const Dtype kDtypes[] = {Dtype::f32, Dtype::f16, Dtype::u8, Dtype::i8, Dtype::i32, Dtype::i64};
const PixelFormat kFormats[] = {PixelFormat::rgb, PixelFormat::bgr, PixelFormat::rgba, PixelFormat::bgra,
                                PixelFormat::grey};

struct Job {
  json::Value json;
  Bytes payload;

  const json::Value& get(const char* key) const {
    const json::Value* value = json.find(key);
    if (value == nullptr) throw data_error(std::string("the job has no ") + key + ".");
    return *value;
  }
  int number(const char* key) const { return static_cast<int>(get(key).integer); }
  Size size(const char* key) const {
    const auto& items = get(key).items;
    return {static_cast<int>(items.at(0).integer), static_cast<int>(items.at(1).integer)};
  }
  ModelSpec spec() const { return parse_spec(get("spec").source, "spec"); }
  const std::uint8_t* bytes() const { return reinterpret_cast<const std::uint8_t*>(payload.data()); }

  // The payload, or a part of it, as an output of the network.
  TensorView tensor(std::size_t offset = 0) const {
    TensorView view{payload.data() + offset, kDtypes[number("dtype")], {}};
    for (const json::Value& side : get("shape").items) view.shape.push_back(side.integer);
    return view;
  }
};

template <typename T>
Bytes as_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

Bytes resize(const Job& job) {
  const Size target = job.size("target");
  const int channels = job.number("channels");
  std::vector<std::uint8_t> result(std::size_t(target.height) * target.width * channels);
  resize_exact(job.bytes(), job.size("source"), channels, result.data(), target);
  return as_bytes(result);
}

Bytes prepare(const Job& job) {
  const InputSpec input = job.spec().input;
  const Size size = job.size("picture"), tensor = place(size, input).tensor;
  const ImageView view{job.bytes(), size.height, size.width, job.number("row_bytes"), kFormats[job.number("format")]};
  std::vector<std::uint8_t> result(std::size_t(tensor.height) * tensor.width * 3 * bytes_of(input.dtype));
  Preparer preparer(input);
  for (int time = 0; time < 2; ++time) preparer.prepare(view, result.data());  // a second picture finds buffers in use
  return as_bytes(result);
}

Bytes planes(const Job& job) {
  const ModelSpec spec = job.spec();
  Planes result;
  class_planes(job.tensor(), spec.output, static_cast<int>(spec.classes.size()), job.number("dequantized"), result);
  return as_bytes(result.values);
}

Bytes labels(const Job& job) {
  const ModelSpec spec = job.spec();
  const int classes = static_cast<int>(spec.classes.size());
  const Geometry geometry = place(job.size("picture"), spec.input);
  std::vector<std::uint8_t> result(std::size_t(geometry.picture.height) * geometry.picture.width);
  if (spec.output.kind == OutputKind::labels) {
    sample_labels(job.tensor(), spec.output, classes, geometry, result.data());
    return as_bytes(result);
  }
  Planes scores;
  class_planes(job.tensor(), spec.output, classes, false, scores);
  if (job.number("plainly")) {
    LabelSampler::label_plainly(scores, geometry, spec.output.align_corners, result.data());
  } else {
    LabelSampler().label(scores, geometry, spec.output.align_corners, result.data());
  }
  return as_bytes(result);
}

// Mixed scores of all classes at rows and columns of a picture, each given as its first and the one after its last.
Bytes scores(const Job& job) {
  const ModelSpec spec = job.spec();
  const Geometry lies = place(job.size("picture"), spec.input);
  Planes of;
  class_planes(job.tensor(), spec.output, static_cast<int>(spec.classes.size()), true, of);
  const bool align = spec.output.align_corners;
  const Neighbours y = neighbours(lies.y, lies.picture.height, lies.tensor.height, of.height, align);
  const Neighbours x = neighbours(lies.x, lies.picture.width, lies.tensor.width, of.width, align);
  const auto [top, bottom] = job.size("rows");
  const auto [left, right] = job.size("columns");
  std::vector<float> sums(std::size_t(of.classes) * (bottom - top) * (right - left));
  add_scores(of, y, x, top, bottom, left, right, sums.data());
  return as_bytes(sums);
}

Bytes windows(const Job& job) {
  const ModelSpec spec = job.spec();
  const Size picture = job.size("picture");
  const int classes = static_cast<int>(spec.classes.size());
  std::vector<std::uint8_t> result(std::size_t(picture.height) * picture.width);
  std::size_t offset = 0;
  const auto run = [&](const Tile&, bool dequantized, Planes& of) {
    if (offset >= job.payload.size()) throw data_error("more windows than outputs.");
    class_planes(job.tensor(offset), spec.output, classes, dequantized, of);
    offset += of.values.size() * bytes_of(kDtypes[job.number("dtype")]);
  };
  label_by_windows(picture, spec.window.value(), spec.output, classes, run, result.data());
  if (offset != job.payload.size()) throw data_error("fewer windows than outputs.");
  return as_bytes(result);
}

// What a spec was read as: its values in the order of the file, a line each.
Bytes spec(const Job& job) {
  const ModelSpec read = parse_spec(job.payload, "spec");
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(9);
  const auto quantization = [&](const std::optional<Quantization>& value) {
    if (value) out << value->scale << '\n' << value->zero_point << '\n';
    if (!value) out << "null\nnull\n";
  };
  const auto optional = [&](const auto& value) { value ? out << *value << '\n' : out << "null\n"; };
  const auto& [name, input, output, classes, ignore, window] = read;
  out << name << '\n' << input.name << '\n';
  if (input.size) out << input.size->height << '\n' << input.size->width << '\n';
  optional(input.max_side);
  out << int(input.layout) << '\n' << int(input.dtype) << '\n' << int(input.color) << '\n';
  for (const float value : input.mean) out << value << '\n';
  for (const float value : input.std_deviation) out << value << '\n';
  quantization(input.quantization);
  out << int(input.resize) << '\n' << input.pad_value << '\n' << input.picture_max << '\n';
  out << output.name << '\n' << int(output.layout) << '\n' << int(output.kind) << '\n' << output.stride << '\n'
      << output.align_corners << '\n';
  quantization(output.quantization);
  for (const ClassInfo& info : classes) {
    out << info.name << '\n' << int(info.color[0]) << '\n' << int(info.color[1]) << '\n' << int(info.color[2]) << '\n';
  }
  optional(ignore);
  if (window) {
    out << window->size.height << '\n' << window->size.width << '\n';
    out << window->stride.height << '\n' << window->stride.width << '\n';
  }
  return out.str();
}

const std::map<std::string, Bytes (*)(const Job&)> kJobs = {
    {"resize", resize}, {"prepare", prepare}, {"planes", planes}, {"labels", labels},
    {"scores", scores}, {"windows", windows}, {"spec", spec}};

bool read(void* target, std::size_t size) { return std::fread(target, 1, size, stdin) == size; }

void answer(std::uint64_t code, const Bytes& bytes) {
  const std::uint64_t head[] = {code, bytes.size()};
  std::fwrite(head, sizeof head, 1, stdout);
  std::fwrite(bytes.data(), 1, bytes.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

int main() {
  std::uint64_t sizes[2];
  while (read(sizes, sizeof sizes)) {
    std::string text(sizes[0], '\0');
    Job job;
    job.payload.resize(sizes[1]);
    if (!read(text.data(), text.size()) || !read(job.payload.data(), job.payload.size())) return 1;
    try {
      job.json = json::parse(text, "job");
      answer(0, kJobs.at(job.get("do").text)(job));
    } catch (const Error& error) {
      answer(static_cast<std::uint64_t>(error.code), error.what());
    }
  }
  return 0;
}
