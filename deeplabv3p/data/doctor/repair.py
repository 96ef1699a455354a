"""A repaired copy of a dataset: what can be put right without guessing is, the rest is left out, and all of it is told.

The dataset itself is only read.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p import files
from deeplabv3p.data.classes import VOID_COLOR, default_colors
from deeplabv3p.data.decode import read_label
from deeplabv3p.data.doctor.diagnose import Diagnosis
from deeplabv3p.data.doctor.findings import plural
from deeplabv3p.data.doctor.inventory import CLASSES_NAME, Pair, shown
from deeplabv3p.data.doctor.labels import Meaning, is_fixable
from deeplabv3p.data.doctor.record import Record, centres_of, raw_label, snap
from deeplabv3p.data.doctor.samples import can_rename, fits_unturned, is_seen, right_suffix, sizes_differ
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.progress import Progress, silent

REPAIRS_NAME = "repairs.json"

_FOLDERS = ("images", "labels")  # of a dataset that had lists of pairs
_TURNED = {  # what EXIF's orientations ask for
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WORDS = {
    "jpeg_label": "JPEG label map: each pixel got the class of the nearest colour, uncertain ones are ignored",
    "smeared_label": "smeared label map: each pixel got the class of the nearest colour, uncertain ones are ignored",
    "label_format": "label map stored as PNG, numbers as they were",
    "mask_0_255": "255 became 1",
    "grey_steps": "greys became class numbers",
    "grey_as_rgb": "one of three equal channels kept",
    "rgb_read": "class colours became class numbers",
}


@dataclass(frozen=True)
class Action:
    """Something that was done: to which file, name or list, and what."""

    file: str
    what: str


@dataclass(frozen=True)
class Repairs:
    """The new dataset, how many samples it has, and all that was done to get there."""

    root: Path
    samples: int
    actions: tuple[Action, ...]


def repair(diagnosis: Diagnosis, output: str | os.PathLike[str], *, progress: Progress = silent) -> Repairs:
    """Write a repaired copy of a dataset into a new folder, with what was done in ``repairs.json``.

    It has the layout of the original (lists of pairs become ``images/`` and ``labels/``), its lists with the names that
    are left, and its class list as ``classes.txt``. Numbers keep their meaning: the class list and the ignored number
    stay. Samples whose errors cannot be put right are left out, and so are files that nothing used. The folder appears
    when it is whole.

    Raises:
        UsageError: ``output`` lies in the dataset, or around it.
        DataError: ``output`` exists and is not empty, cannot be written, or more than half of the samples would have to
            be left out.
    """
    source, target = diagnosis.inventory.root, Path(os.path.abspath(output))  # noqa: PTH100 - links stay
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UsageError(f"the repaired copy cannot be written to {output}: that folder and the dataset overlap.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{output} already exists. The repaired copy needs a new folder.")
    work = _Work(diagnosis)
    work.refuse_ruins()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
        try:
            work.write(temporary, progress)
            temporary.chmod(target.parent.stat().st_mode & 0o777)
            temporary.replace(target)  # an empty folder gives way
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(f"cannot write {output}: {error.strerror or error}. Choose another folder.") from None
    return Repairs(target, len(work.names), tuple(work.actions))


class _Work:
    """Decides on each sample, then writes."""

    def __init__(self, diagnosis: Diagnosis) -> None:
        self._diagnosis = diagnosis
        self._inventory, self._meaning = diagnosis.inventory, diagnosis.meaning
        self.actions: list[Action] = []
        self.names: dict[int, str] = {}  # the new name of each pair that stays
        taken: set[str] = set()
        self._records = {record.index: record for record in diagnosis.records}
        for index, record in self._records.items():
            pair = self._inventory.pairs[index]
            reason = self._reason_to_leave(pair, record)
            if reason is None:
                self.names[index] = _new_name(pair.name, taken)
                if self.names[index] != pair.name and self._inventory.layout:
                    self._did(pair.image, f"renamed to {self.names[index]}")
            else:
                self._did(pair.image, f"sample left out: {reason}")
        for index in self._inventory.listed:
            pair = self._inventory.pairs[index]
            if index not in self._records:
                what = "picture" if pair.image is None else "label map"
                self._did(pair.image or pair.label, f"sample left out: it has no {what}")

    def refuse_ruins(self) -> None:
        """Raise DataError where too little would be left to call it a repair."""
        total = len(self._records)
        if len(self.names) * 2 < total or not total:
            worst = self._diagnosis.findings[0].message if self._diagnosis.findings else "there are no samples."
            raise DataError(
                f"{total - len(self.names):,} of {plural(total, 'sample')} cannot be repaired without guessing, "
                f"so nothing was written. First of all: {worst}"
            )

    def write(self, folder: Path, progress: Progress) -> None:
        """Write everything into an empty folder."""
        image_folder, label_folder = (folder / name for name in self._inventory.layout or _FOLDERS)
        image_folder.mkdir()
        label_folder.mkdir()
        for done, (index, name) in enumerate(self.names.items(), 1):
            pair, record = self._inventory.pairs[index], self._records[index]
            assert pair.image is not None
            assert pair.label is not None
            suffix = right_suffix(pair.image)
            if suffix is not None:
                self._did(pair.image, f"suffix {suffix}, as its content")
            shutil.copyfile(pair.image, image_folder / f"{name}{suffix or pair.image.suffix}")
            self._write_label(pair.label, record, label_folder / f"{name}.png")
            progress(done, len(self.names))
        self._write_lists(folder)
        if self._diagnosis.classes_file is not None:
            shutil.copyfile(self._diagnosis.classes_file, folder / CLASSES_NAME)
        elif "mask_0_255" in self._diagnosis.label_kinds.values():
            files.write_text(folder / CLASSES_NAME, "background\nobject\n")
            self._did(self._inventory.root / CLASSES_NAME, "written for two classes: give them the names that you want")
        done_text = json.dumps([asdict(action) for action in self.actions], indent=1, ensure_ascii=False)
        files.write_text(folder / REPAIRS_NAME, done_text + "\n")

    def _reason_to_leave(self, pair: Pair, record: Record) -> str | None:
        """Why a sample cannot be part of the copy; the first of these that holds."""
        kind = self._diagnosis.label_kinds.get(record.index)
        unseen = pair.image and self._inventory.layout and not (is_seen(pair.image) or can_rename(pair.image))
        lost = kind is not None and not is_fixable(kind, record, self._meaning)
        reasons = (
            (record.huge, "it is too large"),
            (record.picture_error or record.label_error, record.picture_error or record.label_error),
            (pair.others, "several files answer to its name"),
            (sizes_differ(record), "picture and label map differ in size"),
            (unseen, "training does not look for pictures of its format"),
            (lost, f"its label map cannot be put right without guessing ({kind})"),
        )
        return next((text for holds, text in reasons if holds), None)

    def _write_label(self, source: Path, record: Record, target: Path) -> None:
        assert record.label is not None
        kind = self._diagnosis.label_kinds.get(record.index)
        if kind is None and record.label.stored == "colors" and is_fixable("rgb_read", record, self._meaning):
            kind = "rgb_read"
        turned = fits_unturned(record)
        if kind is None and not turned:
            shutil.copyfile(source, target)
            if source.suffix.lower() != ".png":
                self._did(source, "suffix .png, as its content")
            return
        label = _converted(source, kind, self._meaning)
        if kind is not None:
            self._did(source, _WORDS[kind])
        if turned:
            assert record.picture is not None
            self._did(source, f"turned as EXIF turns the picture (orientation {record.picture.orientation})")
        _save(target, label, self._meaning, record.picture.orientation if turned and record.picture else 1)

    def _write_lists(self, folder: Path) -> None:
        used: set[str] = set()
        for item in self._inventory.lists:
            kept = [self.names[index] for index in item.members if index in self.names]
            if not kept:
                self._did(item.path, "list left out: no name of it is left")
                continue
            root = self._inventory.root
            inside = item.path.relative_to(root) if item.path.is_relative_to(root) else Path(item.path.name)
            while os.fspath(inside) in used:
                inside = inside.with_stem(f"{inside.stem}_2")
            used.add(os.fspath(inside))
            files.write_text(folder / inside, "".join(f"{name}\n" for name in kept))
            gone = len(item.members) - len(kept)
            for count, what in (
                (len(item.unknown), "unknown"),
                (len(item.repeated), "repeated"),
                (len(item.respelled), "misspelled"),
                (gone, "left-out"),
            ):
                if count:
                    verb = "corrected" if what == "misspelled" else "removed"
                    self._did(item.path, f"{plural(count, f'{what} name')} {verb}")

    def _did(self, path: Path | None, what: str) -> None:
        self.actions.append(Action(self._inventory.relative(path) if path else "", what))


def _new_name(name: str, taken: set[str]) -> str:
    """A name that every system and list can hold: no folders, composed accents, and unique without regard to case."""
    text = unicodedata.normalize("NFC", shown(name.replace("/", "_")).replace("\\", "_")).strip() or "picture"
    candidate, number = text, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{text}_{number}"
    taken.add(candidate.casefold())
    return candidate


def _converted(path: Path, kind: str | None, meaning: Meaning) -> npt.NDArray[np.generic]:
    """The numbers that a label map should have held."""
    if kind == "rgb_read":
        assert meaning.class_list is not None
        label = read_label(path, meaning.class_list, meaning.ignore_index, meaning.reading)
        return _with_ignored(label, label == IGNORE, meaning)
    raw, _ = raw_label(path)
    if kind in ("jpeg_label", "smeared_label"):
        centres = centres_of(raw, meaning.class_list, meaning.ignore_index)
        assert centres is not None
        label, unsure = snap(raw, centres)
        return _with_ignored(label, unsure | (label == meaning.count), meaning)  # behind the classes: void
    numbers = raw if raw.ndim == 2 else raw[..., 0]
    if kind == "grey_steps":
        table = np.arange(256, dtype=np.uint8)
        table[[grey for grey, _ in meaning.steps]] = [label for _, label in meaning.steps]
        return np.asarray(table[numbers], np.uint8)
    return np.where(numbers == 255, 1, numbers).astype(np.uint8) if kind == "mask_0_255" else numbers


def _with_ignored(
    label: npt.NDArray[np.uint8], ignored: npt.NDArray[np.bool_], meaning: Meaning
) -> npt.NDArray[np.uint8]:
    """The file's own number where a pixel counts for nothing."""
    if meaning.ignore_index is None:
        return label
    return np.where(ignored, np.uint8(meaning.ignore_index), label)


def _save(path: Path, label: npt.NDArray[np.generic], meaning: Meaning, orientation: int) -> None:
    """Write numbers as a PNG: 8 bits with a palette of the class colours, or 16 bits."""
    picture = Image.fromarray(np.ascontiguousarray(label))
    if orientation in _TURNED:
        picture = picture.transpose(_TURNED[orientation])
    if label.dtype == np.uint8:
        classes: Sequence[tuple[int, int, int]] = default_colors(256)
        table = np.array(classes, np.uint8)
        if meaning.class_list is not None:
            table[: len(meaning.class_list.classes)] = [item.color for item in meaning.class_list.classes]
        if meaning.ignore_index is not None and meaning.ignore_index < 256:
            table[meaning.ignore_index] = VOID_COLOR
        picture.putpalette(table.tobytes())
    picture.save(path, format="PNG")
