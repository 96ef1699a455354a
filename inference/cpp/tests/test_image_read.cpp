// Reading pictures. That pixels and refusals are Python's is shown by tests/device/test_device_pictures.py; here is
// what needs no Python.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "error.hpp"
#include "image/codecs.hpp"
#include "image/read.hpp"
#include "image/write.hpp"

using namespace deeplab;

namespace {

namespace fs = std::filesystem;

// A grey JPEG of 16 x 8 pixels, all 200, by Pillow (quality 50), without its Huffman tables: they are the standard's.
const std::vector<std::uint8_t> grey_jpeg = {
    0xff, 0xd8, 0xff, 0xdb, 0x00, 0x43, 0x00, 0x10, 0x0b, 0x0c, 0x0e, 0x0c, 0x0a, 0x10, 0x0e, 0x0d, 0x0e,
    0x12, 0x11, 0x10, 0x13, 0x18, 0x28, 0x1a, 0x18, 0x16, 0x16, 0x18, 0x31, 0x23, 0x25, 0x1d, 0x28, 0x3a,
    0x33, 0x3d, 0x3c, 0x39, 0x33, 0x38, 0x37, 0x40, 0x48, 0x5c, 0x4e, 0x40, 0x44, 0x57, 0x45, 0x37, 0x38,
    0x50, 0x6d, 0x51, 0x57, 0x5f, 0x62, 0x67, 0x68, 0x67, 0x3e, 0x4d, 0x71, 0x79, 0x70, 0x64, 0x78, 0x5c,
    0x65, 0x67, 0x63, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08, 0x00, 0x10, 0x01, 0x01, 0x11, 0x00, 0xff,
    0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0xe9, 0x28, 0xaf, 0xff, 0xd9};

std::string temporary(const std::string& name) {
  return (fs::temp_directory_path() / ("deeplab_read_" + name)).string();
}

std::string message_of(const std::vector<std::uint8_t>& file) {
  try {
    decode_image(file.data(), file.size(), "the file");
  } catch (const Error& error) {
    CHECK(error.code == Code::data);
    return error.what();
  }
  return "";
}

std::vector<std::uint8_t> rgb_png() {
  Image image{3, 5, 3, std::vector<std::uint8_t>(3 * 5 * 3)};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<std::uint8_t>(i * 5);
  const std::string path = temporary("rgb.png");
  write_png(path, image);
  std::vector<std::uint8_t> file = read_file(path);
  fs::remove(path);
  return file;
}

// EXIF data, big endian, with the orientation as its only entry.
std::vector<std::uint8_t> exif_of(int orientation) {
  const auto value = static_cast<std::uint8_t>(orientation);
  return {'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, value, 0, 0};
}

}  // namespace

TEST_CASE("a JPEG") {
  const Image image = decode_image(grey_jpeg.data(), grey_jpeg.size(), "the file");
  CHECK(image.height == 8);
  CHECK(image.width == 16);
  CHECK(image.pixels == std::vector<std::uint8_t>(8 * 16 * 3, 200));
}

TEST_CASE("a file cut anywhere is refused") {
  for (const auto& file : {grey_jpeg, rgb_png()}) {
    CHECK(message_of(file).empty());
    for (std::size_t size = 0; size < file.size(); ++size) {
      CHECK_FALSE(message_of({file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)}).empty());
    }
  }
}

TEST_CASE("every flipped bit of a PNG is noticed") {
  std::vector<std::uint8_t> file = rgb_png();
  for (std::size_t bit = 0; bit < file.size() * 8; ++bit) {
    file[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
    CHECK_FALSE(message_of(file).empty());
    file[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
  }
}

TEST_CASE("a JPEG with too many scans is refused") {
  std::vector<std::uint8_t> file(grey_jpeg.begin(), grey_jpeg.begin() + 84);  // up to the scan
  REQUIRE(file[72] == 0xC0);
  file[72] = 0xC2;  // progressive
  // A Huffman table of one code, 0: no difference to the block before. Then refinements that do not end.
  file.insert(file.end(), {0xFF, 0xC4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0});
  for (int i = 0; i < 600; ++i) {
    file.insert(file.end(), {0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 0, static_cast<std::uint8_t>(i == 0 ? 1 : 16), 0});
  }
  file.insert(file.end(), {0xFF, 0xD9});
  CHECK(message_of(file).find("more than 500 scans") != std::string::npos);
}

TEST_CASE("a JPEG with arithmetic coding is refused") {
  std::vector<std::uint8_t> file = grey_jpeg;
  file[72] = 0xC9;
  CHECK(message_of(file) == "the file is a JPEG with arithmetic coding, which is not read. Convert it.");
}

TEST_CASE("other kinds are refused, with the file's name and a hint") {
  CHECK(message_of({'B', 'M', 1, 2, 3}) == "the file is no JPEG or PNG file. Convert it to one of them.");
  CHECK_THROWS_WITH(decode_label(grey_jpeg.data(), grey_jpeg.size(), "mask.jpg"),
                    "mask.jpg is not a PNG file. Label maps must be PNG, which keeps every value.");
}

TEST_CASE("an RGB label map is refused") {
  const std::vector<std::uint8_t> file = rgb_png();
  CHECK_THROWS_WITH(decode_label(file.data(), file.size(), "mask.png"),
                    "mask.png is an RGB label map. Store class numbers as a grey or palette PNG.");
}

TEST_CASE("the orientation in EXIF data") {
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const auto data = exif_of(orientation);
    CHECK(exif_orientation(data) == orientation);
    for (std::size_t size = 0; size < 20; ++size) CHECK(exif_orientation(Bytes(data).first(size)) == 1);
  }
  CHECK(exif_orientation(exif_of(0)) == 1);
  CHECK(exif_orientation(exif_of(9)) == 1);
}

TEST_CASE("pictures stand upright") {
  // Pixels 1 to 6 in two rows of three; the corners by the meaning of each orientation: where the first row and the
  // first column are.
  const std::vector<std::vector<std::uint8_t>> upright = {
      {1, 2, 3, 4, 5, 6}, {3, 2, 1, 6, 5, 4}, {6, 5, 4, 3, 2, 1}, {4, 5, 6, 1, 2, 3},  // rows stay rows
      {1, 4, 2, 5, 3, 6}, {4, 1, 5, 2, 6, 3}, {6, 3, 5, 2, 4, 1}, {3, 6, 2, 5, 1, 4}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    CAPTURE(orientation);
    Image image{2, 3, 1, {1, 2, 3, 4, 5, 6}};
    turn_upright(image, orientation);
    CHECK(image.height == (orientation < 5 ? 2 : 3));
    CHECK(image.width == (orientation < 5 ? 3 : 2));
    CHECK(image.pixels == upright[static_cast<std::size_t>(orientation) - 1]);
  }
}

TEST_CASE("whole files, up to a limit") {
  const std::string path = temporary("limit.bin");
  for (const std::size_t size : {std::size_t{1}, std::size_t{65535}, std::size_t{65536}, std::size_t{200'000}}) {
    write_file(path, std::string(size, 'x'));
    CHECK(read_file(path, size).size() == size);
    CHECK(read_file(path).size() == size);
    if (size > 1) CHECK_THROWS_AS(read_file(path, size - 1), Error);
  }
  write_file(path, "");
  CHECK_THROWS_WITH(read_file(path), (path + " is empty. Replace it.").c_str());
  fs::remove(path);
  CHECK_THROWS_AS(read_file(path), Error);
  CHECK_THROWS_AS(read_file(fs::temp_directory_path().string()), Error);
}
