#include "resize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace deeplab {

void RowResizer::start(const std::uint8_t* source, std::ptrdiff_t row_bytes, Size source_size, int channels,
                       Size target_size, int first_column, int columns) {
  source_ = source;
  row_bytes_ = row_bytes;
  source_size_ = source_size;
  target_size_ = target_size;
  channels_ = channels;
  first_column_ = first_column;
  columns_.clear();
  for (int i = 0; i < columns; ++i) columns_.push_back(tap(source_size.width, target_size.width, first_column + i));
  row_.resize(columns_.size() * channels);
  for (auto& wide : wide_) wide.resize(row_.size());
  held_.fill(-1);
}

RowResizer::Tap RowResizer::tap(int source, int target, int pixel) {
  const double scale = 1.0 / (static_cast<double>(target) / source);
  const double where = scale * (pixel + 0.5) - 0.5;
  if (where < 0 || source == 1) return {0, 0};
  const double low = std::floor(where);
  if (low >= source - 1) return {source - 2, 256};
  return {static_cast<int>(low), static_cast<std::uint16_t>(std::nearbyint((where - low) * 256))};
}

template <int channels>
void RowResizer::widen(const std::uint8_t* row, std::uint16_t* wide) const {
  const std::ptrdiff_t next = source_size_.width > 1 ? channels : 0;
  for (const Tap& tap : columns_) {
    const std::uint8_t* low = row + static_cast<std::ptrdiff_t>(tap.low) * channels;
    const std::uint8_t* high = low + next;
    const int high_weight = tap.high_weight, low_weight = 256 - high_weight;
    for (int c = 0; c < channels; ++c) {
      *wide++ = static_cast<std::uint16_t>(low[c] * low_weight + high[c] * high_weight);
    }
  }
}

const std::uint16_t* RowResizer::wide_row(int y) {
  const std::size_t slot = y % 2;
  std::uint16_t* wide = wide_[slot].data();
  if (held_[slot] == y) return wide;
  const std::uint8_t* row = source_ + y * row_bytes_;
  switch (channels_) {
    case 1: widen<1>(row, wide); break;
    case 2: widen<2>(row, wide); break;
    case 3: widen<3>(row, wide); break;
    default: widen<4>(row, wide); break;
  }
  held_[slot] = y;
  return wide;
}

const std::uint8_t* RowResizer::row(int y) {
  if (source_size_ == target_size_) {
    return source_ + y * row_bytes_ + static_cast<std::ptrdiff_t>(first_column_) * channels_;
  }
  const Tap rows = tap(source_size_.height, target_size_.height, y);
  const std::uint16_t* low = wide_row(rows.low);
  const std::uint16_t* high = wide_row(std::min(rows.low + 1, source_size_.height - 1));
  // 16 bits each, so that the compiler multiplies 16 by 16 bits: SSE2 has nothing wider.
  const std::uint16_t high_weight = rows.high_weight, low_weight = static_cast<std::uint16_t>(256 - high_weight);
  std::uint8_t* result = row_.data();
  const std::size_t size = row_.size();
  for (std::size_t i = 0; i < size; ++i) {
    result[i] = static_cast<std::uint8_t>((low[i] * low_weight + high[i] * high_weight + 32768) >> 16);
  }
  return result;
}

void resize_exact(const std::uint8_t* source, Size source_size, int channels, std::uint8_t* target, Size target_size) {
  RowResizer rows;
  rows.start(source, static_cast<std::ptrdiff_t>(source_size.width) * channels, source_size, channels, target_size, 0,
             target_size.width);
  const std::size_t row_bytes = static_cast<std::size_t>(target_size.width) * channels;
  for (int y = 0; y < target_size.height; ++y) std::memcpy(target + y * row_bytes, rows.row(y), row_bytes);
}

}  // namespace deeplab
