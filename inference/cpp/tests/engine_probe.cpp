// For tests/device/test_device_engines.py: an input through an engine, without anything of the library around it.
//
//   deeplab_engine_probe MODEL ENGINE SPEC.json INPUT.raw OUTPUT.raw [threads [HEIGHTxWIDTH [runs]]]
//
// The input and the output are bare values in the layouts and types of the spec. HEIGHTxWIDTH is for models of any
// size. The answer is a line: 0, the engine, the type and the shape of the output, and the median milliseconds of a run,
// separated by tabs; or the code of an error, a tab, and its message. Without arguments a line with the engines that
// are built in is followed by the answers to the jobs on the standard input, one a line, separated by tabs.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <new>
#include <sstream>

#include "engine.hpp"
#include "error.hpp"
#include "image/read.hpp"
#include "pixels.hpp"
#include "spec.hpp"

namespace {

using namespace deeplab;

// Run a job; the answer without its code.
std::string run(const std::vector<std::string>& job) {
  if (job.size() < 5) throw usage_error("a job is MODEL ENGINE SPEC INPUT OUTPUT [threads [HEIGHTxWIDTH [runs]]].");
  const ModelSpec spec = load_spec(job[2]);
  EngineOptions options;
  if (job.size() > 5) options.threads = std::stoi(job[5]);
  Size size = spec.input.size.value_or(Size{});
  if (job.size() > 6 && std::sscanf(job[6].c_str(), "%dx%d", &size.height, &size.width) != 2) {
    throw usage_error("the size is HEIGHTxWIDTH.");
  }
  const int runs = job.size() > 7 ? std::stoi(job[7]) : 1;

  const auto engine = open_engine(job[0], job[1], spec, options);
  const bool last = spec.input.layout == Layout::nhwc;
  const std::vector<std::int64_t> shape{1, last ? size.height : 3, last ? size.width : size.height,
                                        last ? 3 : size.width};
  const std::vector<std::uint8_t> input = read_file(job[3]);
  void* buffer = engine->input_buffer(shape);
  const auto wanted = static_cast<std::size_t>(size.height) * size.width * 3 * bytes_of(spec.input.dtype);
  if (input.size() != wanted) throw usage_error("the input has another size than the model's.");

  TensorView output;
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    std::memcpy(buffer, input.data(), input.size());
    const auto start = std::chrono::steady_clock::now();
    output = engine->run();
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
    buffer = engine->input_buffer(shape);
  }
  std::nth_element(times.begin(), times.begin() + runs / 2, times.end());

  std::size_t bytes = bytes_of(output.dtype);
  std::string text;
  for (const std::int64_t side : output.shape) {
    bytes *= static_cast<std::size_t>(side);
    if (!text.empty()) text += 'x';
    text += std::to_string(side);
  }
  std::ofstream(job[4], std::ios::binary).write(static_cast<const char*>(output.data),
                                                      static_cast<std::streamsize>(bytes));
  constexpr const char* types[] = {"float32", "float16", "uint8", "int8", "int32", "int64"};
  return engine->name() + "\t" + types[static_cast<int>(output.dtype)] + "\t" + text + "\t" +
         std::to_string(times[runs / 2]);
}

std::string answer(const std::vector<std::string>& job) {
  const auto with_code = [](Code code, const std::string& text) {
    return std::to_string(static_cast<int>(code)) + "\t" + text;
  };
  try {
    return with_code(Code::ok, run(job));
  } catch (const Error& error) {
    return with_code(error.code, error.what());
  } catch (const std::bad_alloc&) {
    return with_code(Code::data, job[0] + " needs more memory than there is.");
  } catch (const std::exception& error) {
    return with_code(Code::internal, error.what());
  }
}

}  // namespace

int main(int count, char** arguments) {
  // Engines write to the standard streams, too: from here on that goes nowhere.
  std::FILE* const answers = fdopen(dup(STDOUT_FILENO), "w");
  if (!answers || !std::freopen("/dev/null", "w", stdout) || !std::freopen("/dev/null", "w", stderr)) return 1;
  if (count > 1) {
    const std::string line = answer({arguments + 1, arguments + count});
    std::fprintf(answers, "%s\n", line.c_str());
    return std::atoi(line.c_str());
  }
  for (const auto& factory : engine_factories()) std::fprintf(answers, "%s ", factory.name);
  std::fprintf(answers, "\n");
  std::fflush(answers);
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::vector<std::string> job;
    for (std::string field; std::getline(fields, field, '\t');) job.push_back(field);
    std::fprintf(answers, "%s\n", answer(job).c_str());
    std::fflush(answers);
  }
  return 0;
}
