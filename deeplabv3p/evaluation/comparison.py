"""How far one model's output lies from another's: errors of logits, agreement of labels, and what that costs in mIoU.

NumPy and OpenCV only, and nothing here knows of engines or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from deeplabv3p.metrics import confusion_matrix
from deeplabv3p.pixels import dequantize
from deeplabv3p.spec import ModelSpec, OutputSpec

BAND_PX = 5
"""Width of the band on either side of a class boundary."""

RESAMPLES, LEVEL = 1000, 0.95

# Resamples that are summed at once: with 10,000 pictures their weights take 8 MB.
_CHUNK = 100

Labels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


def float_output(output: npt.NDArray[np.generic], spec: OutputSpec) -> Values:
    """A model's output without its batch axis as float32 [h, w, K], (q − zero_point) · scale where it is quantized.

    The output must be scores: [h, w, K] or [K, h, w] by the layout.
    """
    values = dequantize(output, spec)
    return np.ascontiguousarray(values.transpose(1, 2, 0) if spec.layout == "NCHW" else values)


def same_geometry(spec: ModelSpec, other: ModelSpec) -> bool:
    """Whether the outputs of two models mean the same at the same place, so that they can be subtracted: scores of one
    kind on one grid, from a picture that lies in the same way on an input of the same size. Layout, colour order and
    number types may differ."""

    def place(item: ModelSpec) -> tuple[object, ...]:
        size, output = item.input, item.output
        return size.size_hw, size.max_side, size.resize, output.kind, output.stride, output.align_corners

    return place(spec) == place(other) and spec.output.kind != "labels"


def boundary_band(labels: Labels, distance: int = BAND_PX) -> npt.NDArray[np.bool_]:
    """The pixels with a pixel of another label within ``distance`` rows and columns (chessboard distance), bool [H, W].

    A pixel beside a boundary is at distance 1 of the other label.
    """
    window = np.ones((2 * distance + 1, 2 * distance + 1), np.uint8)
    # What lies outside the picture is no label: OpenCV's default border leaves it out of both.
    return np.asarray(cv2.dilate(labels, window) != cv2.erode(labels, window))


@dataclass(frozen=True)
class Share:
    """``part`` of ``whole`` pixels."""

    part: int
    whole: int

    @property
    def percent(self) -> float:
        """100 · part / whole; nan for nothing of nothing."""
        return 100 * self.part / self.whole if self.whole else float("nan")

    def __add__(self, other: Share) -> Share:
        return Share(self.part + other.part, self.whole + other.whole)


@dataclass(frozen=True)
class PictureAgreement:
    """One picture: pixels with the same label, all of them and those in the band around the reference's boundaries."""

    everywhere: Share
    band: Share


def agreement(reference: Labels, labels: Labels) -> PictureAgreement:
    """Compare two label maps, uint8 [H, W]; the band is that of ``reference``."""
    same = reference == labels
    band = boundary_band(reference)
    return PictureAgreement(
        Share(int(np.count_nonzero(same)), same.size),
        Share(int(np.count_nonzero(same & band)), int(np.count_nonzero(band))),
    )


@dataclass
class LogitError:
    """Absolute differences of float32 scores, picture after picture: ``maximum``, and ``total`` over ``count``."""

    maximum: float = 0.0
    total: float = 0.0
    count: int = 0
    pictures: int = 0

    def add(self, reference: Values, values: Values) -> None:
        """Take in one picture, both [h, w, K]. NaN and infinity in ``values`` make the maximum infinite."""
        difference = np.abs(values - reference)
        if not np.isfinite(difference).all():
            difference = np.where(np.isfinite(difference), difference, np.inf)
        self.maximum = max(self.maximum, float(difference.max()))
        self.total += float(difference.sum(dtype=np.float64))
        self.count += difference.size
        self.pictures += 1

    @property
    def mean(self) -> float:
        """Over all scores of all pictures; nan without any."""
        return self.total / self.count if self.count else float("nan")


def iou_parts(truth: Labels, prediction: Labels, num_classes: int, ignored: int | None = None) -> Counts:
    """What the IoU of one picture is made of, int64 [3, K]: pixels of each class in both, in the truth, and predicted.
    Ignored pixels of the truth count nowhere, and a class that is ``ignored`` has no IoU. Parts of pictures add up."""
    confusion = confusion_matrix(truth, prediction, num_classes)
    parts = np.stack([np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)])
    if ignored is not None:
        parts[:, ignored] = 0
    return parts


def class_iou(parts: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """IoU (fractions) of summed parts [..., 3, K]: [..., K], nan where the union is empty."""
    both = parts[..., 0, :].astype(np.float64)
    union = parts[..., 1, :] + parts[..., 2, :] - both
    return np.divide(both, union, out=np.full_like(both, np.nan), where=union > 0)


def in_truth(parts: npt.NDArray[np.int64] | npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """The classes that occur in the truth of summed parts [..., 3, K]: bool [..., K]. They do not depend on what was
    predicted, so two models are compared over them."""
    return np.asarray(parts[..., 1, :] > 0)


def miou(
    parts: npt.NDArray[np.int64] | npt.NDArray[np.float64], classes: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.float64]:
    """mIoU (a fraction) of summed parts [..., 3, K] over ``classes``, bool [K]; None: over those whose union is not
    empty. nan where none of them has an IoU. These are the rules of ``metrics.Scores``."""
    iou = class_iou(parts)
    counted = ~np.isnan(iou) if classes is None else ~np.isnan(iou) & classes
    total = np.where(counted, iou, 0).sum(axis=-1)
    count = counted.sum(axis=-1)
    return np.asarray(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))


@dataclass(frozen=True)
class Interval:
    """A bootstrap interval; nan where there are too few pictures for one."""

    low: float
    high: float


def bootstrap_difference(reference: Counts, other: Counts, seed: int = 0) -> Interval:
    """How much the difference of two mIoUs, other − reference, depends on which pictures were taken.

    The percentile bootstrap, paired (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3):
    ``RESAMPLES`` times N pictures are drawn with replacement, the same ones for both models; their parts are summed and
    the IoU of each class is taken anew. The interval holds the middle ``LEVEL`` of the mean differences.

    Every mean is over the classes in the truth of all N pictures, in every resample. Of a class that no drawn picture
    holds, a resample tells nothing: its difference stays that of all pictures. (Left out, the resamples would be means
    over different classes; as 0, a pixel that one model predicts of it would cost that model the whole class.)

    Args:
        reference: parts of every picture, int64 [N, 3, K], as :func:`iou_parts` gives them.
        other: the same of the other model, the same pictures in the same order.
        seed: of the draws; the same interval every time.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != other.shape:
        raise ValueError(f"parts of {reference.shape} and {other.shape}: shapes must be equal")
    pictures = len(reference)
    if pictures < 2:
        return Interval(float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    shape = reference.shape[1:]
    # Pixel counts are whole numbers far below 2^53: float64 sums them exactly, and through fast matrix products.
    flat = [parts.reshape(pictures, -1).astype(np.float64) for parts in (reference, other)]
    classes = in_truth(reference.sum(axis=0))
    if not classes.any():
        return Interval(float("nan"), float("nan"))
    whole = (class_iou(other.sum(axis=0)) - class_iou(reference.sum(axis=0)))[classes]
    differences = []
    for start in range(0, RESAMPLES, _CHUNK):
        times = rng.multinomial(pictures, np.full(pictures, 1 / pictures), size=min(_CHUNK, RESAMPLES - start))
        drawn = [(times @ parts).reshape(-1, *shape) for parts in flat]
        before, after = (class_iou(parts)[:, classes] for parts in drawn)
        there = in_truth(drawn[0])[:, classes]
        differences.append(np.where(there, after - before, whole).mean(axis=-1))
    found = np.concatenate(differences)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Interval(low, high)
