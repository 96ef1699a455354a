#include <doctest/doctest.h>

#include <cmath>

#include "confusion.hpp"
#include "error.hpp"

using deeplab::tool::Confusion;

TEST_CASE("scores by hand") {
  Confusion confusion(4, 255);
  confusion.add({0, 0, 1, 1, 255, 2}, {0, 1, 1, 1, 3, 0}, "map");
  CHECK(confusion.total() == 5);
  CHECK(confusion.iou(0) == 1.0 / 3);  // one hit; two true, two predicted
  CHECK(confusion.iou(1) == 2.0 / 3);
  CHECK(confusion.iou(2) == 0);
  CHECK(std::isnan(confusion.iou(3)));  // neither there nor predicted, but on an ignored pixel
  CHECK(confusion.classes_counted() == 3);
  CHECK(confusion.miou() == doctest::Approx(1.0 / 3));
  CHECK(confusion.pa() == 0.6);
  CHECK(confusion.mpa() == doctest::Approx(0.5));
  CHECK(confusion.fwiou() == doctest::Approx(0.4 / 3 + 0.8 / 3));
}

TEST_CASE("a class that is predicted alone is in one mean only, and an ignored class in none") {
  Confusion confusion(3, -1);
  confusion.add({0, 0, 0, 0}, {0, 0, 0, 2}, "map");
  CHECK(confusion.miou() == doctest::Approx(0.75 / 2));
  CHECK(confusion.miou_in_truth() == 0.75);
  CHECK(confusion.classes_in_truth() == 1);
  Confusion ignoring(2, 0);
  ignoring.add({0, 1, 1, 1}, {1, 1, 0, 1}, "map");
  CHECK(std::isnan(ignoring.iou(0)));
  CHECK(ignoring.classes_counted() == 1);
  CHECK(ignoring.miou() == doctest::Approx(2.0 / 3));
  CHECK(ignoring.miou() == ignoring.miou_in_truth());
}

TEST_CASE("nothing counted is no number") {
  const Confusion confusion(2, -1);
  CHECK(std::isnan(confusion.miou()));
  CHECK(std::isnan(confusion.miou_in_truth()));
  CHECK(std::isnan(confusion.pa()));
  CHECK(std::isnan(confusion.fwiou()));
}

TEST_CASE("a number that is no class is refused, unless it is ignored") {
  Confusion confusion(2, 0);
  confusion.add({0, 1}, {1, 1}, "map");
  CHECK(confusion.total() == 1);
  CHECK_THROWS_AS(confusion.add({2}, {0}, "map"), deeplab::Error);
}
