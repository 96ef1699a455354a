// Writing pictures: what is written is read back, and a failure leaves everything as it was.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "error.hpp"
#include "image/read.hpp"
#include "image/write.hpp"

using namespace deeplab;

namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() { fs::create_directories(path_); }
  ~Folder() { fs::remove_all(path_); }
  std::string file(const std::string& name) const { return (path_ / name).string(); }
  std::ptrdiff_t entries() const { return std::distance(fs::directory_iterator(path_), fs::directory_iterator()); }

 private:
  fs::path path_ = fs::temp_directory_path() / "deeplab write test";
};

const std::vector<ClassInfo> classes = {{"ground", {0, 0, 0}}, {"house", {1, 2, 3}}};

}  // namespace

TEST_CASE("the palette") {
  const auto colors = palette(classes);
  CHECK(colors[1] == std::array<std::uint8_t, 3>{1, 2, 3});
  CHECK(colors[2] == std::array<std::uint8_t, 3>{0, 0, 0});
  CHECK(colors[255] == std::array<std::uint8_t, 3>{224, 224, 192});
  CHECK(palette(std::vector<ClassInfo>(300))[255] == colors[255]);
}

TEST_CASE("labels keep their numbers") {
  const Folder folder;
  std::vector<std::uint8_t> labels(256);
  std::iota(labels.begin(), labels.end(), std::uint8_t{0});
  const std::string path = folder.file("a mask, Straße.png");
  write_file(path, "old");
  write_label_png(path, labels.data(), 8, 32, classes);
  const LabelFile file = read_label(path);
  CHECK(file.height == 8);
  CHECK(file.width == 32);
  CHECK(std::equal(labels.begin(), labels.end(), file.numbers.begin(), file.numbers.end()));
  CHECK(folder.entries() == 1);
  const Image colored = read_image(path);  // the palette is in the file
  CHECK(colored.row(0)[3] == 1);
  CHECK(colored.row(7)[31 * 3 + 2] == 192);
}

TEST_CASE("pictures keep their pixels") {
  const Folder folder;
  Image image{7, 5, 3, std::vector<std::uint8_t>(7 * 5 * 3)};
  std::iota(image.pixels.begin(), image.pixels.end(), std::uint8_t{0});
  const std::string path = folder.file("new folder/picture.png");
  write_png(path, image);
  CHECK(read_image(path).pixels == image.pixels);
}

TEST_CASE("a failure leaves no trace") {
  const Folder folder;
  fs::create_directory(folder.file("taken"));
  CHECK_THROWS_AS(write_file(folder.file("taken"), "text"), Error);
  CHECK_THROWS_AS(write_png(folder.file("taken"), Image{1, 1, 3, {1, 2, 3}}), Error);
  CHECK_THROWS_AS(write_png(folder.file("empty.png"), Image{}), Error);  // PNG has no empty pictures
  CHECK(folder.entries() == 1);
  write_file(folder.file("file"), "text");
  CHECK_THROWS_AS(write_file(folder.file("file/inside"), "text"), Error);
  CHECK(read_file(folder.file("file")).size() == 4);
}

TEST_CASE("a full disk is reported, and the old file stays") {
  const Folder folder;
  write_file(folder.file("file.png"), "old");
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit small{100, before.rlim_max};  // bytes a file may have: the nearest to a full disk
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  CHECK_THROWS_AS(write_file(folder.file("file.png"), std::string(100'000, 'x')), Error);
  Image noise{50, 50, 3, std::vector<std::uint8_t>(50 * 50 * 3)};
  for (std::size_t i = 0; i < noise.pixels.size(); ++i) noise.pixels[i] = static_cast<std::uint8_t>(i * i * 7 >> 3);
  CHECK_THROWS_AS(write_png(folder.file("file.png"), noise), Error);
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK(folder.entries() == 1);
  CHECK(read_file(folder.file("file.png")).size() == 3);
}
