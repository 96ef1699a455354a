"""What the doctor found, as lines for the console, ``doctor.json`` and a page with examples to look at."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from common.facts import versions
from common.page import Block, Facts, Figure, Section, Table, Text, Tiles
from deeplabv3p import files, visualize
from deeplabv3p.colors import on_screen
from deeplabv3p.data.classes import default_colors
from deeplabv3p.data.decode import read_image, read_label
from deeplabv3p.data.doctor import KINDS, Diagnosis, Example, Finding, Repairs
from deeplabv3p.data.doctor.findings import Box
from deeplabv3p.data.doctor.inventory import shown
from deeplabv3p.data.doctor.record import raw_label
from deeplabv3p.data.doctor.titles import title
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo

if TYPE_CHECKING:
    from deeplabv3p.data.doctor.labels import Meaning

DOCTOR_JSON = "doctor.json"

_WIDTH = 110  # columns of the console
_FEW, _SHOWN = 10, 3  # files of a finding on the console: all of a few, else the first
_LISTED = 200  # files of a finding on the page
_HEIGHT = 220  # pixels of an example
_CROP = 24  # pixels around the spot of an example
_SAMPLES = "samples"
_ACTIONS = 20  # of a repair, on the console

Pixels = npt.NDArray[np.uint8]


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """What was looked at, each finding with its count, explanation and first files, and the verdict."""
    lines = [f"{name}: {value}" for name, value in _looked_at(diagnosis)]
    if diagnosis.findings:
        lines += ["", f"{'':8} {'finding':18} {'count':>7} {'fixable':>8}"]
    for item in diagnosis.findings:
        count = f"{item.count:,}" if item.count else "-"
        fixable = f"{item.fixable:,}" if item.fixable else "-"
        lines.append(f"{item.severity:8} {item.kind:18} {count:>7} {fixable:>8}")
        lines += _wrapped(item.message) + _wrapped(item.explanation)
        shown_files = item.count if item.count <= _FEW else _SHOWN
        if not _told(item.files[:shown_files], item.message):
            more = f" and {item.count - shown_files:,} more" if item.count > shown_files else ""
            lines += _wrapped(f"{', '.join(item.files[:shown_files])}{more}")
    return "\n".join([*lines, "", _verdict(diagnosis)])


def repairs_text(repairs: Repairs) -> str:
    """What a repair did, the first lines of it."""
    lines = [f"{shown(action.file)}: {action.what}" for action in repairs.actions]
    more = [f"… and {len(lines) - _ACTIONS:,} more in repairs.json"] if len(lines) > _ACTIONS else []
    done = f"written: {repairs.root}, {repairs.samples:,} samples, {len(lines):,} repairs"
    return "\n".join([*lines[:_ACTIONS], *more, done])


def write_diagnosis(folder: str | os.PathLike[str], diagnosis: Diagnosis) -> Path:
    """Write ``doctor.json``: what was looked at and every finding with all its files. Returns its path.

    Raises:
        DataError: the folder cannot be written.
    """
    content: dict[str, Any] = {
        "dataset": shown(os.fspath(diagnosis.inventory.root)),
        "healthy": diagnosis.healthy,
        "summary": diagnosis.summary,
        "looked_at": dict(_looked_at(diagnosis)),
        "seconds": round(diagnosis.seconds, 3),
        "findings": [_json(item) for item in diagnosis.findings],
        "versions": versions(),
    }
    path = Path(folder) / DOCTOR_JSON
    files.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def diagnosis_sections(diagnosis: Diagnosis) -> list[Section]:
    """The verdict, what was looked at, and a section for each finding with pictures of a few of its files."""
    tiles = [(f"{len(diagnosis.of(severity))}", f"{severity}s") for severity in ("error", "warning", "note")]
    tiles.append((f"{len(diagnosis.records):,}", "samples looked at"))
    table = Table(
        ("finding", "severity", "count", "fixable", f"in {DOCTOR_JSON}"),
        tuple(
            (title(item.kind), item.severity, f"{item.count:,}", f"{item.fixable:,}", item.kind)
            for item in diagnosis.findings
        ),
    )
    said = _means(diagnosis)
    blocks: list[Block] = [Tiles(tuple(tiles)), Text(f"{said[0].upper()}{said[1:]}")]
    facts = Facts(tuple((name, value) for name, value in _looked_at(diagnosis) if name != _SAMPLES))  # a tile says it
    overview = Section("Verdict", (*blocks, *([table] if diagnosis.findings else []), facts))
    return [overview, *(_section(item, diagnosis) for item in diagnosis.findings)]


def _verdict(diagnosis: Diagnosis) -> str:
    return f"{diagnosis.summary}: {_means(diagnosis)}"


def _means(diagnosis: Diagnosis) -> str:
    if diagnosis.healthy:
        return "nothing that keeps a training from learning what is meant."
    return "a training would stop, or learn something else than is meant."


def _looked_at(diagnosis: Diagnosis) -> tuple[tuple[str, str], ...]:
    inventory, meaning = diagnosis.inventory, diagnosis.meaning
    layout = f"{inventory.layout[0]}/ and {inventory.layout[1]}/" if inventory.layout else "lists of pairs"
    lists = ", ".join(f"{item.name} ({len(item.members):,})" for item in inventory.lists) or "none: every pair"
    classes = "none" if diagnosis.classes_file is None else f"{meaning.count} from {diagnosis.classes_file}"
    ignored = "nothing" if meaning.ignore_index is None else str(meaning.ignore_index)
    return (
        ("dataset", shown(os.fspath(inventory.root))),
        ("layout", layout),
        ("lists", lists),
        ("classes", classes),
        ("ignored", ignored),
        (_SAMPLES, f"{len(diagnosis.records):,} looked at in {diagnosis.seconds:.1f} s"),
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9, break_on_hyphens=False, break_long_words=False
    )


def _json(item: Finding) -> dict[str, Any]:
    content = {key: value for key, value in dataclasses.asdict(item).items() if key != "examples"}
    return content | {"count": item.count, "explanation": item.explanation, "repair": KINDS[item.kind].repair}


def _section(item: Finding, diagnosis: Diagnosis) -> Section:
    blocks: list[Block] = [Text(item.message), Text(item.explanation)]
    remedy = KINDS[item.kind].repair
    if remedy is not None:
        blocks.append(Text(f"--fix: {remedy}{f' ({item.fixable:,} of {item.count:,})' if item.fixable else ''}."))
    blocks += [figure for example in item.examples if (figure := _figure(example, diagnosis))]
    told = " ".join([item.message, *(block.caption for block in blocks if isinstance(block, Figure))])
    if not _told(item.files[:_LISTED], told):
        more = f" and {item.count - _LISTED:,} more in {DOCTOR_JSON}" if item.count > _LISTED else ""
        blocks.append(Text(f"{', '.join(item.files[:_LISTED])}{more}"))
    words = title(item.kind)
    return Section(f"{item.severity.capitalize()}: {words[0].lower()}{words[1:]}", tuple(blocks))


def _told(names: Sequence[str], text: str) -> bool:
    """Whether a text has all the names, each as a whole."""
    return all(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in names)


def _figure(example: Example, diagnosis: Diagnosis) -> Figure | None:
    """The files of an example in a row, and what lies around its spot, enlarged. None where a file went away."""
    panels: list[Pixels] = []
    titles: list[str] = []  # what it is; its name stands in the caption
    try:
        for path in example.pictures:
            panels.append(read_image(path, diagnosis.picture_max))
            titles.append("picture")
        for path in example.labels:
            panels.append(_colored(path, diagnosis.meaning))
            titles.append("label map")
    except DataError:
        return None
    if not panels:
        return None
    caption = ", ".join(shown(f"{path.parent.name}/{path.name}") for path in (*example.pictures, *example.labels))
    if example.box:
        caption += f", at row {example.box[0]}, column {example.box[1]}"
        panels += [_around(panel, example.box) for panel in panels]
        titles += ["enlarged"] * len(titles)
    shown_panels = [_fitted(panel) for panel in panels]
    sheet = visualize.side_by_side(shown_panels, titles, _HEIGHT)
    return Figure(visualize.encode_jpeg(sheet), caption)


def _colored(path: Path, meaning: Meaning) -> Pixels:
    """A label map to look at: class colours, and those of VOC for numbers that are no class."""
    if meaning.class_list is not None:
        with contextlib.suppress(DataError):  # what training cannot read is shown as it is
            label = read_label(path, meaning.class_list, meaning.ignore_index, meaning.reading)
            return visualize.shown(label, meaning.class_list.classes)
    raw, _ = raw_label(path)
    if raw.ndim == 3:
        return np.asarray(raw, np.uint8)
    known: Sequence[ClassInfo] = on_screen(meaning.class_list.classes) if meaning.class_list else ()
    rest = default_colors(255)[len(known) :]
    classes = (*known, *(ClassInfo("", color) for color in rest))
    return visualize.colorize(np.minimum(raw, 255).astype(np.uint8), classes)


def _around(panel: Pixels, box: Box) -> Pixels:
    top, left, bottom, right = box
    part = panel[max(0, top - _CROP) : bottom + _CROP, max(0, left - _CROP) : right + _CROP]
    scale = max(1, round(_HEIGHT / max(part.shape[0], 1)))
    return np.asarray(cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST), np.uint8)


def _fitted(panel: Pixels) -> Pixels:
    """No wider than three times its height, and small: a strip of 1 x 10,000 pixels is no page."""
    height, width = panel.shape[:2]
    scale = min(1.0, 2 * _HEIGHT / height, 3 * _HEIGHT / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale), round(width * scale / 3)))
    return np.asarray(cv2.resize(panel, size, interpolation=cv2.INTER_NEAREST), np.uint8)
