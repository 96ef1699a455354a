// The engines that may be built in; which are is known to engines.cpp alone.
#pragma once

#include <memory>
#include <string>

#include "../engine.hpp"

namespace deeplab {

std::unique_ptr<Engine> open_litert(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
std::unique_ptr<Engine> open_mnn(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
std::unique_ptr<Engine> open_onnxruntime(const std::string& path, const ModelSpec& spec, const EngineOptions& options);
std::unique_ptr<Engine> open_openvino(const std::string& path, const ModelSpec& spec, const EngineOptions& options);

}  // namespace deeplab
