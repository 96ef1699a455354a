#include <algorithm>
#include <cstring>
#include <new>

#include "deeplab/deeplab.h"
#include "deeplab/deeplab.hpp"

struct deeplab_segmenter {
  std::unique_ptr<deeplab::Segmenter> segmenter;
  deeplab::Result result;
};

namespace {

static_assert(DEEPLAB_OK == static_cast<int>(deeplab::Code::ok));
static_assert(DEEPLAB_INTERNAL == static_cast<int>(deeplab::Code::internal));
static_assert(DEEPLAB_USAGE == static_cast<int>(deeplab::Code::usage));
static_assert(DEEPLAB_DATA == static_cast<int>(deeplab::Code::data));
static_assert(DEEPLAB_MISSING == static_cast<int>(deeplab::Code::missing));
static_assert(DEEPLAB_RGB == static_cast<int>(deeplab::PixelFormat::rgb));
static_assert(DEEPLAB_GREY == static_cast<int>(deeplab::PixelFormat::grey));

thread_local char last_error[1024] = "";

int32_t failed(deeplab::Code code, const char* message) noexcept {
  std::strncpy(last_error, message, sizeof last_error - 1);
  return static_cast<int32_t>(code);
}

int32_t report(const deeplab::Status& status) noexcept {
  return status.ok() ? DEEPLAB_OK : failed(status.code, status.message.c_str());
}

bool is_class(const deeplab_segmenter* segmenter, int32_t label) noexcept {
  return label >= 0 && label < deeplab_class_count(segmenter);
}

}  // namespace

extern "C" {

int32_t deeplab_open(const char* path, const deeplab_options* options, deeplab_segmenter** opened) {
  if (!path || !opened) return failed(deeplab::Code::usage, "deeplab_open needs a path and a place for the result.");
  if (options && options->size != sizeof(deeplab_options)) {
    return failed(deeplab::Code::usage, "the options have another size than this library's: set options.size.");
  }
  try {
    deeplab::Options chosen;
    if (options) {
      if (options->engine) chosen.engine = options->engine;
      if (options->device) chosen.device = options->device;
      if (options->spec) chosen.spec = options->spec;
      chosen.threads = options->threads;
      chosen.half = options->half != 0;
    }
    auto made = std::make_unique<deeplab_segmenter>();
    const int32_t code = report(deeplab::Segmenter::open(path, chosen, made->segmenter));
    if (code == DEEPLAB_OK) *opened = made.release();
    return code;
  } catch (const std::bad_alloc&) {
    return failed(deeplab::Code::data, "there is too little memory to open the model.");
  }
}

void deeplab_close(deeplab_segmenter* segmenter) { delete segmenter; }

int32_t deeplab_segment(deeplab_segmenter* segmenter, const uint8_t* pixels, int32_t height, int32_t width,
                        ptrdiff_t row_bytes, int32_t format, uint8_t* labels) {
  if (!segmenter || !labels) return failed(deeplab::Code::usage, "deeplab_segment needs a segmenter and room for labels.");
  if (format < DEEPLAB_RGB || format > DEEPLAB_GREY) {
    return failed(deeplab::Code::usage, "there is no such pixel format.");
  }
  const deeplab::ImageView picture{pixels, height, width, row_bytes, static_cast<deeplab::PixelFormat>(format)};
  const int32_t code = report(segmenter->segmenter->segment(picture, segmenter->result));
  if (code == DEEPLAB_OK) std::copy(segmenter->result.labels.begin(), segmenter->result.labels.end(), labels);
  return code;
}

deeplab_timings deeplab_last_timings(const deeplab_segmenter* segmenter) {
  if (!segmenter) return {};
  const deeplab::Timings& timings = segmenter->result.timings;
  return {timings.prepare, timings.network, timings.labels};
}

int32_t deeplab_class_count(const deeplab_segmenter* segmenter) {
  return segmenter ? static_cast<int32_t>(segmenter->segmenter->classes().size()) : 0;
}

const char* deeplab_class_name(const deeplab_segmenter* segmenter, int32_t label) {
  return is_class(segmenter, label) ? segmenter->segmenter->classes()[label].name.c_str() : nullptr;
}

int32_t deeplab_class_color(const deeplab_segmenter* segmenter, int32_t label) {
  if (!is_class(segmenter, label)) return -1;
  const auto& color = segmenter->segmenter->classes()[label].color;
  return color[0] << 16 | color[1] << 8 | color[2];
}

const char* deeplab_description(const deeplab_segmenter* segmenter) {
  return segmenter ? segmenter->segmenter->description().c_str() : "";
}

const char* deeplab_error(void) { return last_error; }

}  // extern "C"
