#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>

#include "error.hpp"
#include "image/codecs.hpp"
#include "pixels.hpp"

namespace deeplab {
namespace {

constexpr std::array<std::uint8_t, 8> signature{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
constexpr std::size_t max_label_pixels = 178'956'970;  // Pillow, which reads Python's label maps, stops there
constexpr std::uint64_t most_inflation = 1032;         // deflate cannot pack bytes more tightly

struct Summary {
  std::uint32_t width = 0, height = 0;
  int depth = 0, kind = 0;
  std::uint64_t data_bytes = 0;  // compressed pixels
  Bytes exif;                    // the first of use; empty: none
};

bool starts_as_tiff(Bytes data) {
  const std::uint32_t mark = data.size() < 4 ? 0 : big_endian(data.data(), 4);
  return mark == 0x49492A00 || mark == 0x4D4D002A;
}

// Walk the chunks to IEND and check each one's sum, as decode.py does, so that libpng does not get to guess what is
// missing.
Summary check_png(Bytes file, const std::string& where) {
  const std::string damaged = where + " is a damaged PNG. Copy it again.";
  Summary summary;
  for (std::size_t at = signature.size(); file.size() >= 12 && at <= file.size() - 12;) {
    const std::size_t length = big_endian(&file[at], 4);
    if (length > file.size() - at - 12) break;
    const std::uint8_t* name = &file[at + 4];
    const Bytes body = file.subspan(at + 8, length);
    const auto is = [&](const char* other) { return std::memcmp(name, other, 4) == 0; };
    if (crc32(0, name, static_cast<uInt>(length + 4)) != big_endian(name + 4 + length, 4)) throw data_error(damaged);
    if (at == signature.size()) {
      if (!is("IHDR") || length != 13) throw data_error(damaged);
      summary.width = big_endian(&body[0], 4);
      summary.height = big_endian(&body[4], 4);
      summary.depth = body[8];
      summary.kind = body[9];
    }
    if (is("IEND")) return summary;
    if (is("IDAT")) summary.data_bytes += length;
    if (is("acTL") || is("fcTL")) {
      throw data_error(where + " is an animated PNG, which is not read. Store one frame as a PNG of its own.");
    }
    // OpenCV stops at a background that is none.
    if (is("bKGD") && length != 1 && length != 2 && length != 6) throw data_error(damaged);
    if (is("eXIf") && summary.exif.empty() && starts_as_tiff(body)) summary.exif = body;
    at += length + 12;
  }
  throw data_error(where + " is a truncated PNG: its end is missing. Copy it again.");
}

// libpng reports errors by longjmp, which must not skip destructors: its functions are called inside guard(), by
// lambdas that own nothing.
class PngReader {
 public:
  PngReader(Bytes file, const Summary& summary, const std::string& where);
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  // The pixels, `pixel_bytes` each, after the transformations that `transform(png)` asks for.
  template <typename Transform>
  std::vector<std::uint8_t> read(std::size_t pixel_bytes, Transform transform);

 private:
  template <typename Call>
  void guard(Call call) {
    if (setjmp(png_jmpbuf(png_)) != 0) {
      throw data_error(where_ + " cannot be decoded as a picture: damaged PNG (" + reason_ + "). Replace it.");
    }
    call();
  }

  [[noreturn]] static void fail(png_structp png, png_const_charp reason) {
    auto& self = *static_cast<PngReader*>(png_get_error_ptr(png));
    std::strncpy(self.reason_, reason, sizeof self.reason_ - 1);
    png_longjmp(png, 1);
  }
  static void ignore(png_structp, png_const_charp) {}
  static void take(png_structp png, png_bytep target, std::size_t count) {
    auto& self = *static_cast<PngReader*>(png_get_io_ptr(png));
    if (count > self.rest_.size()) png_error(png, "the file ends");
    std::copy_n(self.rest_.data(), count, target);
    self.rest_ = self.rest_.subspan(count);
  }

  const std::string& where_;
  const Summary& summary_;
  Bytes rest_;
  char reason_[80] = "";
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

PngReader::PngReader(Bytes file, const Summary& summary, const std::string& where)
    : where_(where), summary_(summary), rest_(file) {
  png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, ignore);
  if (png_ != nullptr) info_ = png_create_info_struct(png_);
}

template <typename Transform>
std::vector<std::uint8_t> PngReader::read(std::size_t pixel_bytes, Transform transform) {
  const std::uint64_t pixels = std::uint64_t{summary_.width} * summary_.height;
  if (pixels > max_pixels) throw data_error(where_ + " has more than 2^30 pixels. Make it smaller.");
  const bool grey = summary_.kind == PNG_COLOR_TYPE_GRAY || summary_.kind == PNG_COLOR_TYPE_PALETTE;
  const std::uint64_t pixel_bits = static_cast<std::uint64_t>(summary_.depth) * (grey ? 1 : 2);  // or more
  if (pixels * pixel_bits / 8 > summary_.data_bytes * most_inflation) {
    throw data_error(where_ + " is a truncated PNG: it is too small for its picture. Copy it again.");
  }
  if (info_ == nullptr) throw data_error(where_ + " cannot be read: there is too little memory for libpng.");
  guard([&] {
    png_set_read_fn(png_, this, take);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);  // what has no say in the pixels is skipped
    png_read_info(png_, info_);
    transform(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
  });
  const std::size_t row_bytes = png_get_rowbytes(png_, info_);
  if (row_bytes != summary_.width * pixel_bytes) throw data_error(where_ + " is a PNG of an unknown kind. Convert it.");
  std::vector<std::uint8_t> result(row_bytes * summary_.height);
  std::vector<png_bytep> rows(summary_.height);
  for (std::size_t y = 0; y < rows.size(); ++y) rows[y] = result.data() + y * row_bytes;
  guard([&] {
    png_read_image(png_, rows.data());
    png_read_end(png_, info_);
  });
  return result;
}

}  // namespace

namespace {

constexpr std::size_t most_beyond = 100;  // one value in so many may lie above white, as in decode.py

// Big-endian values of 16 bits become bytes, in place.
void scale(std::vector<std::uint8_t>& pixels, const std::string& where, int picture_max, Remarks* remarks) {
  const std::size_t count = pixels.size() / 2;
  std::size_t beyond = 0;
  int largest = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const int value = pixels[2 * i] << 8 | pixels[2 * i + 1];
    largest = std::max(largest, value);
    beyond += value > picture_max;
    pixels[i] = to_byte(value, picture_max);
  }
  if (beyond * most_beyond > count) {
    throw data_error(where + " holds values up to " + std::to_string(largest) + ", but white is " +
                     std::to_string(picture_max) + " (--picture_max, or the model's spec). Say what white is in these "
                     "pictures, or use those of the camera that the model was trained for.");
  }
  pixels.resize(count);
  if (remarks) remarks->largest = largest;
}

}  // namespace

bool is_png(Bytes file) {
  return file.size() >= signature.size() && std::equal(signature.begin(), signature.end(), file.begin());
}

// The transformations are OpenCV's: alpha and tRNS are dropped, gamma plays no part.
Image decode_png(Bytes file, const std::string& where, int picture_max, Remarks* remarks) {
  const Summary summary = check_png(file, where);
  const bool deep = summary.depth == 16;
  Image image;
  image.pixels = PngReader(file, summary, where).read(deep ? 6 : 3, [](png_structp png) {
    png_set_strip_alpha(png);
    png_set_palette_to_rgb(png);
    png_set_expand_gray_1_2_4_to_8(png);
    png_set_gray_to_rgb(png);
  });
  if (deep) scale(image.pixels, where, picture_max, remarks);
  image.height = static_cast<int>(summary.height);
  image.width = static_cast<int>(summary.width);
  turn_upright(image, exif_orientation(summary.exif));
  return image;
}

LabelFile decode_png_label(Bytes file, const std::string& where) {
  const Summary summary = check_png(file, where);
  const bool grey = summary.kind == PNG_COLOR_TYPE_GRAY;
  if (summary.kind == PNG_COLOR_TYPE_RGB || summary.kind == PNG_COLOR_TYPE_RGB_ALPHA) {
    throw data_error(where + " is an RGB label map. Store class numbers as a grey or palette PNG.");
  }
  if ((grey && summary.depth < 8) || (!grey && summary.depth == 16)) {
    // Shrinking tools turn 8-bit {0, 255} into 1-bit {0, 1}: class 1 and ignore cannot be told apart.
    throw data_error(where + " has " + std::to_string(summary.depth) +
                     " bits a channel, which is ambiguous. Store 8-bit grey or a palette.");
  }
  if (std::uint64_t{summary.width} * summary.height > max_label_pixels) {
    throw data_error(where + " has more than 178,956,970 pixels. Cut it into parts.");
  }
  const std::size_t number_bytes = summary.depth == 16 ? 2 : 1;
  const std::vector<std::uint8_t> bytes = PngReader(file, summary, where).read(number_bytes, [](png_structp png) {
    png_set_packing(png);
    png_set_strip_alpha(png);
  });
  LabelFile label{static_cast<int>(summary.height), static_cast<int>(summary.width), {}};
  label.numbers.resize(bytes.size() / number_bytes);
  for (std::size_t i = 0; i < label.numbers.size(); ++i) {
    const std::uint8_t* number = &bytes[i * number_bytes];
    label.numbers[i] = static_cast<std::uint16_t>(number_bytes == 2 ? number[0] << 8 | number[1] : number[0]);
  }
  return label;
}

}  // namespace deeplab
