"""Label maps and scores as pictures: colours, overlays, legends, comparisons, palette PNGs and charts.

Pictures are uint8 [H, W, 3] RGB, label maps uint8 [H, W] with 0 to K - 1 and IGNORE. Matplotlib is imported by the
charts only, and without pyplot, so that they work in any thread and leave no global state.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p import files
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]
Path = str | os.PathLike[str]

IGNORE_COLOR = (224, 224, 192)
"""The colour of ignored pixels, as in PASCAL VOC."""

_WRONG = (229, 57, 53)
_ACCENT, _SECOND, _INK, _FAINT = "#2563eb", "#ea580c", "#1f2937", "#9ca3af"
_GROUPS = (_ACCENT, _SECOND, "#16a34a", "#9333ea", "#db2777", "#0891b2", "#a16207")
_TEXT, _HERSHEY = (31, 41, 55), 1 / 33  # scale of Hershey's letters for a pixel of size
_SCREEN_DPI = 110


def palette(classes: Sequence[ClassInfo]) -> Pixels:
    """The colour of every label value, uint8 [256, 3] RGB: classes, black where there is none, IGNORE_COLOR."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = [item.color for item in classes]
    table[IGNORE] = IGNORE_COLOR
    return table


def colorize(label: Pixels, classes: Sequence[ClassInfo]) -> Pixels:
    """The label map in its classes' colours, uint8 [H, W, 3] RGB."""
    return _look_up(label, palette(classes))


def overlay(image: Pixels, label: Pixels, classes: Sequence[ClassInfo], alpha: float = 0.5) -> Pixels:
    """The picture tinted with the classes' colours, which make up ``alpha`` (0 to 1) of the result.

    Ignored pixels and classes whose colour is black, such as a background, keep the picture as it is.
    """
    colors = palette(classes)
    keep = np.where(colors.any(axis=1), 0, 255).astype(np.uint8)
    keep[IGNORE] = 255
    result = cv2.addWeighted(image, 1 - alpha, _look_up(label, colors), alpha, 0)
    return np.asarray(cv2.copyTo(image, cv2.LUT(label, keep), result), np.uint8)


def legend(classes: Sequence[ClassInfo], present: Collection[int] | None = None) -> Pixels:
    """A picture that names the colours, in label order; ``present`` limits it to those labels."""
    shown = [item for index, item in enumerate(classes) if present is None or index in present]
    row, pad = 26, 10
    columns = max(1, -(-len(shown) // 24))
    lines = -(-len(shown) // columns)
    width = 40 + max((_text_width(item.name, 15) for item in shown), default=0)
    picture = np.full((2 * pad + max(lines, 1) * row, 2 * pad + columns * width, 3), 255, np.uint8)
    for place, item in enumerate(shown):
        left, top = pad + place // lines * width, pad + place % lines * row
        cv2.rectangle(picture, (left, top + 4), (left + 22, top + 21), item.color, cv2.FILLED)
        cv2.rectangle(picture, (left, top + 4), (left + 22, top + 21), (120, 120, 120), 1)
        write_text(picture, item.name, (left + 30, top + 18), 15)
    return picture


def error_map(image: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """Where the prediction is wrong: red on a faded grey picture; ignored pixels in IGNORE_COLOR."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    result = cv2.cvtColor(cv2.addWeighted(grey, 0.45, np.full_like(grey, 255), 0.4, 0), cv2.COLOR_GRAY2RGB)
    result[truth == IGNORE] = IGNORE_COLOR
    result[(truth != IGNORE) & (truth != prediction)] = _WRONG
    return np.asarray(result, np.uint8)


def side_by_side(images: Sequence[Pixels], titles: Sequence[str] | None = None, height: int | None = None) -> Pixels:
    """Pictures in a row, each under its title, scaled to ``height`` pixels (none: that of the tallest)."""
    height = height or max(image.shape[0] for image in images)
    gap, bar = 6, 22 if titles else 0
    columns: list[Pixels] = []
    for index, image in enumerate(images):
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        left = gap if index else 0
        column = np.full((bar + height, left + width, 3), 255, np.uint8)
        rule = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
        column[bar:, left:] = cv2.resize(image, (width, height), interpolation=rule)
        if titles:
            write_text(column, titles[index], (left + 1, 16), 14)
        columns.append(column)
    return np.concatenate(columns, axis=1)


def comparison(
    image: Pixels, truth: Pixels, prediction: Pixels, classes: Sequence[ClassInfo], height: int | None = None
) -> Pixels:
    """The picture, truth and prediction laid over it, and the errors, side by side with titles; ``height`` as in
    :func:`side_by_side`."""
    panels = [image, overlay(image, truth, classes, 0.65), overlay(image, prediction, classes, 0.65)]
    panels.append(error_map(image, truth, prediction))
    return side_by_side(panels, ["picture", "truth", "prediction", "errors"], height)


def save_label_png(path: Path, label: Pixels, classes: Sequence[ClassInfo]) -> None:
    """Write a label map as an 8-bit palette PNG, atomically: its values are the labels, IGNORE is 255.

    Raises:
        DataError: the file cannot be written.
    """
    picture = Image.fromarray(label)
    picture.putpalette(palette(classes).tobytes())
    with files.atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def save_image(path: Path, image: Pixels) -> None:
    """Write a picture, atomically; the suffix chooses the format (.jpg with quality 92, otherwise .png).

    Raises:
        DataError: the file cannot be written.
    """
    jpeg = os.fspath(path).lower().endswith((".jpg", ".jpeg"))
    files.write_bytes(path, encode_jpeg(image, 92) if jpeg else _encode(".png", image, []))


def encode_jpeg(image: Pixels, quality: int = 88) -> bytes:
    """The picture as a JPEG file; ``quality`` from 0 to 100."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def confusion_chart(path: Path, confusion: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw a confusion matrix, int [K, K] with true classes as rows, to a PNG; each row as shares of its true pixels.

    Raises:
        DataError: the file cannot be written.
    """
    count = len(names)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    side = min(4.0 + 0.42 * count, 16.0)
    figure = _figure(side + 1, side)
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, label="share of the true pixels").outline.set_visible(
        False
    )
    every = max(1, count // 40)
    ticks = range(0, count, every)
    axes.set_xticks(ticks, [_short(names[i]) for i in ticks], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [_short(names[i]) for i in ticks])
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.tick_params(length=0, labelsize=9 if count <= 25 else 7)
    axes.spines[:].set_visible(False)
    if count <= 25:
        axes.set_xticks(np.arange(count - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(count - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1.5)
        axes.tick_params(which="minor", length=0)
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                color = "white" if share > 0.55 else _INK
                axes.text(
                    float(column), float(row), f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=color
                )
        axes.set_title("Confusion, % of each true class", loc="left")
    _save(figure, path)


def iou_chart(path: Path, names: Sequence[str], iou: Sequence[float] | npt.NDArray[np.float64]) -> None:
    """Draw the IoU (0 to 1) of every class as bars, best first, to a PNG; undefined ones (nan) come last.

    Raises:
        DataError: the file cannot be written.
    """
    values = np.asarray(iou, np.float64)
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    figure = _figure(7.5, min(1.3 + 0.28 * len(names), 40.0))
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    axes.barh(rows, np.nan_to_num(values[order]), color=_ACCENT, height=0.68)
    boxed = {"facecolor": "white", "lw": 0, "pad": 0.5}
    for row, value in enumerate(values[order].tolist()):
        text, end = ("absent", 0.0) if math.isnan(value) else (f"{value:.3f}", value)
        axes.text(end + 0.008, row, text, va="center", fontsize=9, color=_INK, bbox=boxed)
    if not np.isnan(values).all():
        mean = float(np.nanmean(values))
        axes.axvline(mean, color=_SECOND, linewidth=1.2, linestyle="--", zorder=0)
        axes.set_title(f"IoU by class (dashed: mean {mean:.3f})", loc="left")
    axes.set_yticks(rows, [_short(names[i]) for i in order])
    axes.set_xlim(0, 1.09)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    _plain_axes(axes, grid="x")
    _save(figure, path)


_CURVES = (
    ("loss", {"loss": "training"}),
    ("mIoU", {"train_miou": "training", "val_miou": "validation"}),
    ("learning rate", {"learning_rate": ""}),
)


def curves_chart(path: Path, rows: Sequence[Mapping[str, float | int | None]]) -> None:
    """Draw loss, mIoU and learning rate over the epochs to a PNG.

    ``rows`` are the rows of ``training.csv``: ``epoch``, ``loss``, ``train_miou``, ``val_miou``, ``learning_rate``.
    Values that are None are left out; other keys play no part.

    Raises:
        DataError: the file cannot be written.
    """
    from matplotlib.ticker import MaxNLocator

    figure = _figure(11, 3.3)
    for place, (title, curves) in enumerate(_CURVES, 1):
        axes = figure.add_subplot(1, len(_CURVES), place)
        for (key, name), color in zip(curves.items(), (_ACCENT, _SECOND), strict=False):
            points = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
            marker = 3 if len(points) < 40 else 0  # so that a single point shows
            if points:
                axes.plot(*zip(*points, strict=True), color=color, label=name, marker="o", markersize=marker)
        if len(curves) > 1 and axes.lines:
            axes.legend(frameon=False, fontsize=9)
        axes.set_title(title, loc="left")
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(bottom=0, top=1 if title == "mIoU" else None)
        _plain_axes(axes, grid="both")
    _save(figure, path)


@dataclass(frozen=True)
class TradeOff:
    """A model file in :func:`trade_off_chart`; points of one ``group`` share a colour. Those that are not ``sound`` are
    drawn hollow and are on no front."""

    label: str
    group: str
    latency_ms: float
    miou: float
    size_bytes: int
    sound: bool = True


def pareto_front(points: Sequence[TradeOff]) -> list[int]:
    """The sound points that no other sound one beats: none is as fast, as good and as small, and better in one of the
    three. Their indices, fastest first."""

    def costs(point: TradeOff) -> tuple[float, float, int]:
        return point.latency_ms, -point.miou, point.size_bytes

    sound = [index for index, point in enumerate(points) if point.sound]
    front = []
    for index in sound:
        own = costs(points[index])
        rivals = (costs(points[other]) for other in sound)
        if not any(rival != own and all(a <= b for a, b in zip(rival, own, strict=True)) for rival in rivals):
            front.append(index)
    return sorted(front, key=lambda index: costs(points[index]))


_LEAST_MIOU_RANGE = 0.02  # of the chart's axis


def trade_off_chart(path: Path, points: Sequence[TradeOff]) -> None:
    """Draw latency (to the left is better), mIoU (up is better) and size (the bubble's area) of model files to a PNG.

    Points that no other beats in all three (:func:`pareto_front`) have a dark ring. The line is the front of the two
    axes alone: the best mIoU that can be had in a time.

    Raises:
        DataError: the file cannot be written.
    """
    figure = _figure(10.5, max(4.6, 1.2 + 0.19 * (len(points) + 8)))
    axes = figure.add_subplot()
    colors = dict.fromkeys(point.group for point in points)
    for place, group in enumerate(colors):
        colors[group] = _GROUPS[place % len(_GROUPS)]
    largest = max((point.size_bytes for point in points), default=1)
    front = pareto_front(points)
    line: list[TradeOff] = []
    for index in front:
        if not line or points[index].miou > line[-1].miou:
            line.append(points[index])
    if line:
        best = ([point.latency_ms for point in line], [point.miou for point in line])
        axes.step(*best, where="post", color=_FAINT, linewidth=1.2, linestyle="--", zorder=1)
    for index, point in enumerate(points):
        axes.scatter(
            [point.latency_ms],
            [point.miou],
            s=60 + 700 * point.size_bytes / largest,
            facecolors=colors[point.group] if point.sound else "none",
            edgecolors=_INK if index in front else colors[point.group],
            linewidths=1.6,
            linestyles="solid" if point.sound else "dotted",
            alpha=0.75,
            zorder=2,
        )
        axes.annotate(
            str(index + 1), (point.latency_ms, point.miou), fontsize=8, ha="center", va="center", color=_INK, zorder=3
        )
    rows = [
        f"{index + 1:2}  {_short(point.label)}: {point.latency_ms:.3g} ms, {point.miou:.4f}, "
        f"{point.size_bytes / 2**20:.3g} MiB{'' if point.sound else ' (failed)'}"
        for index, point in enumerate(points)
    ]
    axes.text(1.02, 1, "\n".join(rows), transform=axes.transAxes, va="top", fontsize=8, color=_INK)
    for group, color in colors.items():
        axes.scatter([], [], color=color, label=_short(group))
    if points:
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(1.01, 0))
    times = [point.latency_ms for point in points]
    axes.margins(0.12)
    if times and max(times) > 5 * min(times):
        axes.set_xscale("log")
        for axis_format in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis_format(lambda value, _: f"{value:g}")
    low, high = axes.get_ylim()
    if high - low < _LEAST_MIOU_RANGE:  # or noise looks like a difference
        middle = (low + high) / 2
        axes.set_ylim(middle - _LEAST_MIOU_RANGE / 2, middle + _LEAST_MIOU_RANGE / 2)
    axes.set_xlabel("latency, ms (median)")
    axes.set_ylabel("mIoU")
    axes.set_title("Latency, mIoU and size (area); ringed: beaten by none", loc="left")
    _plain_axes(axes, grid="both")
    axes.tick_params(which="both", length=0, labelsize=9, pad=4)
    _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    """An empty chart of that size in inches, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_SCREEN_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _plain_axes(axes: Any, grid: str) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with files.atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # names in scripts that Matplotlib's font lacks become boxes
        figure.savefig(temporary, format="png")


def _short(name: str) -> str:
    """A name that fits beside an axis, and that Matplotlib does not take for a formula."""
    name = name if len(name) <= 24 else name[:23] + "…"
    return name.replace("$", r"\$")


def _look_up(label: Pixels, table: Pixels) -> Pixels:
    # Five times faster than table[label].
    return np.asarray(cv2.LUT(cv2.merge([label, label, label]), table[None]), np.uint8)


def _encode(suffix: str, image: Pixels, options: list[int]) -> bytes:
    return bytes(cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])


def write_text(picture: Pixels, text: str, left_baseline: tuple[int, int], size: int) -> None:
    """Write dark text of ``size`` pixels into a picture. OpenCV 4 has no fonts but Hershey's strokes."""
    if hasattr(cv2, "FontFace"):
        cv2.putText(picture, text, left_baseline, _TEXT, cv2.FontFace("sans"), size)
    else:
        cv2.putText(picture, text, left_baseline, cv2.FONT_HERSHEY_SIMPLEX, size * _HERSHEY, _TEXT, 1, cv2.LINE_AA)


def _text_width(text: str, size: int) -> int:
    if hasattr(cv2, "FontFace"):
        return int(cv2.getTextSize((4096, 64), text, (0, 32), cv2.FontFace("sans"), size)[2])
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size * _HERSHEY, 1)[0][0])
