// Pictures from files to files. The next picture is decoded and the last mask is written while the network runs.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <future>
#include <iostream>
#include <numeric>

#include "error.hpp"
#include "files.hpp"
#include "image/draw.hpp"
#include "image/read.hpp"
#include "image/write.hpp"
#include "json_text.hpp"
#include "modes.hpp"
#include "oddities.hpp"
#include "pixels.hpp"

namespace deeplab::tool {
namespace {

namespace fs = std::filesystem;

struct Percentiles {
  double p50 = 0, p90 = 0;
};

// The nearest-rank percentiles of one or more values.
Percentiles percentiles(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto rank = [&](std::size_t percent) { return values[(values.size() * percent + 99) / 100 - 1]; };
  return {rank(50), rank(90)};
}

// The most memory that this process had resident.
double peak_mib() {
  // getrusage counts what the process was before exec, too: the memory of a large program that started this one.
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (double kib = 0; word == "VmHWM:" && status >> kib) return kib / 1024;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024;
}

std::string fixed(double value, int digits, int width = 0) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%*.*f", width, digits, value);
  return buffer;
}

// "road 51.2%, car 8.0%": the classes present, largest first.
std::string shares(const Result& result, const std::vector<ClassInfo>& classes) {
  std::vector<std::size_t> order(result.areas.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return result.areas[a] > result.areas[b]; });
  std::string text;
  for (const std::size_t label : order) {
    if (!result.areas[label]) break;
    const double share = 100.0 * static_cast<double>(result.areas[label]) / static_cast<double>(result.labels.size());
    text += (text.empty() ? "" : ", ") + classes[label].name + " " + fixed(share, 1) + "%";
  }
  return text;
}

// What a benchmark saw: milliseconds of each counted run.
struct Runs {
  std::vector<double> whole, prepare, network, labels;

  void add(const Timings& timings) {
    prepare.push_back(timings.prepare);
    network.push_back(timings.network);
    labels.push_back(timings.labels);
    whole.push_back(timings.prepare + timings.network + timings.labels);
  }
};

Runs segment_often(const Command& command, Segmenter& segmenter, const ImageView& picture, Result& result) {
  Runs runs;
  const int warmup = command.count > 1 ? command.warmup : 0;
  for (int run = -warmup; run < command.count; ++run) {
    require(segmenter.segment(picture, result));
    if (run >= 0) runs.add(result.timings);
  }
  return runs;
}

std::string timings_json(const Runs& runs) {
  JsonObject object;
  for (const auto& [name, values] : {std::pair{"whole", &runs.whole}, {"prepare", &runs.prepare},
                                     {"network", &runs.network}, {"labels", &runs.labels}}) {
    const Percentiles found = percentiles(*values);
    object.raw(name, JsonObject().number("p50", found.p50).number("p90", found.p90).str());
  }
  return object.str();
}

std::string picture_json(const Job& job, const std::string& mask, const Result& result, const Runs& runs,
                         const std::vector<ClassInfo>& classes) {
  JsonObject areas;
  for (std::size_t label = 0; label < classes.size(); ++label) {
    if (result.areas[label]) areas.whole(classes[label].name, result.areas[label]);
  }
  JsonObject object;
  object.text("picture", job.picture).text("mask", mask).whole("height", result.height).whole("width", result.width);
  object.raw("areas", areas.str()).whole("runs", static_cast<std::int64_t>(runs.whole.size()));
  return object.raw("milliseconds", timings_json(runs)).number("peak_mib", peak_mib()).str();
}

void print_benchmark(const Runs& runs) {
  std::cout << "  ms         p50      p90\n";
  for (const auto& [name, values] : {std::pair{"whole  ", &runs.whole}, {"prepare", &runs.prepare},
                                     {"network", &runs.network}, {"labels ", &runs.labels}}) {
    const Percentiles found = percentiles(*values);
    std::cout << "  " << name << fixed(found.p50, 2, 9) << fixed(found.p90, 2, 9) << '\n';
  }
  std::cout << "  " << runs.whole.size() << " runs, peak memory of the process " << fixed(peak_mib(), 0) << " MiB\n"
            << std::flush;
}

// Where results go: a mask file of one picture, or a folder.
struct Target {
  std::string mask;    // used if there is no folder
  std::string folder;  // empty: none
  bool overlays = false;

  std::string mask_of(const Job& job) const {
    return folder.empty() ? mask : (fs::path(folder) / (job.name + ".png")).string();
  }
  std::string overlay_of(const Job& job) const {
    return folder.empty() ? fs::path(mask).replace_extension().string() + "_overlay.png"
                          : (fs::path(folder) / (job.name + "_overlay.png")).string();
  }
  std::string confidence_of(const Job& job) const {
    return folder.empty() ? fs::path(mask).replace_extension().string() + "_confidence.png"
                          : (fs::path(folder) / (job.name + "_confidence.png")).string();
  }
  std::string legend() const {
    return folder.empty() ? fs::path(mask).replace_extension().string() + "_legend.png"
                          : (fs::path(folder) / "legend.png").string();
  }
};

Target make_target(const Command& command, bool single) {
  Target target{command.mask.empty() ? "mask.png" : command.mask, command.output, command.overlays};
  if (!single && !command.mask.empty()) throw usage_error("-k is the file of one picture. Give several a folder: --output.");
  if (!single && target.folder.empty()) target.folder = "result";
  if (!target.folder.empty()) make_folder(target.folder);
  return target;
}

// Refuse -p 0 where the mask of the model's input is not a smaller mask of the picture.
void check_keep_shape(const Command& command, const Segmenter& segmenter) {
  if (command.keep_shape || segmenter.stretched_size()[0] > 0) return;
  throw usage_error(
      "-p 0 is for models of a fixed size to which pictures are stretched, and this one pads or crops them, slides a "
      "window or takes any size. Leave out -p 0, and resize the masks afterwards if they shall be smaller.");
}

// The picture at the size of the model's input: then that is the size of the mask.
Image at_input_size(const Segmenter& segmenter, const Image& picture) {
  const auto [height, width] = segmenter.stretched_size();
  Image scaled{height, width, 3, std::vector<std::uint8_t>(static_cast<std::size_t>(height) * width * 3)};
  resize_exact(picture.pixels.data(), {picture.height, picture.width}, 3, scaled.pixels.data(), {height, width});
  return scaled;
}

struct Loaded {
  Image picture;
  Remarks remarks;
};

Loaded load(const std::string& path, int picture_max) {
  Loaded loaded;
  loaded.picture = read_image(path, picture_max, &loaded.remarks);
  return loaded;
}

// Probabilities as a grey picture.
Image grey(const Result& result) {
  Image image{result.height, result.width, 3, std::vector<std::uint8_t>(result.scores.size() * 3)};
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(std::lround(255 * std::clamp(result.scores[i / 3], 0.0f, 1.0f)));
  }
  return image;
}

// Writes the results of one picture after the other, one of them beside the network.
class Writer {
 public:
  Writer(const Target& target, const std::vector<ClassInfo>& classes) : target_(target), classes_(classes) {}

  // Throws what writing the one before threw.
  void put(const Job& job, Image picture, std::vector<std::uint8_t> labels) {
    finish();
    pending_ = std::async(std::launch::async, [this, job, picture = std::move(picture), labels = std::move(labels)] {
      write_label_png(target_.mask_of(job), labels.data(), picture.height, picture.width, classes_);
      if (target_.overlays) write_png(target_.overlay_of(job), overlay(picture, labels.data(), classes_));
    });
  }

  void finish() {
    if (pending_.valid()) pending_.get();
  }

 private:
  const Target& target_;
  const std::vector<ClassInfo>& classes_;
  std::future<void> pending_;
};

}  // namespace

void require(const Status& status) {
  if (!status.ok()) throw Error(status.code, status.message);
}

std::unique_ptr<Segmenter> open_segmenter(const Command& command, std::ostream& stream) {
  std::unique_ptr<Segmenter> segmenter;
  require(Segmenter::open(command.model, command.options, segmenter));
  stream << segmenter->description() << '\n' << std::flush;
  if (command.verbose) {
    stream << "classes:";
    for (const auto& item : segmenter->classes()) stream << ' ' << item.name;
    stream << '\n' << std::flush;
  }
  return segmenter;
}

int segment_pictures(const Command& command) {
  const std::vector<Job> jobs = find_pictures(command);
  const Target target = make_target(command, jobs.size() == 1);
  std::ostream& words = command.json ? std::cerr : std::cout;
  const auto segmenter = open_segmenter(command, words);
  check_keep_shape(command, *segmenter);
  const auto& classes = segmenter->classes();
  Writer writer(target, classes);
  std::vector<bool> present(classes.size(), false);
  Result result;
  std::size_t unreadable = 0;
  const auto start = std::chrono::steady_clock::now();
  const int picture_max = segmenter->picture_max();
  Oddities oddities(picture_max);
  std::future<Loaded> next = std::async(std::launch::async, load, jobs[0].picture, picture_max);
  for (std::size_t index = 0; index < jobs.size(); ++index) {
    const Job& job = jobs[index];
    std::future<Loaded> current = std::move(next);
    if (index + 1 < jobs.size()) {
      next = std::async(std::launch::async, load, jobs[index + 1].picture, picture_max);
    }
    Image picture;
    try {
      Loaded loaded = current.get();
      oddities.add(job.picture, loaded.remarks);
      picture = std::move(loaded.picture);
    } catch (const Error& error) {
      if (jobs.size() == 1) throw;
      std::cerr << "error: " << error.what() << '\n';
      ++unreadable;
      continue;
    }
    if (!command.keep_shape) picture = at_input_size(*segmenter, picture);
    const Runs runs = segment_often(command, *segmenter, picture.view(), result);
    for (std::size_t label = 0; label < classes.size(); ++label) present[label] = present[label] || result.areas[label];
    const std::string mask = target.mask_of(job);
    if (command.json) {
      std::cout << picture_json(job, mask, result, runs, classes) << '\n' << std::flush;
    } else {
      std::cout << job.picture << " -> " << mask << " (" << shares(result, classes) << "; "
                << fixed(percentiles(runs.whole).p50, 1) << " ms)\n" << std::flush;
      if (command.count > 1 || command.verbose) print_benchmark(runs);
    }
    writer.put(job, std::move(picture), result.labels);
    if (command.confidence) write_png(target.confidence_of(job), grey(result));
  }
  writer.finish();
  oddities.print();
  if (command.legend) write_png(target.legend(), legend(classes, present));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  if (jobs.size() > 1) {
    words << jobs.size() - unreadable << " pictures in " << fixed(seconds.count(), 1) << " s, peak memory "
          << fixed(peak_mib(), 0) << " MiB\n";
  }
  if (unreadable) {
    throw data_error(std::to_string(unreadable) + " of " + std::to_string(jobs.size()) + " pictures could not be read.");
  }
  return 0;
}

}  // namespace deeplab::tool
