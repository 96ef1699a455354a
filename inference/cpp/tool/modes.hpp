// What deeplabSegment does. Each returns an exit code, or throws Error.
#pragma once

#include <memory>

#include "deeplab/deeplab.hpp"
#include "options.hpp"

namespace deeplab::tool {

int segment_pictures(const Command& command);
int segment_frames(const Command& command);
int evaluate(const Command& command);

// The model of the command, after saying on `stream` what it is. Throws Error.
std::unique_ptr<Segmenter> open_segmenter(const Command& command, std::ostream& stream);

// Throws Error unless the status is ok.
void require(const Status& status);

}  // namespace deeplab::tool
