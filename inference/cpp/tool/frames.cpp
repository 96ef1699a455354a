// Raw frames from standard input, such as a camera's: labels to standard output, a byte a pixel.
#include <chrono>
#include <cstdio>
#include <iostream>

#include "error.hpp"
#include "modes.hpp"
#include "pixels.hpp"

namespace deeplab::tool {

int segment_frames(const Command& command) {
  const auto segmenter = open_segmenter(command, std::cerr);
  const FrameFormat& format = command.frames;
  std::vector<std::uint8_t> frame(static_cast<std::size_t>(format.height) * format.width * bytes_of(format.pixels));
  Result result;
  std::size_t count = 0;
  double milliseconds = 0;
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    const std::size_t got = std::fread(frame.data(), 1, frame.size(), stdin);
    if (got < frame.size()) {
      if (std::ferror(stdin)) throw data_error("standard input cannot be read.");
      if (got > 0) throw data_error("the last frame is cut off: " + std::to_string(got) + " of " +
                                    std::to_string(frame.size()) + " bytes. Check the size and format of --frames.");
      break;
    }
    require(segmenter->segment({frame.data(), format.height, format.width, 0, format.pixels}, result));
    milliseconds += result.timings.prepare + result.timings.network + result.timings.labels;
    std::cout.write(reinterpret_cast<const char*>(result.labels.data()),
                    static_cast<std::streamsize>(result.labels.size()));
    if (!std::cout) {
      throw data_error("standard output cannot be written.");
    }
    ++count;
  }
  if (!count) throw data_error("standard input holds no frame.");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::cerr << count << " frames, " << milliseconds / static_cast<double>(count) << " ms each, "
            << static_cast<double>(count) / seconds.count() << " frames/s\n";
  return 0;
}

}  // namespace deeplab::tool
