// What is odd about pictures that are used all the same, said once at the end. The twin of Oddities in decode.py.
#pragma once

#include <algorithm>
#include <iostream>
#include <string>
#include <vector>

#include "image/read.hpp"

namespace deeplab::tool {

class Oddities {
 public:
  explicit Oddities(int picture_max) : picture_max_(picture_max) {}

  void add(const std::string& path, const Remarks& remarks) {
    if (remarks.cut) cut_.push_back(path);
    if (remarks.largest >= 0) {
      ++deep_;
      largest_ = std::max(largest_, remarks.largest);
    }
  }

  // Write a line for each kind to standard error.
  void print() const {
    constexpr std::size_t named = 5;
    if (!cut_.empty()) {
      std::cerr << "warning: " << cut_.size() << (cut_.size() == 1 ? " picture is a cut JPEG" : " pictures are cut JPEGs")
                << ", a part of which is missing and read as grey:";
      for (std::size_t i = 0; i < std::min(named, cut_.size()); ++i) std::cerr << (i ? ", " : " ") << cut_[i];
      if (cut_.size() > named) std::cerr << " and " << cut_.size() - named << " more";
      std::cerr << ".\n";
    }
    if (const int white = likely_white()) {
      std::cerr << "warning: the largest value of " << deep_ << (deep_ == 1 ? " picture" : " pictures")
                << " of 16 bits is " << largest_ << ", where white is " << picture_max_
                << ": almost black. If white is less in the camera, say --picture_max " << white << ".\n";
    }
  }

 private:
  // What white seems to be; 0: there is no sign that it is less than picture_max.
  int likely_white() const {
    const int limit = (picture_max_ + 1) / (deep_ >= 3 ? 4 : 8);
    for (const int white : {255, 1023, 4095, 16383}) {
      if (deep_ && largest_ <= white && white < limit) return white;
    }
    return 0;
  }

  const int picture_max_;
  std::vector<std::string> cut_;
  int deep_ = 0;
  int largest_ = 0;
};

}  // namespace deeplab::tool
