// Engines by name and by file extension.
#include "engines.hpp"

#include <algorithm>
#include <filesystem>

#include "../error.hpp"

namespace deeplab {
namespace {

struct KnownEngine {
  EngineFactory factory;  // its open is null where the engine is not built in
  const char* title;
  const char* option;  // what builds it in
};

// Of two engines that read a file, the first is the one of its extension.
const std::vector<KnownEngine>& known_engines() {
  static const std::vector<KnownEngine> known = {
#ifdef DEEPLAB_WITH_LITERT
      {{"tflite", {".tflite"}, open_litert}, "LiteRT", "LITERT_ROOT"},
#else
      {{"tflite", {".tflite"}, nullptr}, "LiteRT", "LITERT_ROOT"},
#endif
#ifdef DEEPLAB_WITH_MNN
      {{"mnn", {".mnn"}, open_mnn}, "MNN", "MNN_ROOT"},
#else
      {{"mnn", {".mnn"}, nullptr}, "MNN", "MNN_ROOT"},
#endif
#ifdef DEEPLAB_WITH_ONNXRUNTIME
      {{"onnx", {".onnx"}, open_onnxruntime}, "ONNX Runtime", "ONNXRUNTIME_ROOT"},
#else
      {{"onnx", {".onnx"}, nullptr}, "ONNX Runtime", "ONNXRUNTIME_ROOT"},
#endif
#ifdef DEEPLAB_WITH_OPENVINO
      {{"openvino", {".xml", ".onnx"}, open_openvino}, "OpenVINO", "OpenVINO_DIR"},
#else
      {{"openvino", {".xml", ".onnx"}, nullptr}, "OpenVINO", "OpenVINO_DIR"},
#endif
  };
  return known;
}

bool opens(const KnownEngine& engine, const std::string& extension) {
  const auto& extensions = engine.factory.extensions;
  return std::find(extensions.begin(), extensions.end(), extension) != extensions.end();
}

std::string lower(std::string text) {
  for (char& letter : text) {
    if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
  }
  return text;
}

std::string all_names() {
  std::string names;
  for (const auto& known : known_engines()) names += (names.empty() ? "" : ", ") + std::string(known.factory.name);
  return names;
}

const KnownEngine& find_by_name(const std::string& name) {
  for (const auto& known : known_engines()) {
    if (name == known.factory.name) return known;
  }
  throw usage_error("there is no engine '" + name + "'. Choose one of " + all_names() + ".");
}

// The first engine that is built in and opens files of this extension, else the first that would.
const KnownEngine& find_by_extension(const std::string& path) {
  const std::string extension = lower(std::filesystem::path(path).extension().string());
  const KnownEngine* found = nullptr;
  for (const auto& known : known_engines()) {
    if (!opens(known, extension)) continue;
    if (known.factory.open) return known;
    if (!found) found = &known;
  }
  if (found) return *found;
  throw usage_error(path + ": its name does not tell which engine opens it. Name one of " + all_names() +
                    ", or give a file that ends in .tflite, .mnn, .onnx or .xml.");
}

}  // namespace

const std::vector<EngineFactory>& engine_factories() {
  static const std::vector<EngineFactory> built_in = [] {
    std::vector<EngineFactory> factories;
    for (const auto& known : known_engines()) {
      if (known.factory.open) factories.push_back(known.factory);
    }
    return factories;
  }();
  return built_in;
}

std::unique_ptr<Engine> open_engine(const std::string& path, const std::string& engine, const ModelSpec& spec,
                                    const EngineOptions& options) {
  const KnownEngine& known = engine.empty() ? find_by_extension(path) : find_by_name(engine);
  if (!known.factory.open) {
    throw missing_error(path + " needs " + known.title + ", but this program was built without it; build with -D" +
                        known.option + "=….");
  }
  if (options.threads < 1) {
    throw usage_error("the number of threads is " + std::to_string(options.threads) + ", expected 1 or more.");
  }
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    throw data_error("cannot read " + path + ": " + (error ? error.message() : "it is not a file") + ".");
  }
  return known.factory.open(path, spec, options);
}

}  // namespace deeplab
