#include "image/write.hpp"

#include <fcntl.h>
#include <png.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "error.hpp"

namespace deeplab {
namespace {

namespace fs = std::filesystem;

Error cannot_write(const fs::path& path, int reason) {
  return data_error("cannot write " + path.string() + ": " + std::strerror(reason) +
                    ". Free some space or choose another folder.");
}

// A file that replaces `target` at commit(), and otherwise leaves no trace.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& target) : target_(target) {
    static std::atomic<unsigned> counter{0};
    const fs::path folder = target_.parent_path();
    std::error_code error;
    if (!folder.empty()) fs::create_directories(folder, error);  // if it fails, open() says why
    int descriptor = -1;
    do {
      temporary_ = folder / (".deeplab." + std::to_string(getpid()) + "." + std::to_string(counter++) + ".tmp");
      descriptor = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (descriptor < 0 && errno == EEXIST);
    if (descriptor < 0) throw cannot_write(target_, errno);
    stream_ = fdopen(descriptor, "wb");
    if (stream_ == nullptr) {
      const int reason = errno;
      close(descriptor);
      unlink(temporary_.c_str());
      throw cannot_write(target_, reason);
    }
  }
  ~AtomicFile() {
    if (stream_ != nullptr) std::fclose(stream_);
    if (!temporary_.empty()) unlink(temporary_.c_str());
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  std::FILE* stream() { return stream_; }

  void commit() {
    // On disk before the name: after a power cut there is the old content or the new, never half of either.
    if (std::fflush(stream_) != 0 || fsync(fileno(stream_)) != 0) throw cannot_write(target_, errno);
    if (std::fclose(std::exchange(stream_, nullptr)) != 0) throw cannot_write(target_, errno);
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) throw cannot_write(target_, errno);
    temporary_.clear();
  }

 private:
  fs::path target_;
  fs::path temporary_;  // empty: there is none
  std::FILE* stream_ = nullptr;
};

using Palette = std::array<std::array<std::uint8_t, 3>, 256>;

// libpng reports errors by longjmp, which must not skip destructors: its functions are called inside guard(), by a
// lambda that owns nothing.
class PngWriter {
 public:
  explicit PngWriter(const std::string& path)
      : path_(path), file_(path), png_(png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, fail, ignore)) {
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  ~PngWriter() { png_destroy_write_struct(&png_, &info_); }
  PngWriter(const PngWriter&) = delete;
  PngWriter& operator=(const PngWriter&) = delete;

  // Write bytes [height, width, 1], with a palette, or [height, width, 3].
  void write(const std::uint8_t* pixels, int height, int width, const Palette* colors) {
    const std::size_t row_bytes = static_cast<std::size_t>(width) * (colors != nullptr ? 1 : 3);
    png_color entries[256] = {};
    for (int i = 0; colors != nullptr && i < 256; ++i) entries[i] = {(*colors)[i][0], (*colors)[i][1], (*colors)[i][2]};
    if (info_ == nullptr) throw cannot_write(path_, ENOMEM);
    guard([&] {
      png_init_io(png_, file_.stream());
      png_set_IHDR(png_, info_, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), 8,
                   colors != nullptr ? PNG_COLOR_TYPE_PALETTE : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                   PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
      if (colors != nullptr) {
        png_set_PLTE(png_, info_, entries, 256);
      } else {
        png_set_compression_level(png_, 1);  // five times faster than the default; photographs hardly gain by it
      }
      png_write_info(png_, info_);
      for (int y = 0; y < height; ++y) png_write_row(png_, pixels + static_cast<std::size_t>(y) * row_bytes);
      png_write_end(png_, nullptr);
    });
    file_.commit();
  }

 private:
  template <typename Call>
  void guard(Call call) {
    errno = 0;
    if (setjmp(png_jmpbuf(png_)) != 0) throw cannot_write(path_, errno != 0 ? errno : EIO);
    call();
  }

  [[noreturn]] static void fail(png_structp png, png_const_charp) { png_longjmp(png, 1); }
  static void ignore(png_structp, png_const_charp) {}

  const std::string& path_;
  AtomicFile file_;
  png_structp png_;
  png_infop info_ = nullptr;
};

}  // namespace

Palette palette(const std::vector<ClassInfo>& classes) {
  Palette colors{};
  for (std::size_t i = 0; i < std::min(classes.size(), colors.size()); ++i) colors[i] = classes[i].color;
  colors[255] = {224, 224, 192};
  return colors;
}

void write_label_png(const std::string& path, const std::uint8_t* labels, int height, int width,
                     const std::vector<ClassInfo>& classes) {
  const Palette colors = palette(classes);
  PngWriter(path).write(labels, height, width, &colors);
}

void write_png(const std::string& path, const Image& image) {
  PngWriter(path).write(image.pixels.data(), image.height, image.width, nullptr);
}

void write_file(const std::string& path, const std::string& content) {
  AtomicFile file(path);
  if (std::fwrite(content.data(), 1, content.size(), file.stream()) != content.size()) throw cannot_write(path, errno);
  file.commit();
}

}  // namespace deeplab
