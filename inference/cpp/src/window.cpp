#include "window.hpp"

#include <algorithm>
#include <deque>
#include <string>

#include "error.hpp"

namespace deeplab {
namespace {

// Scores of all classes for a rectangle of pixels that is worked on at once: they stay in a second-level cache.
constexpr int kBlockBytes = 1 << 20;
constexpr int kBlockColumns = 512;
constexpr std::int64_t kMostTiles = 1'000'000;

struct OpenTile {
  const Tile* tile;
  Planes planes;
  Neighbours y, x;
};

std::string show(Size size) { return std::to_string(size.height) + "x" + std::to_string(size.width); }

// Where tiles begin or end on an axis, rising: between two such edges every pixel is covered by the same tiles.
std::vector<int> edges(const std::vector<Tile>& tiles, int Tile::* first, int Tile::* last) {
  std::vector<int> result;
  for (const Tile& tile : tiles) {
    result.push_back(tile.*first);
    result.push_back(tile.*last);
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

// The number of anchors of an axis.
std::int64_t count_anchors(int length, int window, int stride) {
  return length <= window ? 1 : (std::int64_t{length} - window + stride - 1) / stride + 1;
}

}  // namespace

std::vector<int> anchors(int length, int window, int stride) {
  std::vector<int> result;
  for (std::int64_t anchor = 0; anchor < std::int64_t{length} - window; anchor += stride) {
    result.push_back(static_cast<int>(anchor));
  }
  result.push_back(std::max(length - window, 0));
  return result;
}

std::vector<Tile> make_tiles(Size picture, const SpecWindow& window) {
  if (window.stride.height > window.size.height || window.stride.width > window.size.width) {
    throw usage_error("a window of " + show(window.size) + " with stride " + show(window.stride) +
                      " leaves pixels out. The stride must not be larger than the window.");
  }
  const std::int64_t rows = count_anchors(picture.height, window.size.height, window.stride.height);
  const std::int64_t columns = count_anchors(picture.width, window.size.width, window.stride.width);
  if (rows > kMostTiles / columns) {
    throw usage_error("a window of " + show(window.size) + " with stride " + show(window.stride) +
                      " cuts a picture of " + show(picture) +
                      " into more than a million pieces. Take a larger stride.");
  }
  std::vector<Tile> tiles;
  for (const int top : anchors(picture.height, window.size.height, window.stride.height)) {
    for (const int left : anchors(picture.width, window.size.width, window.stride.width)) {
      Tile& tile = tiles.emplace_back();
      tile.top = tile.first_row = top;
      tile.left = tile.first_column = left;
      tile.last_row = top + std::min(window.size.height, picture.height - top);
      tile.last_column = left + std::min(window.size.width, picture.width - left);
      tile.geometry = {picture, window.size, axis_map(picture.height, picture.height, top),
                       axis_map(picture.width, picture.width, left)};
    }
  }
  return tiles;
}

void label_by_windows(Size picture, const SpecWindow& window, const OutputSpec& output, int classes,
                      const std::function<void(const Tile& tile, bool dequantized, Planes& planes)>& run,
                      std::uint8_t* labels) {
  const std::vector<Tile> tiles = make_tiles(picture, window);
  if (tiles.size() == 1) {
    Planes planes;
    run(tiles[0], false, planes);
    LabelSampler().label(planes, tiles[0].geometry, output.align_corners, labels);
    return;
  }
  const std::vector<int> row_edges = edges(tiles, &Tile::first_row, &Tile::last_row);
  const std::vector<int> column_edges = edges(tiles, &Tile::first_column, &Tile::last_column);
  std::deque<OpenTile> open;
  auto coming = tiles.begin();
  std::vector<float> sums;
  std::vector<std::uint8_t> leaders;

  const auto label_rectangle = [&](int top, int bottom, int left, int right) {
    const std::size_t width = right - left, pixels = width * (bottom - top);
    sums.assign(pixels * classes, 0.0f);
    int count = 0;
    for (const auto& [tile, planes, y, x] : open) {
      if (tile->first_column > left || tile->last_column < right) continue;
      add_scores(planes, y, x, top, bottom, left, right, sums.data());
      ++count;
    }
    if (count > 1) {
      for (float& sum : sums) sum /= static_cast<float>(count);  // rounding may make scores equal
    }
    leaders.resize(pixels);
    argmax(sums.data(), classes, pixels, leaders.data());
    for (int row = top; row < bottom; ++row) {
      std::copy_n(leaders.data() + (row - top) * width, width, labels + row * std::size_t(picture.width) + left);
    }
  };

  for (std::size_t band = 0; band + 1 < row_edges.size(); ++band) {
    const int first = row_edges[band], last = row_edges[band + 1];
    while (!open.empty() && open.front().tile->last_row <= first) open.pop_front();
    for (; coming != tiles.end() && coming->first_row < last; ++coming) {
      OpenTile& tile = open.emplace_back();
      tile.tile = &*coming;
      run(*coming, true, tile.planes);
      const Geometry& lies = coming->geometry;
      tile.y = neighbours(lies.y, picture.height, window.size.height, tile.planes.height, output.align_corners);
      tile.x = neighbours(lies.x, picture.width, window.size.width, tile.planes.width, output.align_corners);
    }
    for (std::size_t strip = 0; strip + 1 < column_edges.size(); ++strip) {
      for (int left = column_edges[strip]; left < column_edges[strip + 1]; left += kBlockColumns) {
        const int right = std::min(column_edges[strip + 1], left + kBlockColumns);
        const int rows = std::max(1, kBlockBytes / (4 * classes * (right - left)));
        for (int top = first; top < last; top += rows) label_rectangle(top, std::min(last, top + rows), left, right);
      }
    }
  }
}

}  // namespace deeplab
