// The command line of deeplabSegment.
#pragma once

#include <string>
#include <vector>

#include "deeplab/deeplab.hpp"

namespace deeplab::tool {

// Raw frames on standard input.
struct FrameFormat {
  int height = 0;  // 0: no frames
  int width = 0;
  PixelFormat pixels = PixelFormat::rgb;
};

struct Command {
  bool evaluate = false;  // deeplabSegment eval
  bool help = false;
  std::string model;
  Options options;
  std::vector<std::string> images;  // files or folders; of eval: the one folder of the list's pictures
  std::string list;                 // file of names or pairs
  std::string labels;               // eval: folder of the label maps
  int ignore = -2;                  // eval: label that is not scored, -1: none, -2: as the spec says
  std::string mask;                 // file for the mask of a single picture
  std::string output;               // folder for the results
  bool overlays = false;
  bool legend = false;
  bool confidence = false;
  bool json = false;
  bool keep_shape = true;  // the mask has the picture's size, not that of the model's input
  int count = 1;           // runs of each picture; more than 1: a benchmark
  int warmup = 2;          // runs before that are not counted
  bool verbose = false;
  FrameFormat frames;
};

// Throws Error (usage) with one sentence.
Command parse_command(int argc, char** argv);

std::string help_text();

}  // namespace deeplab::tool
