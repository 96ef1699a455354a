#include <doctest/doctest.h>

#include <cstring>

#include "deeplab/deeplab.h"

TEST_CASE("a C program learns what is wrong") {
  deeplab_segmenter* segmenter = nullptr;
  CHECK(deeplab_open(nullptr, nullptr, &segmenter) == DEEPLAB_USAGE);
  CHECK(deeplab_open("there is no such model.tflite", nullptr, &segmenter) == DEEPLAB_DATA);
  CHECK(segmenter == nullptr);
  CHECK(std::strstr(deeplab_error(), "there is no such model.tflite") != nullptr);
  deeplab_options options{};
  CHECK(deeplab_open("model.tflite", &options, &segmenter) == DEEPLAB_USAGE);  // its size was not set
  CHECK(deeplab_segment(nullptr, nullptr, 1, 1, 0, DEEPLAB_RGB, nullptr) == DEEPLAB_USAGE);
  CHECK(deeplab_class_count(nullptr) == 0);
  CHECK(deeplab_class_name(nullptr, 0) == nullptr);
  CHECK(deeplab_class_color(nullptr, 0) == -1);
  deeplab_close(nullptr);
}
