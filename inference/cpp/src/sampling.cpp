#include "sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <utility>

namespace deeplab {
namespace {

const float* plane(const Planes& planes, int k) {
  return planes.values.data() + static_cast<std::size_t>(k) * planes.height * planes.width;
}

// Without branches, so that loops over it are vectorised: GCC makes branches of two conditions that are the same.
inline void keep_greater(float score, std::int32_t label, float& best, std::int32_t& winner) {
  const std::int32_t greater = -static_cast<std::int32_t>(score > best);  // 0, or all bits
  winner = (label & greater) | (winner & ~greater);
  best = std::max(best, score);
}

// A row of a plane at the pixels of an axis, mixed along it.
void widen(const float* row, const Neighbours& x, int first, std::vector<float>& wide) {
  for (std::size_t i = 0, pixel = first; i < wide.size(); ++i, ++pixel) {
    wide[i] = row[x.low[pixel]] * x.low_weight[pixel] + row[x.high[pixel]] * x.high_weight[pixel];
  }
}

}  // namespace

std::vector<double> coordinates(const AxisMap& axis, int picture, int tensor, int grid, bool align_corners) {
  double ratio = static_cast<double>(grid) / tensor, shift = 0.5 * ratio - 0.5;
  if (align_corners) {
    ratio = tensor > 1 ? (grid - 1.0) / (tensor - 1.0) : 0.0;
    shift = 0;
  }
  const double scale = axis.scale * ratio, offset = axis.offset * ratio + shift;
  std::vector<double> where(static_cast<std::size_t>(picture));
  for (int pixel = 0; pixel < picture; ++pixel) where[pixel] = std::clamp(scale * pixel + offset, 0.0, grid - 1.0);
  return where;
}

Neighbours neighbours(const AxisMap& axis, int picture, int tensor, int grid, bool align_corners) {
  Neighbours result;
  for (const double where : coordinates(axis, picture, tensor, grid, align_corners)) {
    const int low = static_cast<int>(where);
    const float weight = static_cast<float>(where - low);
    result.low.push_back(low);
    result.high.push_back(std::min(low + 1, grid - 1));
    result.low_weight.push_back(1.0f - weight);
    result.high_weight.push_back(weight);
  }
  return result;
}

void argmax(const float* scores, int classes, std::size_t count, std::uint8_t* leaders) {
  constexpr std::size_t step = 256;  // at once: all classes of these points stay in a cache
  std::array<float, step> best;
  std::array<std::int32_t, step> leader;  // as wide as a score: one vector of flags serves both
  for (std::size_t begin = 0; begin < count; begin += step) {
    const std::size_t size = std::min(step, count - begin);
    std::copy_n(scores + begin, size, best.begin());
    leader.fill(0);
    for (int k = 1; k < classes; ++k) {
      const float* score = scores + static_cast<std::size_t>(k) * count + begin;
      for (std::size_t i = 0; i < size; ++i) {
        keep_greater(score[i], k, best[i], leader[i]);
      }
    }
    for (std::size_t i = 0; i < size; ++i) leaders[begin + i] = static_cast<std::uint8_t>(leader[i]);
  }
}

void LabelSampler::label(const Planes& planes, const Geometry& geometry, bool align_corners, std::uint8_t* labels) {
  const auto [height, width] = geometry.picture;
  const Neighbours y = neighbours(geometry.y, height, geometry.tensor.height, planes.height, align_corners);
  const Neighbours x = neighbours(geometry.x, width, geometry.tensor.width, planes.width, align_corners);
  cut(y, kSide, rows_);
  cut(x, 1, columns_);
  const std::size_t grid_width = planes.width, row_bytes = width;
  leaders_.resize(static_cast<std::size_t>(planes.height) * grid_width);
  argmax(planes.values.data(), planes.classes, leaders_.size(), leaders_.data());

  // Behind the blocks that lie between the same two grid points as `begin`.
  const auto run_end = [](const std::vector<Block>& blocks, auto begin) {
    return std::find_if(begin, blocks.end(), [&](const Block& block) { return block.low != begin->low; });
  };
  for (auto row = rows_.cbegin(), next_row = row; row != rows_.cend(); row = next_row) {
    next_row = run_end(rows_, row);
    const std::uint8_t* upper = leaders_.data() + row->low * grid_width;
    const std::uint8_t* lower = leaders_.data() + row->high * grid_width;
    // All pixels get the leader of a grid point, the same in all rows between two grid rows; then some are mixed.
    std::uint8_t* first = labels + row->first * row_bytes;
    for (std::size_t pixel = 0; pixel < row_bytes; ++pixel) first[pixel] = upper[x.low[pixel]];
    const int end = next_row == rows_.cend() ? height : next_row->first;
    for (int pixel = row->first + 1; pixel < end; ++pixel) std::memcpy(labels + pixel * row_bytes, first, row_bytes);

    if (row != rows_.cbegin() && row->low == std::prev(row)->high) {
      std::swap(upper_, lower_);
    } else {
      take_row(planes, row->low, upper_);
    }
    take_row(planes, row->high, lower_);
    for (auto column = columns_.cbegin(), next = column; column != columns_.cend(); column = next) {
      next = run_end(columns_, column);
      const int left = column->low, right = column->high;
      const std::uint8_t leader = upper[left];
      if (leader == upper[right] && leader == lower[left] && leader == lower[right]) continue;
      find_candidates(planes.classes, left, right);
      for (auto rows = row; rows != next_row; ++rows) {
        for (auto columns = column; columns != next; ++columns) mix(*rows, *columns, labels, row_bytes);
      }
    }
  }
}

void LabelSampler::cut(const Neighbours& axis, int lanes_a_pixel, std::vector<Block>& blocks) {
  blocks.clear();
  const int size = static_cast<int>(axis.low.size());
  for (int pixel = 0; pixel < size; pixel += blocks.back().count) {
    Block& block = blocks.emplace_back();
    block.low = axis.low[pixel];
    block.high = axis.high[pixel];
    block.first = pixel;
    const int end = std::min(pixel + kSide, size);
    while (pixel + block.count < end && axis.low[pixel + block.count] == block.low) ++block.count;
    for (int lane = 0; lane < kLanes; ++lane) {
      // Lanes behind a short block repeat its last pixel and are not used.
      const int own = pixel + std::min(lane / lanes_a_pixel % kSide, block.count - 1);
      block.low_weight[lane] = axis.low_weight[own];
      block.high_weight[lane] = axis.high_weight[own];
    }
  }
}

void LabelSampler::take_row(const Planes& planes, int row, std::vector<float>& scores) {
  // The scores of a grid point side by side: a step from class to class in the planes is often a power of two, and a
  // cache has few places for addresses that far apart.
  const std::size_t classes = planes.classes, width = planes.width;
  scores.resize(width * classes);
  for (std::size_t k = 0; k < classes; ++k) {
    const float* source = plane(planes, static_cast<int>(k)) + row * width;
    for (std::size_t i = 0; i < width; ++i) scores[i * classes + k] = source[i];
  }
}

void LabelSampler::find_candidates(int classes, int left, int right) {
  const std::size_t from = static_cast<std::size_t>(left) * classes, to = static_cast<std::size_t>(right) * classes;
  const float *a = &upper_[from], *b = &upper_[to], *c = &lower_[from], *d = &lower_[to];
  // A class cannot win if its highest corner is below the lowest corner of another class, by more than mixing can
  // round: mixing four equal numbers is off by less than 16 roundings of 2^-24, or by the smallest normal number near
  // zero.
  std::array<float, 256> lowest, highest;
  for (int k = 0; k < classes; ++k) {
    lowest[k] = std::min(std::min(a[k], b[k]), std::min(c[k], d[k]));
    highest[k] = std::max(std::max(a[k], b[k]), std::max(c[k], d[k]));
  }
  float bar = *std::max_element(lowest.begin(), lowest.begin() + classes);
  bar -= std::abs(bar) * 0x1p-18f + 1e-37f;
  candidates_.clear();
  for (int k = 0; k < classes; ++k) {
    if (highest[k] >= bar) candidates_.push_back({k, a[k], b[k], c[k], d[k]});
  }
}

void LabelSampler::mix(const Block& rows, const Block& columns, std::uint8_t* labels, std::size_t width) const {
  std::array<float, kLanes> best;
  std::array<std::int32_t, kLanes> winner;
  best.fill(-std::numeric_limits<float>::infinity());
  winner.fill(candidates_.front().label);
  for (const auto& [label, a, b, c, d] : candidates_) {
    for (int lane = 0; lane < kLanes; ++lane) {
      const float top = a * columns.low_weight[lane] + b * columns.high_weight[lane];
      const float bottom = c * columns.low_weight[lane] + d * columns.high_weight[lane];
      const float score = top * rows.low_weight[lane] + bottom * rows.high_weight[lane];
      keep_greater(score, label, best[lane], winner[lane]);
    }
  }
  for (int y = 0; y < rows.count; ++y) {
    std::uint8_t* target = labels + (rows.first + y) * width + columns.first;
    for (int x = 0; x < columns.count; ++x) target[x] = static_cast<std::uint8_t>(winner[y * kSide + x]);
  }
}

void LabelSampler::label_plainly(const Planes& planes, const Geometry& geometry, bool align_corners,
                                 std::uint8_t* labels) {
  const auto [height, width] = geometry.picture;
  const Neighbours y = neighbours(geometry.y, height, geometry.tensor.height, planes.height, align_corners);
  const Neighbours x = neighbours(geometry.x, width, geometry.tensor.width, planes.width, align_corners);
  const auto leader = [&](auto score) {
    int best = 0;
    for (int k = 1; k < planes.classes; ++k) {
      if (score(k) > score(best)) best = k;
    }
    return best;
  };
  for (int row = 0; row < height; ++row) {
    for (int column = 0; column < width; ++column) {
      const auto at = [&](int k, int grid_y, int grid_x) {
        return plane(planes, k)[static_cast<std::size_t>(grid_y) * planes.width + grid_x];
      };
      const auto leader_at = [&](int grid_y, int grid_x) {
        return leader([&](int k) { return at(k, grid_y, grid_x); });
      };
      const int top = y.low[row], bottom = y.high[row], left = x.low[column], right = x.high[column];
      int label = leader_at(top, left);
      if (label != leader_at(top, right) || label != leader_at(bottom, left) || label != leader_at(bottom, right)) {
        const float left_weight = x.low_weight[column], right_weight = x.high_weight[column];
        label = leader([&](int k) {
          const float above = at(k, top, left) * left_weight + at(k, top, right) * right_weight;
          const float below = at(k, bottom, left) * left_weight + at(k, bottom, right) * right_weight;
          return above * y.low_weight[row] + below * y.high_weight[row];
        });
      }
      *labels++ = static_cast<std::uint8_t>(label);
    }
  }
}

void add_scores(const Planes& planes, const Neighbours& y, const Neighbours& x, int first_row, int last_row,
                int first_column, int last_column, float* sums) {
  std::vector<float> upper(static_cast<std::size_t>(last_column - first_column)), lower(upper.size());
  for (int k = 0; k < planes.classes; ++k) {
    for (int row = first_row; row < last_row; ++row, sums += upper.size()) {
      if (row == first_row || y.low[row] != y.low[row - 1]) {  // rows between the same two grid rows share these
        const float* scores = plane(planes, k);
        if (row != first_row && y.low[row] == y.high[row - 1]) {
          std::swap(upper, lower);
        } else {
          widen(scores + static_cast<std::size_t>(y.low[row]) * planes.width, x, first_column, upper);
        }
        widen(scores + static_cast<std::size_t>(y.high[row]) * planes.width, x, first_column, lower);
      }
      const float low_weight = y.low_weight[row], high_weight = y.high_weight[row];
      for (std::size_t i = 0; i < upper.size(); ++i) sums[i] += upper[i] * low_weight + lower[i] * high_weight;
    }
  }
}

}  // namespace deeplab
