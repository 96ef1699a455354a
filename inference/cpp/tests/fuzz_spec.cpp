// libFuzzer target: any bytes as a spec or a class list are read or refused. A spec that is read is used: its numbers
// must not lead the arithmetic astray.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "classes.hpp"
#include "error.hpp"
#include "pixels.hpp"
#include "spec.hpp"
#include "window.hpp"

namespace {

constexpr std::int64_t most_pixels = 1 << 16;  // of a tensor: larger ones are right, but slow

void use(const deeplab::ModelSpec& spec) {
  const std::uint8_t picture[5 * 7 * 3] = {};
  const deeplab::Size size{5, 7};
  if (spec.window) deeplab::make_tiles(size, *spec.window);
  const deeplab::Size tensor = deeplab::place(size, spec.input).tensor;
  if (std::int64_t{tensor.height} * tensor.width > most_pixels) return;
  std::vector<std::uint8_t> values(static_cast<std::size_t>(tensor.height) * tensor.width * 3 *
                                   deeplab::bytes_of(spec.input.dtype));
  deeplab::Preparer(spec.input).prepare({picture, 5, 7, 0, deeplab::PixelFormat::rgb}, values.data());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    use(deeplab::parse_spec(text, "fuzz"));
  } catch (const deeplab::Error&) {
  }
  try {
    deeplab::parse_classes(text, "fuzz");
  } catch (const deeplab::Error&) {
  }
  return 0;
}
