#include "classes.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "error.hpp"
#include "image/read.hpp"

namespace deeplab {
namespace {

constexpr std::size_t most_classes = 255;  // label 255 means ignore

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f'; };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

// The last word of `text` as a whole number, cut off; none where it is something else or the only word.
std::optional<int> take_number(std::string_view& text) {
  const auto gap = text.find_last_of(" \t");
  if (gap == std::string_view::npos) return {};
  const std::string_view word = text.substr(gap + 1);
  int value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (word.empty() || error != std::errc() || end != word.data() + word.size()) return {};
  text = trimmed(text.substr(0, gap));
  return value;
}

// A line as a class; its colour is absent where the line does not end in three numbers.
struct Line {
  std::string name;
  std::optional<std::array<int, 3>> color;
};

Line parse_line(std::string_view text) {
  std::string_view rest = text;
  std::array<int, 3> color{};
  for (int channel = 2; channel >= 0; --channel) {
    const auto value = take_number(rest);
    if (!value || rest.empty()) return {std::string(text), {}};
    color[channel] = *value;
  }
  return {std::string(rest), color};
}

}  // namespace

std::array<std::uint8_t, 3> default_color(std::size_t label) {
  std::array<std::uint8_t, 3> color{};
  for (int bit = 0; bit < 8; ++bit) color[bit % 3] |= (label >> bit & 1) << (7 - bit / 3);
  return color;
}

std::vector<ClassInfo> parse_classes(std::string_view text, const std::string& where) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  if (text.find('\0') != std::string_view::npos) throw data_error(where + " is not text. Write one class name a line.");
  while (!text.empty() && (trimmed(text.substr(text.size() - 1)).empty() || text.back() == '\n')) text.remove_suffix(1);
  if (text.empty()) throw data_error(where + " is empty. Write one class name a line, label 0 first.");
  std::vector<ClassInfo> classes;
  bool colored = false;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find_first_of("\r\n");
    const Line line = parse_line(trimmed(text.substr(0, end)));
    const std::string here = where + ": line " + std::to_string(number);
    if (line.name.empty()) throw data_error(here + " is blank. Every line is a class; remove it or name the class.");
    if (number > most_classes) throw data_error(where + " names over 255 classes; 255 means ignore.");
    if (number == 1) colored = line.color.has_value();
    if (line.color.has_value() != colored) {
      throw data_error(here + (colored ? " has no colour, line 1 has one." : " has a colour, line 1 has none.") +
                       " Give every class one, or none.");
    }
    ClassInfo item{line.name, default_color(number - 1)};
    for (int channel = 0; colored && channel < 3; ++channel) {
      const int value = (*line.color)[channel];
      if (value < 0 || value > 255) throw data_error(here + " has a colour beyond 0 to 255.");
      item.color[channel] = static_cast<std::uint8_t>(value);
    }
    for (const ClassInfo& other : classes) {
      if (other.name == item.name) throw data_error(here + " names '" + item.name + "' again. Names must differ.");
      if (other.color == item.color) throw data_error(here + " has the colour of '" + other.name + "'. Colours must differ.");
    }
    classes.push_back(std::move(item));
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + (text.substr(end).starts_with("\r\n") ? 2 : 1));
  }
  return classes;
}

std::vector<ClassInfo> load_classes(const std::string& path) {
  const std::vector<std::uint8_t> bytes = read_file(path, std::size_t{1} << 20);
  return parse_classes({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

}  // namespace deeplab
