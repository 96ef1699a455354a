#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "error.hpp"
#include "options.hpp"

using deeplab::tool::Command;

namespace {

Command parse(std::vector<std::string> words) {
  words.insert(words.begin(), "deeplabSegment");
  std::vector<char*> arguments;
  for (auto& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  return deeplab::tool::parse_command(static_cast<int>(words.size()), arguments.data());
}

}  // namespace

TEST_CASE("the flags of the model set") {
  const Command command = parse({"-m", "m.tflite", "-i", "a.jpg", "-b", "127.5", "-s", "1,2,3", "-t", "4", "-c", "10",
                                 "-w", "3", "-k", "out.png", "-p", "0", "-f", "1", "-v", "1"});
  CHECK(command.model == "m.tflite");
  CHECK(command.images == std::vector<std::string>{"a.jpg"});
  CHECK(command.options.mean == std::vector<float>{127.5f});
  CHECK(command.options.std_deviation == std::vector<float>{1, 2, 3});
  CHECK(command.options.threads == 4);
  CHECK(command.count == 10);
  CHECK(command.warmup == 3);
  CHECK(command.mask == "out.png");
  CHECK_FALSE(command.keep_shape);
  CHECK(command.options.half);
  CHECK(command.verbose);
}

TEST_CASE("windows and frames") {
  const Command window = parse({"-m", "m", "-i", "a", "--window", "64x96:32x48"});
  CHECK(window.options.window.height == 64);
  CHECK(window.options.window.stride_x == 48);
  const Command frames = parse({"-m", "m", "--frames", "480x640:bgr"});
  CHECK(frames.frames.width == 640);
  CHECK(frames.frames.pixels == deeplab::PixelFormat::bgr);
  const Command eval = parse({"eval", "-m", "m", "-i", "images", "--labels", "labels", "--list", "val.txt"});
  CHECK(eval.evaluate);
  CHECK(eval.ignore == -2);
}

TEST_CASE("what does not fit together is a usage error") {
  const std::vector<std::vector<std::string>> wrong = {
      {}, {"-m", "m"}, {"-m"}, {"-m", "m", "-i", "a", "--unknown"}, {"-m", "m", "-i", "a", "b"},
      {"-m", "m", "-i", "a", "-t", "x"}, {"-m", "m", "-i", "a", "-t", "-1"}, {"-m", "m", "-i", "a", "-c", "0"},
      {"-m", "m", "-i", "a", "-f", "2"}, {"-m", "m", "-i", "a", "--window", "64"},
      {"-m", "m", "-i", "a", "--window", "0x4"}, {"-m", "m", "--frames", "4x4:cmyk"}, {"-m", "m", "--frames", "65536x65536"},
      {"-m", "m", "--frames", "4x16385:grey"}, {"-m", "m", "-i", "a", "--window", "64x64:4x99999999"},
      {"-m", "m", "-i", "a", "-t", "1000000000"}, {"-m", "m", "-i", "a", "-c", "99999999999"},
      {"-m", "m", "-i", "a", "-w", "1e9"},
      {"-m", "m", "-i", "a", "--frames", "4x4"}, {"-m", "m", "-i", "a", "--labels", "b"}, {"eval", "-m", "m"},
      {"-m", "m", "-i", "a", "-i", "b", "--list", "l"}, {"-m", "m", "-i", "a", "-k", "k", "--output", "o"}};
  for (const auto& words : wrong) {
    CAPTURE(words.size());
    try {
      parse(words);
      FAIL("accepted: " << (words.empty() ? "" : words.back()));
    } catch (const deeplab::Error& error) {
      CHECK(error.code == deeplab::Code::usage);
    }
  }
}
