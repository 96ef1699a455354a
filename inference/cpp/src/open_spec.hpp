// A model file, its spec, and what the caller says otherwise.
#pragma once

#include <memory>
#include <string>

#include "deeplab/deeplab.hpp"
#include "engine.hpp"
#include "spec.hpp"

namespace deeplab {

struct OpenedModel {
  ModelSpec spec;  // with the overrides; `window` is set exactly where one slides over the picture
  std::unique_ptr<Engine> engine;
  std::string notes;  // ", mean overridden", for the description
};

// Read the spec, apply the options' overrides, open the engine. Throws Error as Segmenter::open says.
OpenedModel open_model(const std::string& path, const Options& options);

}  // namespace deeplab
