"""Results as files: ``scores.json``, ``scores.csv``, charts, and one self-contained ``report.html``.

A command picks the sections it has something for::

    gallery = Gallery(dataset.classes)
    evaluation = evaluate(runtime, dataset, on_picture=gallery.add)
    write_scores(folder, evaluation)
    sections = [*evaluation_sections(folder, evaluation, gallery), curves_section(folder, rows), run_section()]
    write_report(folder, "Demo", sections)
"""

from __future__ import annotations

import datetime
import heapq
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

import deeplabv3p
from common.facts import processor, versions
from common.page import Facts, Figure, Legend, Section, Table, Text, Tiles, render
from deeplabv3p import charts, files, visualize
from deeplabv3p.colors import on_screen
from deeplabv3p.csv_text import to_csv
from deeplabv3p.data.dataset import Sample
from deeplabv3p.evaluation.score import Evaluation
from deeplabv3p.metrics import Scores
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

SCORES_JSON, SCORES_CSV, REPORT_HTML = "scores.json", "scores.csv", "report.html"
CONFUSION_PNG, IOU_PNG, CURVES_PNG = "confusion_matrix.png", "mIOU.png", "training_curves.png"

COUNTED = (
    "mIoU counts the classes in the truth or the prediction, as is usual; those in the truth alone are the same for "
    "every model, so compare by the mean over them"
)

_PANEL_HEIGHT = 300  # pixels of a picture in a comparison: sharp on a laptop, and a dozen of them stay under 3 MB

Pixels = npt.NDArray[np.uint8]


class Gallery:
    """Keeps comparisons of some pictures for the report: the worst ones, and the first ones of the list.

    Pass :meth:`add` to ``evaluate`` as ``on_picture``. The report shows ``limit`` of them; memory holds a small JPEG
    for one and a half times as many, whatever the number of pictures.
    """

    def __init__(self, classes: Sequence[ClassInfo], limit: int = 12) -> None:
        self.classes = classes
        self._limit, self._keep_first = limit, limit // 2
        self._worst: list[tuple[float, int, Figure]] = []  # a heap whose root is the best of the worst
        self._first: list[tuple[int, Figure]] = []
        self._seen = 0

    def add(self, sample: Sample, image: Pixels, truth: Pixels, prediction: Pixels) -> None:
        """Consider a picture: image uint8 [H, W, 3] RGB, truth and prediction uint8 [H, W]."""
        index, self._seen = self._seen, self._seen + 1
        scored = truth != IGNORE
        if not scored.any():
            return
        wrong = float(np.mean(truth[scored] != prediction[scored]))
        among_worst = len(self._worst) < self._limit or wrong > self._worst[0][0]
        if not (among_worst or len(self._first) < self._keep_first):
            return
        picture = visualize.comparison(image, truth, prediction, self.classes, _PANEL_HEIGHT)
        caption = f"{sample.name}: {100 * (1 - wrong):.1f} % of the pixels right"
        figure = Figure(visualize.encode_jpeg(picture), caption, wide=True)
        if len(self._first) < self._keep_first:
            self._first.append((index, figure))
        if among_worst:
            heapq.heappush(self._worst, (wrong, -index, figure))
            if len(self._worst) > self._limit:
                heapq.heappop(self._worst)

    def sections(self) -> list[Section]:
        """Up to two sections: the worst pictures, worst first, and the first pictures that are not among them."""
        first = dict(self._first)
        room = self._limit - len(first)
        worst = []
        for _, negative, figure in sorted(self._worst, key=lambda item: (-item[0], -item[1])):
            if first.pop(-negative, None) is None:
                room -= 1
            if room < 0:
                break
            worst.append(figure)
        groups = {"Worst pictures": worst, "First pictures of the list": list(first.values())}
        note = Text("Errors are red, ignored pixels light; classes whose colour is black are not tinted.")
        return [Section(title, (Legend(self.classes), note, *figures)) for title, figures in groups.items() if figures]


def write_scores(folder: str | os.PathLike[str], evaluation: Evaluation) -> Path:
    """Write ``scores.json`` and, one class a row, ``scores.csv`` into ``folder``; returns the path of the JSON.

    ``pa mpa miou miou_in_truth fwiou`` and the classes' ``iou accuracy`` are fractions; what is undefined (a class that
    is neither in the truth nor predicted, or ignored) is null, and an empty cell in the CSV. ``occurs`` says where a
    class occurs (see :func:`occurrence`), so which of the two means it is in. Rows of ``confusion_matrix`` are true
    classes.

    Raises:
        DataError: the folder cannot be written.
    """
    scores = evaluation.scores
    classes = [
        {
            "name": item.name,
            "iou": _finite(scores.iou[label]),
            "accuracy": _finite(scores.accuracy[label]),
            "pixels": int(scores.pixels[label]),
            "occurs": occurrence(scores, label),
        }
        for label, item in enumerate(evaluation.classes)
    ]
    content = {
        "pa": _finite(scores.pa),
        "mpa": _finite(scores.mpa),
        "miou": _finite(scores.miou),
        "miou_in_truth": _finite(scores.miou_in_truth),
        "fwiou": _finite(scores.fwiou),
        "classes": classes,
        "classes_counted": scores.classes_counted,
        "classes_in_truth": scores.classes_in_truth,
        "protocol": {
            "model": evaluation.protocol,
            "dataset": evaluation.dataset,
            "resolution": "each picture's own",
            "ignored_pixels": "left out",
            "miou": "mean over the classes with a non-empty union",
            "miou_in_truth": "mean over the classes that occur in the truth",
        },
        "pictures": evaluation.pictures,
        "scored_pixels": scores.total,
        "seconds": round(evaluation.seconds, 3),
        "confusion_matrix": scores.confusion.tolist(),
        "versions": versions(),
    }
    files.write_text(Path(folder) / SCORES_CSV, to_csv(list(classes[0]), classes))
    path = Path(folder) / SCORES_JSON
    files.write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def occurrence(scores: Scores, label: int) -> str:
    """Where a class occurs: ``truth`` (it is in both means), ``prediction`` only (in ``miou``, with IoU 0), ``nowhere``
    (in none), or ``ignored``: its number is the ignored one, and it is in none."""
    if label == scores.ignored:
        return "ignored"
    if scores.pixels[label]:
        return "truth"
    return "prediction" if label in scores.only_predicted else "nowhere"


def evaluation_sections(
    folder: str | os.PathLike[str], evaluation: Evaluation, gallery: Gallery | None = None
) -> list[Section]:
    """Headline, classes, charts and, with a gallery, pictures. Writes ``mIOU.png`` and ``confusion_matrix.png``.

    Raises:
        DataError: the folder cannot be written.
    """
    scores, names = evaluation.scores, [item.name for item in evaluation.classes]
    headline = (
        (_score(scores.miou), f"mIoU, {scores.classes_counted} of {len(names)} classes counted"),
        (_score(scores.miou_in_truth), f"mIoU of the {scores.classes_in_truth} classes in the truth"),
        (_score(scores.pa), "pixel accuracy"),
        (_score(scores.mpa), "mean class accuracy"),
        (_score(scores.fwiou), "frequency-weighted IoU"),
        (str(evaluation.pictures), "pictures"),
    )
    protocol = (
        ("Dataset", evaluation.dataset),
        ("Protocol", evaluation.protocol),
        ("Scored", f"{scores.total:,} pixels at each picture's own resolution, ignored ones left out"),
        ("Classes counted", COUNTED),
        ("Time", f"{evaluation.seconds:.1f} s, {evaluation.pictures / max(evaluation.seconds, 1e-9):.1f} pictures/s"),
    )
    rows = tuple(
        (
            item,
            "ignored" if label == scores.ignored else _score(scores.iou[label]),
            _score(scores.accuracy[label]),
            f"{scores.pixels[label]:,}",
            _percent(scores.pixels[label], scores.total),
        )
        for label, item in enumerate(on_screen(evaluation.classes))
    )
    charts.iou_chart(Path(folder) / IOU_PNG, names, scores.iou, scores.ignored)
    charts.confusion_chart(Path(folder) / CONFUSION_PNG, scores.confusion, names)
    sections = [
        Section("Scores", (Tiles(headline), Facts(protocol))),
        Section(
            "Classes",
            (
                Table(("class", "IoU", "accuracy", "true pixels", "share"), rows),
                _chart(folder, IOU_PNG, "IoU of each class, best first"),
                *unwritten(names),
            ),
        ),
        Section(
            "Confusion",
            (_chart(folder, CONFUSION_PNG, "Where the pixels of each true class (row) went, in percent of the row"),),
        ),
    ]
    return sections + (gallery.sections() if gallery else [])


def unwritten(names: Sequence[str]) -> list[Text]:
    """Which class is which where a chart has numbers for names, once for all charts of a page; nothing where it has all
    names. A browser has more fonts than this machine."""
    found = sorted(charts.unwritable(names))
    if not found:
        return []
    which = ", ".join(f"class {label} is {names[label]}" for label in found)
    return [Text(f"No font of this machine has the letters of some names, so charts have numbers: {which}.")]


def curves_section(folder: str | os.PathLike[str], rows: Sequence[Mapping[str, float | int | None]]) -> Section:
    """The training curves from the rows of ``training.csv``. Writes ``training_curves.png``.

    Raises:
        DataError: the folder cannot be written.
    """
    charts.curves_chart(Path(folder) / CURVES_PNG, rows)
    return Section("Training", (_chart(folder, CURVES_PNG, "Loss, mIoU and learning rate by epoch"),))


def run_section(facts: Sequence[tuple[str, str]] = ()) -> Section:
    """What ran where: ``facts`` of the caller, then the command, the versions, the machine and the time."""
    used = ", ".join(f"{name} {number}" for name, number in versions().items())
    own = (
        ("Command", shlex.join(["python", *sys.argv])),
        ("Versions", used),
        ("Machine", f"{processor()}, {os.cpu_count()} CPU threads, {platform.system()}"),
        ("Written", datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")),
    )
    return Section("Run", (Facts((*facts, *own)),))


def write_report(folder: str | os.PathLike[str], title: str, sections: Sequence[Section]) -> Path:
    """Write ``report.html`` into ``folder``: one file with its pictures inside. Returns its path.

    Raises:
        DataError: the folder cannot be written.
    """
    path = Path(folder) / REPORT_HTML
    files.write_text(path, render(title, sections, f"deeplabv3p {deeplabv3p.__version__}"))
    return path


def _chart(folder: str | os.PathLike[str], name: str, caption: str) -> Figure:
    return Figure((Path(folder) / name).read_bytes(), caption)


def _finite(value: float) -> float | None:
    """A JSON number; null where the score is undefined."""
    return None if math.isnan(value) else float(value)


def _score(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.2f} %" if whole else "–"
