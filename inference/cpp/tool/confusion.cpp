#include "confusion.hpp"

#include <cmath>
#include <limits>

#include "error.hpp"

namespace deeplab::tool {
namespace {

double ratio(std::int64_t part, std::int64_t whole) {
  return whole ? static_cast<double>(part) / static_cast<double>(whole) : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

void Confusion::add(const std::vector<std::uint16_t>& truth, const std::vector<std::uint8_t>& labels,
                    const std::string& where) {
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const std::uint16_t number = truth[i];
    if (number == ignore_) continue;
    if (number >= classes_) {
      throw data_error(where + " holds the label " + std::to_string(number) + ", but the classes are 0 to " +
                       std::to_string(classes_ - 1) + ". Correct the map, the class list or --ignore_index.");
    }
    ++cells_[number * classes_ + labels[i]];
  }
}

std::int64_t Confusion::truth_of(std::size_t label) const {
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < classes_; ++k) sum += cells_[label * classes_ + k];
  return sum;
}

std::int64_t Confusion::predicted_as(std::size_t label) const {
  std::int64_t sum = 0;
  for (std::size_t k = 0; k < classes_; ++k) sum += cells_[k * classes_ + label];
  return sum;
}

std::int64_t Confusion::total() const {
  std::int64_t sum = 0;
  for (const std::int64_t cell : cells_) sum += cell;
  return sum;
}

double Confusion::iou(std::size_t label) const {
  if (is_ignored(label)) return std::numeric_limits<double>::quiet_NaN();
  return ratio(hits(label), truth_of(label) + predicted_as(label) - hits(label));
}

double Confusion::accuracy(std::size_t label) const { return ratio(hits(label), truth_of(label)); }

double Confusion::pa() const {
  std::int64_t right = 0;
  for (std::size_t label = 0; label < classes_; ++label) right += hits(label);
  return ratio(right, total());
}

int Confusion::classes_counted() const {
  int count = 0;
  for (std::size_t label = 0; label < classes_; ++label) count += !std::isnan(iou(label));
  return count;
}

int Confusion::classes_in_truth() const {
  int count = 0;
  for (std::size_t label = 0; label < classes_; ++label) count += truth_of(label) > 0;
  return count;
}

double Confusion::miou_in_truth() const {
  double sum = 0;
  for (std::size_t label = 0; label < classes_; ++label) {
    if (truth_of(label)) sum += iou(label);
  }
  return sum / classes_in_truth();
}

double Confusion::miou() const {
  double sum = 0;
  for (std::size_t label = 0; label < classes_; ++label) {
    if (const double value = iou(label); !std::isnan(value)) sum += value;
  }
  return sum / classes_counted();
}

double Confusion::mpa() const {
  double sum = 0;
  int count = 0;
  for (std::size_t label = 0; label < classes_; ++label) {
    if (const double value = accuracy(label); !std::isnan(value)) {
      sum += value;
      ++count;
    }
  }
  return sum / count;
}

double Confusion::fwiou() const {
  const std::int64_t all = total();
  if (!all) return std::numeric_limits<double>::quiet_NaN();
  double sum = 0;
  for (std::size_t label = 0; label < classes_; ++label) {
    const std::int64_t own = truth_of(label);
    if (own) sum += static_cast<double>(own) / static_cast<double>(all) * iou(label);
  }
  return sum;
}

}  // namespace deeplab::tool
