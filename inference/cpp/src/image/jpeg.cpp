#include <csetjmp>
#include <cstddef>
#include <cstdio>  // jpeglib.h needs it first

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <iterator>

#include "error.hpp"
#include "image/codecs.hpp"

namespace deeplab {
namespace {

constexpr int max_scans = 500;  // each can cost the time of a whole picture in a few bytes; real files have about ten
constexpr std::uint8_t start_of_scan = 0xDA, end_of_image = 0xD9;

// Require the end marker after the start of the scan, as decode.py does: what is missing would silently become grey.
// Thumbnails inside the headers have end markers of their own, so the headers are walked, not searched.
void require_end(Bytes file, const std::string& where) {
  for (auto at = file.begin() + 2; at != file.end();) {
    at = std::find(at, file.end(), 0xFF);
    at = std::find_if(at, file.end(), [](std::uint8_t byte) { return byte != 0xFF; });  // fill bytes precede a marker
    if (file.end() - at < 3) break;
    const std::uint8_t marker = *at;
    if (marker == start_of_scan) {
      const std::uint8_t end[] = {0xFF, end_of_image};
      if (std::search(at, file.end(), std::begin(end), std::end(end)) != file.end()) return;
      break;
    }
    const bool alone = marker <= 0x01 || (marker >= 0xD0 && marker <= 0xD8);
    const std::ptrdiff_t length = alone ? 1 : 1 + static_cast<std::ptrdiff_t>(big_endian(&at[1], 2));
    at += std::min(length, file.end() - at);
  }
  throw data_error(where + " is a truncated JPEG: its end is missing. Copy it again.");
}

// libjpeg reports errors by longjmp, which must not skip destructors: its functions are called inside guard(), by
// lambdas that own nothing.
class JpegReader {
 public:
  JpegReader(Bytes file, const std::string& where) : file_(file), where_(where) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) {
      info->err->format_message(info, self(info).reason_);
      std::longjmp(self(info).jump_, 1);
    };
    errors_.emit_message = [](j_common_ptr info, int) {
      // Damaged data is a warning: what libjpeg makes of it is taken, as by OpenCV. But the file must not end early.
      if (info->err->msg_code == JWRN_JPEG_EOF) info->err->error_exit(info);
      // A marker stood where pixels should be, and if it was the last, there are no more.
      const bool marker = info->err->msg_code == JWRN_HIT_MARKER;
      if (marker && self(info).info_.unread_marker == JPEG_EOI) self(info).hit_end_ = true;
    };
    progress_.progress_monitor = [](j_common_ptr info) {
      if (self(info).info_.input_scan_number <= max_scans) return;
      std::snprintf(self(info).reason_, sizeof self(info).reason_, "more than %d scans", max_scans);
      std::longjmp(self(info).jump_, 1);
    };
  }
  ~JpegReader() { jpeg_destroy_decompress(&info_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  void read_header();
  int orientation() const;  // by the header
  Image read();             // as it is stored, after read_header()
  bool ends_early() const;  // after read(): grey stands for what is missing

 private:
  static JpegReader& self(j_common_ptr info) { return *static_cast<JpegReader*>(info->client_data); }

  template <typename Call>
  void guard(Call call) {
    if (setjmp(jump_) != 0) {
      throw data_error(where_ + " cannot be decoded as a picture: damaged JPEG (" + reason_ + "). Replace it.");
    }
    call();
  }

  const Bytes file_;
  const std::string& where_;
  bool hit_end_ = false;
  std::jmp_buf jump_;
  char reason_[JMSG_LENGTH_MAX] = "";
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
};

void JpegReader::read_header() {
  guard([&] {
    jpeg_create_decompress(&info_);
    info_.progress = &progress_;
    jpeg_mem_src(&info_, file_.data(), static_cast<unsigned long>(file_.size()));
    jpeg_save_markers(&info_, JPEG_APP0 + 1, 0xFFFF);
    jpeg_read_header(&info_, TRUE);
  });
}

Image JpegReader::read() {
  const std::uint64_t pixels = std::uint64_t{info_.image_width} * info_.image_height;
  if (pixels > max_pixels) throw data_error(where_ + " has more than 2^30 pixels. Make it smaller.");
  // Arithmetic coding, which hardly any file has, says a huge picture in a few bytes. A Huffman code has a bit at
  // least, and each 8 x 8 block of the finest channel has a code, so what is smaller than that cannot be the picture.
  if (info_.arith_code) throw data_error(where_ + " is a JPEG with arithmetic coding, which is not read. Convert it.");
  if (pixels / 64 > std::uint64_t{file_.size()} * 8) {
    throw data_error(where_ + " is a truncated JPEG: it is too small for its picture. Copy it again.");
  }
  const bool cmyk = info_.num_components == 4;
  info_.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;

  Image image{static_cast<int>(info_.image_height), static_cast<int>(info_.image_width), 3, {}};
  image.pixels.resize(static_cast<std::size_t>(pixels) * 3);
  std::vector<std::uint8_t> inks(cmyk ? std::size_t{info_.image_width} * 4 : 0);
  guard([&] { jpeg_start_decompress(&info_); });
  for (int y = 0; y < image.height; ++y) {
    JSAMPROW row = cmyk ? inks.data() : image.row(y);
    guard([&] { jpeg_read_scanlines(&info_, &row, 1); });
    if (!cmyk) continue;
    // OpenCV's rule: inks are stored inverted, as Adobe does.
    std::uint8_t* out = image.row(y);
    for (const std::uint8_t* ink = inks.data(); ink != inks.data() + inks.size(); ink += 4) {
      for (int i = 0; i < 3; ++i) *out++ = static_cast<std::uint8_t>(ink[3] - ((255 - ink[i]) * ink[3] >> 8));
    }
  }
  return image;
}

bool JpegReader::ends_early() const {
  if (hit_end_) return true;
  if (!info_.progressive_mode || info_.coef_bits == nullptr) return false;
  for (int channel = 0; channel < info_.num_components; ++channel) {  // scans that refine the picture are missing
    const int* bits = info_.coef_bits[channel];
    if (std::any_of(bits, bits + DCTSIZE2, [](int rest) { return rest != 0; })) return true;
  }
  return false;
}

int JpegReader::orientation() const {
  const std::uint8_t name[] = {'E', 'x', 'i', 'f', 0, 0};
  for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr; marker = marker->next) {
    const Bytes data(marker->data, marker->data_length);
    if (data.size() >= sizeof name && std::equal(name, name + sizeof name, data.data())) {
      return exif_orientation(data.subspan(sizeof name));
    }
  }
  return 1;
}

}  // namespace

bool is_jpeg(Bytes file) { return file.size() >= 3 && big_endian(file.data(), 3) == 0xFFD8FF; }

Image decode_jpeg(Bytes file, const std::string& where, Remarks* remarks) {
  require_end(file, where);
  JpegReader reader(file, where);
  reader.read_header();
  const int orientation = reader.orientation();  // now: markers after the scan play no part
  Image image = reader.read();
  if (reader.ends_early()) {
    if (!remarks) throw data_error(where + " is a truncated JPEG: a part of its picture is missing. Copy it again.");
    remarks->cut = true;
  }
  turn_upright(image, orientation);
  return image;
}

}  // namespace deeplab
