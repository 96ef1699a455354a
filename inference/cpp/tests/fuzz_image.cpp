// libFuzzer: bytes become a picture and a label map, or an Error. Nothing else.
//
//   fuzz_image -max_len=4096 -rss_limit_mb=2048 CORPUS
#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "error.hpp"
#include "image/codecs.hpp"
#include "image/read.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

// Right sums for the chunks of a PNG: no fuzzer guesses them, and behind them is what can go wrong.
void repair(std::uint8_t* data, std::size_t size) {
  if (!deeplab::is_png({data, size})) return;
  for (std::size_t at = 8; at + 12 <= size;) {
    const std::size_t length = deeplab::big_endian(data + at, 4);
    if (length > size - at - 12) return;
    const auto sum = static_cast<std::uint32_t>(crc32(0, data + at + 4, static_cast<uInt>(length + 4)));
    for (int i = 0; i < 4; ++i) data[at + 8 + length + i] = static_cast<std::uint8_t>(sum >> (24 - 8 * i));
    at += length + 12;
  }
}

template <typename Read>
void attempt(Read read) {
  try {
    const auto result = read();
    if (result.height <= 0 || result.width <= 0) std::abort();
  } catch (const deeplab::Error& error) {
    if (error.code != deeplab::Code::data || std::string(error.what()).empty()) std::abort();
  }
}

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned) {
  size = LLVMFuzzerMutate(data, size, most);
  repair(data, size);
  return size;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  attempt([&] { return deeplab::decode_image(data, size, "input"); });
  attempt([&] { return deeplab::decode_label(data, size, "input"); });
  return 0;
}
