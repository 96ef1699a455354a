#include "files.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iostream>
#include <map>
#include <set>

#include "error.hpp"
#include "image/read.hpp"

namespace deeplab::tool {
namespace {

namespace fs = std::filesystem;

constexpr const char* extensions[] = {".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG"};

bool is_picture(const fs::path& path) {
  const std::string extension = path.extension().string();
  return std::any_of(std::begin(extensions), std::end(extensions), [&](auto other) { return extension == other; });
}

// Pictures that Python's commands or others read.
bool is_other_picture(const fs::path& path) {
  static const std::set<std::string> others = {".bmp", ".webp", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl",
                                               ".jp2", ".pgm", ".ppm", ".dng",  ".tga",  ".psd",  ".exr",  ".hdr"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return others.contains(extension);
}

std::vector<std::string> pictures_in(const std::string& folder) {
  std::vector<std::string> found;
  std::error_code error;
  std::map<std::string, int> skipped;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (is_picture(it->path())) found.push_back(it->path().string());
    if (is_other_picture(it->path())) ++skipped[it->path().extension().string()];
  }
  if (error) throw data_error("cannot read the folder " + folder + ": " + error.message() + ".");
  if (found.empty()) throw data_error("the folder " + folder + " holds no .jpg, .jpeg or .png.");
  if (!skipped.empty()) {
    std::cerr << "warning: skipped files of " << folder << " of kinds that are not read:";
    for (const auto& [extension, count] : skipped) std::cerr << ' ' << extension << ' ' << count;
    std::cerr << '\n';
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::vector<std::string> read_list(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, std::size_t{64} << 20);
  std::vector<std::string> lines;
  std::string line;
  const auto end_line = [&] {
    const auto first = line.find_first_not_of(" \t\r");
    if (first != std::string::npos) lines.push_back(line.substr(first, line.find_last_not_of(" \t\r") + 1 - first));
    line.clear();
  };
  for (const std::uint8_t byte : bytes) {
    if (byte == 0) throw data_error(path + " is not a list of names, one a line.");
    if (byte == '\n') {
      end_line();
    } else {
      line += static_cast<char>(byte);
    }
  }
  end_line();
  if (lines.empty()) throw data_error(path + " is empty. Write one name a line.");
  return lines;
}

std::string picture_of(const std::string& folder, const std::string& line) {
  const fs::path base = fs::path(folder) / line;
  std::error_code error;
  if (is_picture(base) && fs::is_regular_file(base, error)) return base.string();
  for (const char* extension : extensions) {
    const std::string path = base.string() + extension;
    if (fs::is_regular_file(path, error)) return path;
  }
  throw data_error("there is no picture '" + line + "' (.jpg, .jpeg or .png) in " + folder + ".");
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) throw data_error("cannot make the folder " + path + ": " + error.message() + ".");
}

std::vector<Job> find_pictures(const Command& command) {
  std::vector<std::string> paths;
  std::error_code error;
  if (!command.list.empty()) {
    for (const std::string& line : read_list(command.list)) paths.push_back(picture_of(command.images[0], line));
  } else {
    for (const std::string& image : command.images) {
      if (fs::is_directory(image, error)) {
        const auto found = pictures_in(image);
        paths.insert(paths.end(), found.begin(), found.end());
      } else {
        paths.push_back(image);
      }
    }
  }
  std::vector<Job> jobs;
  std::set<std::string> taken;
  for (const std::string& path : paths) {
    const fs::path file = path;
    std::string name = file.stem().string();
    if (taken.contains(name)) name = file.filename().string();  // a.jpg beside a.png
    for (int number = 2; taken.contains(name); ++number) name = file.filename().string() + "_" + std::to_string(number);
    taken.insert(name);
    jobs.push_back({path, name});
  }
  return jobs;
}

}  // namespace deeplab::tool
