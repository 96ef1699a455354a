#include "image/read.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "error.hpp"
#include "image/codecs.hpp"

namespace deeplab {

std::vector<std::uint8_t> read_file(const std::string& path, std::size_t most) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  if (!file) throw data_error("cannot read " + path + ": " + std::strerror(errno) + ".");
  std::vector<std::uint8_t> bytes;
  std::size_t size = 0;
  for (std::size_t room = std::size_t{1} << 16; size <= most; room = size) {  // doubles: pipes do not tell their size
    bytes.resize(size + room);
    const std::size_t count = std::fread(bytes.data() + size, 1, room, file.get());
    size += count;
    if (count < room) break;
  }
  if (std::ferror(file.get())) throw data_error("cannot read " + path + ": " + std::strerror(errno) + ".");
  if (size == 0) throw data_error(path + " is empty. Replace it.");
  if (size > most) throw data_error(path + " is larger than " + std::to_string(most) + " bytes. Make it smaller.");
  bytes.resize(size);
  return bytes;
}

Image decode_image(const std::uint8_t* data, std::size_t size, const std::string& where, int picture_max,
                   Remarks* remarks) {
  const Bytes file(data, size);
  if (is_jpeg(file)) return decode_jpeg(file, where, remarks);
  if (is_png(file)) return decode_png(file, where, picture_max, remarks);
  throw data_error(where + " is no JPEG or PNG file. Convert it to one of them.");
}

Image read_image(const std::string& path, int picture_max, Remarks* remarks) {
  const std::vector<std::uint8_t> file = read_file(path);
  return decode_image(file.data(), file.size(), path, picture_max, remarks);
}

LabelFile decode_label(const std::uint8_t* data, std::size_t size, const std::string& where) {
  const Bytes file(data, size);
  if (!is_png(file)) {
    throw data_error(where + " is not a PNG file. Label maps must be PNG, which keeps every value.");
  }
  return decode_png_label(file, where);
}

LabelFile read_label(const std::string& path) {
  const std::vector<std::uint8_t> file = read_file(path);
  return decode_label(file.data(), file.size(), path);
}

}  // namespace deeplab
