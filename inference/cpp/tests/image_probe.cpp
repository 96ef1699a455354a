// Shows pytest what the image module makes of files: tests/device/test_device_pictures.py.
//
//   deeplab_image_probe picture FILE OUT [FILE OUT]...   "ok HEIGHT WIDTH" and raw bytes in OUT, or "error MESSAGE"
//   deeplab_image_probe picture:PICTURE_MAX FILE OUT [FILE OUT]...   likewise
//   deeplab_image_probe remarks FILE OUT [FILE OUT]...   "ok CUT LARGEST" of Remarks
//   deeplab_image_probe label FILE OUT [FILE OUT]...     likewise, with 16-bit numbers of this machine's byte order
//   deeplab_image_probe overlay PICTURE LABEL OUT R,G,B...       raw bytes
//   deeplab_image_probe mask LABEL OUT.png R,G,B...              write_label_png()
//   deeplab_image_probe copy PICTURE OUT.png                     write_png()
//   deeplab_image_probe legend OUT.png NAME R,G,B [NAME R,G,B]...
//   deeplab_image_probe time FILE COUNT                          milliseconds of the fastest of COUNT readings
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "error.hpp"
#include "image/draw.hpp"
#include "image/read.hpp"
#include "image/write.hpp"

namespace {

using namespace deeplab;
using Words = std::vector<std::string>;

ClassInfo class_of(const std::string& name, const std::string& color) {
  int red = 0, green = 0, blue = 0;
  if (std::sscanf(color.c_str(), "%d,%d,%d", &red, &green, &blue) != 3) throw usage_error("not a colour: " + color);
  return {name, {static_cast<std::uint8_t>(red), static_cast<std::uint8_t>(green), static_cast<std::uint8_t>(blue)}};
}

std::vector<ClassInfo> classes_from(const Words& words, std::size_t first) {
  std::vector<ClassInfo> classes;
  for (std::size_t i = first; i < words.size(); ++i) classes.push_back(class_of("", words[i]));
  return classes;
}

template <typename T>
void store(const std::string& path, const std::vector<T>& values) {
  write_file(path, std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)));
}

std::vector<std::uint8_t> small_labels(const LabelFile& file) { return {file.numbers.begin(), file.numbers.end()}; }

template <typename Read>
void show_each(const Words& words, Read read) {
  for (std::size_t i = 1; i + 1 < words.size(); i += 2) {
    try {
      read(words[i], words[i + 1]);
    } catch (const Error& error) {
      std::printf("error %s\n", error.what());
    }
  }
}

void run(const Words& words) {
  const std::string& mode = words.at(0);
  if (mode.rfind("picture", 0) == 0) {
    const int picture_max = mode.size() > 8 ? std::stoi(mode.substr(8)) : full_range;
    show_each(words, [picture_max](const std::string& file, const std::string& out) {
      const Image image = read_image(file, picture_max);
      store(out, image.pixels);
      std::printf("ok %d %d\n", image.height, image.width);
    });
  } else if (mode == "remarks") {
    show_each(words, [](const std::string& file, const std::string&) {
      Remarks remarks;
      read_image(file, full_range, &remarks);
      std::printf("ok %d %d\n", remarks.cut, remarks.largest);
    });
  } else if (mode == "label") {
    show_each(words, [](const std::string& file, const std::string& out) {
      const LabelFile label = read_label(file);
      store(out, label.numbers);
      std::printf("ok %d %d\n", label.height, label.width);
    });
  } else if (mode == "overlay") {
    const Image picture = read_image(words.at(1));
    const std::vector<std::uint8_t> labels = small_labels(read_label(words.at(2)));
    if (labels.size() * 3 != picture.pixels.size()) throw usage_error("the label map is not of the picture's size");
    store(words.at(3), overlay(picture, labels.data(), classes_from(words, 4)).pixels);
  } else if (mode == "mask") {
    const LabelFile label = read_label(words.at(1));
    write_label_png(words.at(2), small_labels(label).data(), label.height, label.width, classes_from(words, 3));
  } else if (mode == "copy") {
    write_png(words.at(2), read_image(words.at(1)));
  } else if (mode == "legend") {
    std::vector<ClassInfo> classes;
    for (std::size_t i = 2; i + 1 < words.size(); i += 2) classes.push_back(class_of(words[i], words[i + 1]));
    write_png(words.at(1), legend(classes, std::vector<bool>(classes.size(), true)));
  } else if (mode == "time") {
    double best = 1e9;
    for (int i = 0; i < std::stoi(words.at(2)); ++i) {
      const auto start = std::chrono::steady_clock::now();
      read_image(words.at(1));
      const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
      best = std::min(best, taken.count());
    }
    std::printf("%.3f\n", best);
  } else {
    throw usage_error("unknown mode " + mode);
  }
}

}  // namespace

int main(int count, char** words) {
  try {
    run(Words(words + 1, words + count));
    return 0;
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
