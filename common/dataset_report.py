"""What a dataset holds as files: ``stats.json``, ``classes.csv``, ``together.csv``, charts, and ``report.html``."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from common.page import Facts, Figure, Section, Table, Text, Tiles
from common.report import unwritten
from deeplabv3p import charts, files
from deeplabv3p.colors import on_screen
from deeplabv3p.csv_text import to_csv
from deeplabv3p.data.stats import ClassStatistics, DatasetStatistics
from deeplabv3p.spec import ClassInfo

STATS_JSON, CLASSES_CSV, TOGETHER_CSV = "stats.json", "classes.csv", "together.csv"
SHARES_PNG, PIECES_PNG, TOGETHER_PNG = "class_shares.png", "piece_sizes.png", "together.png"

_SHARES = (0.1, 0.5, 0.9)
_FOLDER = str | os.PathLike[str]


def statistics_table(found: DatasetStatistics) -> str:
    """The classes as lines of text. Shares are percent: of the labelled pixels, and of the pictures."""
    width = max(len("class"), *(len(item.info.name) for item in found.classes))
    lines = [f"{'class':{width}}  pixels %  pictures %   pieces  half in, px     weight"]
    for item in found.classes:
        cells = _row(item, found)
        share, held = _number(cells["pixel_share"], 3, 100), _number(cells["picture_share"], 1, 100)
        side = _number(cells["piece_side_p50"], 0)
        lines.append(
            f"{item.info.name:{width}}  {share:>8}  {held:>10}  {cells['pieces']:7,}  {side:>8} px  {item.weight:9.3f}"
        )
    absent = [item.info.name for item in found.classes if not item.pixels]
    lines.append(
        f"{found.pictures:,} pictures of {sizes_text(found)}; {_ignored_text(found)} of all pixels are ignored"
    )
    if absent:
        lines.append(f"without a single pixel: {', '.join(absent)}")
    return "\n".join(lines)


def sizes_text(found: DatasetStatistics, most: int = 3) -> str:
    """The sizes of the pictures in words: ``360x480``, or the most frequent ones."""
    named = [f"{height}x{width}" for (height, width), _ in found.sizes]
    if len(named) == 1:
        return named[0]
    counted = [f"{name} ({number:,})" for name, (_, number) in zip(named, found.sizes, strict=True)]
    more = f" and {len(named) - most:,} more" if len(named) > most else ""
    sides = [side for size, _ in found.sizes for side in size]
    return f"{len(named):,} sizes, sides {min(sides):,} to {max(sides):,} px: {', '.join(counted[:most])}{more}"


def write_statistics(folder: _FOLDER, found: DatasetStatistics) -> Path:
    """Write ``stats.json``, one class a row ``classes.csv``, and ``together.csv``; returns the path of the JSON.

    Shares are fractions, sides are pixels; what is undefined (the size of the pieces of a class that has none) is null,
    and an empty cell in the CSV.

    Raises:
        DataError: the folder cannot be written.
    """
    rows = [_row(item, found) for item in found.classes]
    names = [item.info.name for item in found.classes]
    content = {
        "dataset": found.source,
        "pictures": found.pictures,
        "pixels": found.pixels,
        "ignored_pixels": found.ignored_pixels,
        "sizes": [{"height": size[0], "width": size[1], "pictures": number} for size, number in found.sizes],
        "classes": rows,
        "together": found.together.tolist(),
    }
    files.write_text(Path(folder) / CLASSES_CSV, to_csv(list(rows[0]), rows))
    together = [[name, *row] for name, row in zip(names, found.together.tolist(), strict=True)]
    files.write_text(Path(folder) / TOGETHER_CSV, to_csv(["class", *names], together))
    path = Path(folder) / STATS_JSON
    files.write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def statistics_sections(folder: _FOLDER, found: DatasetStatistics) -> list[Section]:
    """Headline, classes, sizes and what occurs together. Writes the three charts.

    Raises:
        DataError: the folder cannot be written.
    """
    _shares_chart(Path(folder) / SHARES_PNG, found)
    _pieces_chart(Path(folder) / PIECES_PNG, found)
    _together_chart(Path(folder) / TOGETHER_PNG, found)
    held = sum(item.pixels > 0 for item in found.classes)
    headline = (
        (f"{found.pictures:,}", "pictures"),
        (f"{held} of {len(found.classes)}", "classes that occur"),
        (f"{found.labelled_pixels / 1e6:,.1f} M", "labelled pixels"),
        (_ignored_text(found), "of all pixels ignored"),
    )
    header = ("class", "pixels", "share", "pictures", "pieces", "side, px: 10 %", "50 %", "90 %", "balanced weight")
    rows: list[tuple[str | ClassInfo, ...]] = []
    for item, info in zip(found.classes, on_screen([item.info for item in found.classes]), strict=True):
        cells = _row(item, found)
        sides = (_number(item.piece_side(share), 0) for share in _SHARES)
        shares = (f"{item.pixels:,}", f"{_number(cells['pixel_share'], 3, 100)} %")
        pictures = f"{item.pictures:,} ({_number(cells['picture_share'], 1, 100)} %)"
        rows.append((info, *shares, pictures, f"{len(item.piece_areas):,}", *sides, f"{item.weight:.4g}"))
    pieces_note = (
        "A piece is a connected part of a class; its side is that of a square as large. 10, 50 and 90 % of a class's "
        "pixels lie in pieces up to the sides given. A network tells little of pieces smaller than its output stride."
    )
    return [
        Section("Dataset", (Tiles(headline), Facts((("List", found.source), ("Sizes", sizes_text(found, 12)))))),
        Section(
            "Classes",
            (
                Table(header, tuple(rows)),
                _chart(folder, SHARES_PNG, "Shares and balanced weights"),
                *unwritten([item.info.name for item in found.classes]),
            ),
        ),
        Section(
            "Sizes",
            (
                Text(pieces_note),
                _chart(folder, PIECES_PNG, "Pieces of each class: 10 to 90 % of its pixels, and the half"),
            ),
        ),
        Section("Together", (_chart(folder, TOGETHER_PNG, "Of the pictures with a row's class, % with a column's"),)),
    ]


def _row(item: ClassStatistics, found: DatasetStatistics) -> dict[str, Any]:
    """The figures of a class; None where undefined."""
    sides = [item.piece_side(share) for share in _SHARES]
    p10, p50, p90 = (None if math.isnan(side) else round(side, 2) for side in sides)
    return {
        "name": item.info.name,
        "pixels": item.pixels,
        "pixel_share": item.pixels / found.labelled_pixels if found.labelled_pixels else None,
        "pictures": item.pictures,
        "picture_share": item.pictures / found.pictures,
        "pieces": len(item.piece_areas),
        "piece_side_p10": p10,
        "piece_side_p50": p50,
        "piece_side_p90": p90,
        "balanced_weight": item.weight,
    }


def _ignored_text(found: DatasetStatistics) -> str:
    return f"{100 * found.ignored_pixels / found.pixels:.2f} %"


def _number(value: float | None, digits: int, factor: float = 1) -> str:
    return "–" if value is None or math.isnan(value) else f"{factor * value:,.{digits}f}"


def _chart(folder: _FOLDER, name: str, caption: str) -> Figure:
    return Figure((Path(folder) / name).read_bytes(), caption)


def _shares_chart(path: Path, found: DatasetStatistics) -> None:
    """Bars: each class's share of the pixels, of the pictures, and its weight."""
    cells = [_row(item, found) for item in found.classes]
    panels = (
        ("% of the labelled pixels", [100 * (row["pixel_share"] or 0) for row in cells], charts.ACCENT),
        ("% of the pictures", [100 * row["picture_share"] for row in cells], charts.SECOND),
        ("balanced weight", [row["balanced_weight"] for row in cells], charts.FAINT),
    )
    figure = charts.new_figure(11, _height(found))
    rows = np.arange(len(cells))
    first = None
    for place, (title, values, color) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place, sharey=first)
        axes.barh(rows, values, color=color, height=0.68)
        for row, value in enumerate(values):
            axes.text(value, row, f" {value:.3g}", va="center", fontsize=8, color=charts.INK)
        axes.set_title(title, loc="left")
        axes.margins(x=0.2, y=0.01)
        charts.plain_axes(axes, grid="x")
        axes.set_xticks([])
        if first is None:
            first = axes
            axes.set_yticks(rows, charts.class_names([row["name"] for row in cells]))
            axes.invert_yaxis()
        else:
            axes.tick_params(labelleft=False)
    charts.save_figure(figure, path)


def _pieces_chart(path: Path, found: DatasetStatistics) -> None:
    """Lines from the side of the pieces that hold 10 % of the pixels to that of 90 %, a dot at the half."""
    figure = charts.new_figure(7.5, _height(found))
    axes = figure.add_subplot()
    rows = np.arange(len(found.classes))
    for row, item in enumerate(found.classes):
        if item.piece_areas.size:
            low, half, high = (item.piece_side(share) for share in _SHARES)
            axes.plot([low, high], [row, row], color=charts.FAINT, linewidth=4, solid_capstyle="round")
            axes.plot([half], [row], color=charts.ACCENT, marker="o", markersize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("side of a square as large, pixels")
    axes.set_yticks(rows, charts.class_names([item.info.name for item in found.classes]))
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_title("Sizes of the connected pieces", loc="left")
    charts.plain_axes(axes, grid="x")
    charts.save_figure(figure, path)


def _together_chart(path: Path, found: DatasetStatistics) -> None:
    """A heat map: of the pictures with the row's class, the share that holds the column's, too."""
    count = len(found.classes)
    own = np.diag(found.together)[:, None]
    shares = np.divide(found.together, own, out=np.full((count, count), np.nan), where=own > 0)
    side = min(3.5 + 0.42 * count, 16.0)
    figure = charts.new_figure(side + 1, side)
    axes = figure.add_subplot()
    drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.04, pad=0.02, label="share of the row's pictures")
    bar.outline.set_visible(False)
    every = max(1, count // 40)
    ticks = range(0, count, every)
    every_name = charts.class_names([item.info.name for item in found.classes])
    names = [every_name[label] for label in ticks]
    axes.set_xticks(ticks, names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(ticks, names)
    axes.tick_params(length=0, labelsize=9 if count <= 25 else 7)
    axes.spines[:].set_visible(False)
    if count <= 25:
        for (row, column), share in np.ndenumerate(shares):
            if not math.isnan(share):
                color = "white" if share > 0.55 else charts.INK
                text = f"{100 * share:.0f}"
                axes.text(float(column), float(row), text, ha="center", va="center", fontsize=8, color=color)
    axes.set_title("Classes in the same picture", loc="left")
    charts.save_figure(figure, path)


def _height(found: DatasetStatistics) -> float:
    return min(1.3 + 0.28 * len(found.classes), 40.0)
