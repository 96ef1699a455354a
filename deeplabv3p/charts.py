"""Scores as charts, PNG files. Matplotlib is imported when one is drawn, and without pyplot, so that they work in any
thread and leave no global state."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabv3p import files, fonts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]

ACCENT, SECOND, INK, FAINT = "#2563eb", "#ea580c", "#1f2937", "#9ca3af"
_GROUPS = (ACCENT, SECOND, "#16a34a", "#9333ea", "#db2777", "#0891b2", "#a16207")
_SCREEN_DPI = 110


def confusion_chart(path: Path, confusion: npt.NDArray[np.int64], names: Sequence[str]) -> None:
    """Draw a confusion matrix, int [K, K] with true classes as rows, to a PNG; each row as shares of its true pixels.

    Raises:
        DataError: the file cannot be written.
    """
    count = len(names)
    totals = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, totals, out=np.full(confusion.shape, np.nan), where=totals > 0)
    side = min(4.0 + 0.42 * count, 16.0)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, label="share of the true pixels").outline.set_visible(
        False
    )
    every = max(1, count // 40)
    ticks = range(0, count, every)
    labels = class_names(names)
    axes.set_xticks(ticks, [labels[i] for i in ticks], rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, [labels[i] for i in ticks])
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
                color = "white" if share > 0.55 else INK
                axes.text(
                    float(column), float(row), f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=color
                )
        axes.set_title("Confusion, % of each true class", loc="left")
    save_figure(figure, path)


def iou_chart(
    path: Path, names: Sequence[str], iou: Sequence[float] | npt.NDArray[np.float64], ignored: int | None = None
) -> None:
    """Draw the IoU (0 to 1) of every class as bars, best first, to a PNG; undefined ones (nan) come last. ``ignored``
    is the class that is not scored, None where all are.

    Raises:
        DataError: the file cannot be written.
    """
    values = np.asarray(iou, np.float64)
    order = np.argsort(-np.nan_to_num(values, nan=-1.0), kind="stable")
    figure = new_figure(7.5, min(1.3 + 0.28 * len(names), 40.0))
    axes = figure.add_subplot()
    rows = np.arange(len(names))
    axes.barh(rows, np.nan_to_num(values[order]), color=ACCENT, height=0.68)
    boxed = {"facecolor": "white", "lw": 0, "pad": 0.5}
    for row, label in enumerate(order.tolist()):
        value = float(values[label])
        absent = "ignored" if label == ignored else "absent"
        text, end = (absent, 0.0) if math.isnan(value) else (f"{value:.3f}", value)
        axes.text(end + 0.008, row, text, va="center", fontsize=9, color=INK, bbox=boxed)
    if not np.isnan(values).all():
        mean = float(np.nanmean(values))
        axes.axvline(mean, color=SECOND, linewidth=1.2, linestyle="--", zorder=0)
        axes.set_title(f"IoU by class (dashed: mean {mean:.3f})", loc="left")
    labels = class_names(names)
    axes.set_yticks(rows, [labels[i] for i in order])
    axes.set_xlim(0, 1.09)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    plain_axes(axes, grid="x")
    save_figure(figure, path)


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

    figure = new_figure(11, 3.3)
    for place, (title, curves) in enumerate(_CURVES, 1):
        axes = figure.add_subplot(1, len(_CURVES), place)
        for (key, name), color in zip(curves.items(), (ACCENT, SECOND), strict=False):
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
        plain_axes(axes, grid="both")
    save_figure(figure, path)


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
    figure = new_figure(10.5, max(4.6, 1.2 + 0.19 * (len(points) + 8)))
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
        axes.step(*best, where="post", color=FAINT, linewidth=1.2, linestyle="--", zorder=1)
    for index, point in enumerate(points):
        axes.scatter(
            [point.latency_ms],
            [point.miou],
            s=60 + 700 * point.size_bytes / largest,
            facecolors=colors[point.group] if point.sound else "none",
            edgecolors=INK if index in front else colors[point.group],
            linewidths=1.6,
            linestyles="solid" if point.sound else "dotted",
            alpha=0.75,
            zorder=2,
        )
        axes.annotate(
            str(index + 1), (point.latency_ms, point.miou), fontsize=8, ha="center", va="center", color=INK, zorder=3
        )
    rows = [
        f"{index + 1:2}  {short_name(point.label)}: {point.latency_ms:.3g} ms, {point.miou:.4f}, "
        f"{point.size_bytes / 2**20:.3g} MiB{'' if point.sound else ' (failed)'}"
        for index, point in enumerate(points)
    ]
    axes.text(1.02, 1, "\n".join(rows), transform=axes.transAxes, va="top", fontsize=8, color=INK)
    for group, color in colors.items():
        axes.scatter([], [], color=color, label=short_name(group))
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
    plain_axes(axes, grid="both")
    axes.tick_params(which="both", length=0, labelsize=9, pad=4)
    save_figure(figure, path)


def new_figure(width: float, height: float) -> Figure:
    """An empty chart of that size in inches, drawn by Agg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_SCREEN_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain_axes(axes: Any, grid: str) -> None:
    """No frame but the line below, and faint lines along ``grid`` (x, y or both)."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(length=0, labelsize=9)
    axes.grid(axis=grid, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a chart as PNG, atomically; raises DataError where it cannot be written."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if text.get_text()]
    families = fonts.families(text.get_text() for text in texts)
    for text in texts if len(families) > 1 else ():
        text.set_fontfamily(families)
    with files.atomic_path(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that no font of this machine has become boxes
        figure.savefig(temporary, format="png")


def class_names(names: Sequence[str]) -> list[str]:
    """The names of classes as charts write them: short, and ``class`` with its number where no font has the letters."""
    nameless = unwritable(names)
    return [f"class {label}" if label in nameless else short_name(name) for label, name in enumerate(names)]


def unwritable(names: Sequence[str]) -> set[int]:
    """The classes whose names have letters that no font of this machine has."""
    return {label for label, name in enumerate(names) if not fonts.can_write(name)}


def short_name(name: str) -> str:
    """A name that fits beside an axis, and that Matplotlib does not take for a formula."""
    name = name if len(name) <= 24 else name[:23] + "…"
    return name.replace("$", r"\$")
