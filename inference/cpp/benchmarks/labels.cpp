// What it costs to get from a network's output to the label of every pixel: by the library, and plainly, as programs
// mostly do: resize all classes to the picture's size, then take the argmax.
//
//     deeplab_labels_benchmark fused|plain LOGITS.raw H W CLASSES PICTURE_H PICTURE_W RUNS
//
// LOGITS.raw holds float32 [H, W, CLASSES]. Prints the median in milliseconds and the sum of the labels, by which both ways
// can be told to have done the same.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <numeric>
#include <string>
#include <vector>

#include "error.hpp"
#include "sampling.hpp"

namespace {

struct Job {
  deeplab::Size grid, picture;
  int classes = 0;
  std::vector<float> logits;
};

void fused(const Job& job, std::vector<std::uint8_t>& labels) {
  static deeplab::LabelSampler sampler;
  static deeplab::Planes planes;
  const deeplab::TensorView view{job.logits.data(), deeplab::Dtype::f32,
                                 {1, job.grid.height, job.grid.width, job.classes}};
  deeplab::class_planes(view, {}, job.classes, false, planes);
  deeplab::Geometry geometry{job.picture, job.picture, {}, {}};
  sampler.label(planes, geometry, false, labels.data());
}

// Every pixel's scores are written to memory, classes innermost, so that the compiler can vectorise over them.
void plain(const Job& job, std::vector<std::uint8_t>& labels) {
  static std::vector<float> scores;
  const auto [height, width] = job.picture;
  const auto classes = static_cast<std::size_t>(job.classes);
  scores.resize(static_cast<std::size_t>(height) * width * classes);
  const auto place = [](int pixel, int size, int grid) {
    const float where = (static_cast<float>(pixel) + 0.5f) * static_cast<float>(grid) / static_cast<float>(size) - 0.5f;
    return std::clamp(where, 0.0f, static_cast<float>(grid - 1));
  };
  for (int y = 0; y < height; ++y) {
    const float row = place(y, height, job.grid.height);
    const int top = static_cast<int>(row);
    const int bottom = std::min(top + 1, job.grid.height - 1);
    const float down = row - static_cast<float>(top);
    for (int x = 0; x < width; ++x) {
      const float column = place(x, width, job.grid.width);
      const int left = static_cast<int>(column);
      const int right = std::min(left + 1, job.grid.width - 1);
      const float across = column - static_cast<float>(left);
      const auto at = [&](int i, int j) {
        return job.logits.data() + (static_cast<std::size_t>(i) * job.grid.width + j) * classes;
      };
      const float *a = at(top, left), *b = at(top, right), *c = at(bottom, left), *d = at(bottom, right);
      float* target = scores.data() + (static_cast<std::size_t>(y) * width + x) * classes;
      for (std::size_t k = 0; k < classes; ++k) {
        const float upper = a[k] + (b[k] - a[k]) * across;
        const float lower = c[k] + (d[k] - c[k]) * across;
        target[k] = upper + (lower - upper) * down;
      }
    }
  }
  for (std::size_t pixel = 0; pixel < labels.size(); ++pixel) {
    const float* first = scores.data() + pixel * classes;
    labels[pixel] = static_cast<std::uint8_t>(std::max_element(first, first + classes) - first);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 9) {
    std::cerr << "usage: deeplab_labels_benchmark fused|plain LOGITS.raw H W CLASSES PICTURE_H PICTURE_W RUNS\n";
    return 2;
  }
  Job job{{std::atoi(argv[3]), std::atoi(argv[4])}, {std::atoi(argv[6]), std::atoi(argv[7])}, std::atoi(argv[5]), {}};
  job.logits.resize(static_cast<std::size_t>(job.grid.height) * job.grid.width * job.classes);
  std::ifstream file(argv[2], std::ios::binary);
  if (!file.read(reinterpret_cast<char*>(job.logits.data()),
                 static_cast<std::streamsize>(job.logits.size() * sizeof(float)))) {
    std::cerr << "error: " << argv[2] << " is shorter than its shape.\n";
    return 3;
  }
  const bool is_fused = std::string(argv[1]) == "fused";
  std::vector<std::uint8_t> labels(static_cast<std::size_t>(job.picture.height) * job.picture.width);
  std::vector<double> times;
  for (int run = -3; run < std::atoi(argv[8]); ++run) {
    const auto start = std::chrono::steady_clock::now();
    is_fused ? fused(job, labels) : plain(job, labels);
    const std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    if (run >= 0) times.push_back(time.count());
  }
  if (times.empty()) return 2;
  std::sort(times.begin(), times.end());
  std::cout << times[times.size() / 2] << ' ' << std::accumulate(labels.begin(), labels.end(), 0L) << '\n';
  return 0;
}
