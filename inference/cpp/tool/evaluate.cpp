// deeplabSegment eval: scores at each picture's own size, by the rules of eval.py.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <future>
#include <iostream>

#include "confusion.hpp"
#include "error.hpp"
#include "files.hpp"
#include "image/read.hpp"
#include "image/write.hpp"
#include "json_text.hpp"
#include "modes.hpp"
#include "oddities.hpp"

namespace deeplab::tool {
namespace {

namespace fs = std::filesystem;

struct Pair {
  std::string picture, label, name;
};

struct Loaded {
  Image picture;
  LabelFile truth;
  Remarks remarks;
};

std::vector<Pair> find_pairs(const Command& command) {
  std::vector<Pair> pairs;
  std::error_code error;
  for (const std::string& line : read_list(command.list)) {
    const std::string picture = picture_of(command.images[0], line);
    const fs::path name = fs::path(picture).lexically_relative(command.images[0]).replace_extension();
    const std::string label = (fs::path(command.labels) / name).string() + ".png";
    if (!fs::is_regular_file(label, error)) throw data_error("there is no label map " + label + ".");
    pairs.push_back({picture, label, name.string()});
  }
  return pairs;
}

Loaded load(const Pair& pair, int picture_max) {
  Loaded loaded;
  loaded.picture = read_image(pair.picture, picture_max, &loaded.remarks);
  loaded.truth = read_label(pair.label);
  if (loaded.truth.height != loaded.picture.height || loaded.truth.width != loaded.picture.width) {
    throw data_error(pair.label + " has another size than its picture " + pair.picture + ".");
  }
  return loaded;
}

std::string score_text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.4f", value);
  return std::isnan(value) ? "-" : buffer;
}

std::string scores_json(const Confusion& confusion, const std::vector<ClassInfo>& classes, std::size_t pictures) {
  JsonObject iou;
  for (std::size_t label = 0; label < classes.size(); ++label) iou.number(classes[label].name, confusion.iou(label));
  JsonObject object;
  object.number("miou", confusion.miou()).number("miou_in_truth", confusion.miou_in_truth());
  object.number("pa", confusion.pa()).number("mpa", confusion.mpa());
  object.number("fwiou", confusion.fwiou()).whole("classes_counted", confusion.classes_counted());
  object.whole("classes_in_truth", confusion.classes_in_truth());
  object.whole("pixels", confusion.total()).whole("pictures", static_cast<std::int64_t>(pictures));
  return object.raw("iou", iou.str()).str();
}

void print_scores(const Confusion& confusion, const std::vector<ClassInfo>& classes) {
  std::size_t width = 5;
  for (const auto& item : classes) width = std::max(width, item.name.size());
  const auto line = [width](const std::string& name, const std::string& value) {
    std::cout << name << std::string(width - name.size() + 2, ' ') << value << '\n';
  };
  line("class", "    IoU");
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const std::string iou = confusion.is_ignored(label) ? "ignored" : score_text(confusion.iou(label));
    line(classes[label].name, std::string(7 - iou.size(), ' ') + iou);
  }
  std::cout << "mIoU " << score_text(confusion.miou()) << " over " << confusion.classes_counted() << " of "
            << classes.size() << " classes, mIoU in truth " << score_text(confusion.miou_in_truth()) << " over "
            << confusion.classes_in_truth() << ", PA " << score_text(confusion.pa()) << ", MPA "
            << score_text(confusion.mpa()) << ", FWIoU " << score_text(confusion.fwiou()) << ", " << confusion.total() << " pixels\n";
}

}  // namespace

int evaluate(const Command& command) {
  const std::vector<Pair> pairs = find_pairs(command);
  const auto segmenter = open_segmenter(command, command.json ? std::cerr : std::cout);
  const auto& classes = segmenter->classes();
  const int ignore = command.ignore != -2 ? command.ignore : segmenter->ignore_index();
  if (!command.output.empty()) make_folder(command.output);
  Confusion confusion(classes.size(), ignore);
  Result result;
  const int picture_max = segmenter->picture_max();
  Oddities oddities(picture_max);
  std::future<Loaded> next = std::async(std::launch::async, load, pairs[0], picture_max);
  for (std::size_t index = 0; index < pairs.size(); ++index) {
    const Loaded current = next.get();
    if (index + 1 < pairs.size()) next = std::async(std::launch::async, load, pairs[index + 1], picture_max);
    oddities.add(pairs[index].picture, current.remarks);
    require(segmenter->segment(current.picture.view(), result));
    confusion.add(current.truth.numbers, result.labels, pairs[index].label);
    if (!command.output.empty()) {
      const fs::path target = fs::path(command.output) / (pairs[index].name + ".png");
      write_label_png(target.string(), result.labels.data(), result.height, result.width, classes);
    }
  }
  oddities.print();
  if (command.json) {
    std::cout << scores_json(confusion, classes, pairs.size()) << '\n';
  } else {
    print_scores(confusion, classes);
  }
  return 0;
}

}  // namespace deeplab::tool
