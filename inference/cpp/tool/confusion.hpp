// Scores from one confusion matrix: the twin of deeplabv3p/metrics.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace deeplab::tool {

class Confusion {
 public:
  // `ignore`: the number in label files that counts nowhere; -1: none. Where it is the number of a class, that class has
  // no IoU and is in no mean; where it is predicted, that is an error of the true class.
  Confusion(std::size_t classes, int ignore) : classes_(classes), ignore_(ignore), cells_(classes * classes) {}

  // Count the pixels of a picture. Throws Error (data), which names `where`, for a number that is neither a class nor
  // ignored. `labels` are below the number of classes.
  void add(const std::vector<std::uint16_t>& truth, const std::vector<std::uint8_t>& labels, const std::string& where);

  // Fractions; NaN where nothing was counted.
  double iou(std::size_t label) const;       // NaN where the union is empty, and of the ignored class
  double accuracy(std::size_t label) const;  // share of the true pixels that were found
  double miou() const;                       // over the classes with a union, which depend on the prediction
  double miou_in_truth() const;              // over the classes that occur in the truth: to compare results by
  double pa() const;
  double mpa() const;  // over the classes that occur
  double fwiou() const;
  int classes_counted() const;   // of miou
  int classes_in_truth() const;  // of miou_in_truth
  bool is_ignored(std::size_t label) const { return ignore_ >= 0 && label == static_cast<std::size_t>(ignore_); }
  std::int64_t total() const;

 private:
  std::int64_t truth_of(std::size_t label) const;
  std::int64_t predicted_as(std::size_t label) const;
  std::int64_t hits(std::size_t label) const { return cells_[label * classes_ + label]; }

  std::size_t classes_;
  int ignore_;
  std::vector<std::int64_t> cells_;  // rows truth, columns prediction
};

}  // namespace deeplab::tool
