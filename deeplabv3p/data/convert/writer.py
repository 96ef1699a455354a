"""Records → a dataset of the project's own layout: every file whole, the same bytes each time, resumed after a kill.

The folder gets ``images/``, ``labels/``, ``<split>.txt``, ``classes.txt`` and, last, ``dataset.json``. While it is not
complete, ``dataset.json`` says so, and ``.converted`` has a line for each picture that is done.

Pictures and label maps are written beside and renamed, but not flushed to disk one by one as :mod:`deeplabv3p.files`
does: that takes longer than the conversion. A kill loses nothing by that. After a power cut files may be empty; so what
a resumed conversion finds done is read again.
"""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p import files
from deeplabv3p.data.classes import VOID_COLOR, ClassList, save_classes
from deeplabv3p.data.convert.foreign import Content, Foreign, Pixels, Record, Skipped
from deeplabv3p.data.convert.maps import EXIF_ORIENTATION
from deeplabv3p.data.convert.state import (
    CLASSES,
    JOURNAL,
    Conversion,
    from_state,
    journal_line,
    read_journal,
    read_state,
    write_state,
)
from deeplabv3p.data.convert.tally import Drawn, Outcome, Tally, count_labels, judge, require_something
from deeplabv3p.data.convert.twice import without_doubles
from deeplabv3p.data.decode import read_image, read_label
from deeplabv3p.data.kinds import IMAGE_SUFFIXES
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.progress import Progress, silent
from deeplabv3p.spec import ClassInfo

_PART = ".part-"
_SPLIT = r"[A-Za-z0-9_-]+"
_TURNS: dict[int, Callable[[Pixels], Pixels]] = {
    5: lambda label: label.T,
    6: lambda label: np.rot90(label, -1),
    7: lambda label: np.rot90(label, 2).T,
    8: np.rot90,
}
"""What EXIF's orientations with swapped sides do to the stored picture."""


def write_dataset(
    foreign: Foreign,
    root: Path,
    *,
    format_name: str,
    key: str,
    link: bool = False,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Conversion:
    """Write the records to ``root``. See :func:`deeplabv3p.data.convert.run.convert` for what the arguments mean.

    Raises:
        DataError: nothing can be converted, nothing but background would be, or the disk cannot be written.
    """
    if not foreign.records:
        reason = f" {foreign.skipped[0].file}: {foreign.skipped[0].reason}" if foreign.skipped else ""
        raise DataError(f"no picture with annotations was found.{reason}")
    require_something(foreign.tally, foreign.drawable)
    records, twice, several = without_doubles(foreign.records)
    before = read_state(root)
    going_on = before is not None and before["key"] == key and not before["complete"] and not overwrite
    job = _Job(root, ClassList(foreign.classes, explicit_colors=True), link)
    names = _file_names(records)
    try:
        save_classes(root / CLASSES, foreign.classes)  # first: it refuses names that cannot be stored
        for folder in (root / "images", root / "labels"):
            folder.mkdir(exist_ok=True)
            for left in folder.glob(f"{_PART}*"):  # by a kill
                left.unlink()
        state: dict[str, Any] = {"format": format_name, "key": key, "complete": False}
        state["splits"] = before["splits"] if before else {}
        write_state(root, state)
        stale = [f"{old}.txt" for old in state["splits"] if re.fullmatch(_SPLIT, old)]
        for path in (*stale, *foreign.lists):  # lists of an earlier conversion; this one may not get to its own
            (root / path).unlink(missing_ok=True)
        if not going_on:
            (root / JOURNAL).unlink(missing_ok=True)
        done = read_journal(root)
        outcome, splits, left_out, resumed = _run(job, records, names, done, progress)
    except OSError as error:
        raise DataError(
            f"cannot write to {root}: {error.strerror or error}. Free some space or choose another folder; the same "
            "command goes on from here."
        ) from None
    skipped = [*foreign.skipped, *left_out]
    if not splits:
        first = (left_out or skipped)[0]
        raise DataError(f"no picture could be converted. {first.file}: {first.reason}")
    outcome.tally.add(foreign.tally)
    outcome.left_out = len(skipped)
    counted, warnings = judge(outcome, foreign.classes)
    for split, listed in splits.items():
        files.write_text(root / f"{split}.txt", "".join(f"{name}\n" for name in listed))
    for path, parts in foreign.lists.items():
        held = [name for split in parts for name in splits.get(split, [])]
        if held:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            files.write_text(root / path, "".join(f"{name}\n" for name in held))
    notes = [*foreign.notes, *twice, *counted]
    if link and job.copied:
        notes.append(f"{job.copied} pictures could not be linked (from an archive, or another disk) and are copies")
    state |= {
        "complete": True,
        "splits": {split: len(listed) for split, listed in splits.items()},
        "lists": [path for path in foreign.lists if (root / path).is_file()],
        "classes": [
            {"name": item.name, "color": list(item.color), "pixels": int(pixels), "pictures": int(pictures)}
            for item, pixels, pictures in zip(foreign.classes, outcome.pixels, outcome.pictures, strict=False)
        ],
        "ignored_pixels": int(outcome.pixels[IGNORE]),
        "notes": notes,
        "warnings": [*several, *warnings],
        "annotations": outcome.tally.as_json(),
        "skipped": [asdict(item) for item in skipped],
    }
    write_state(root, state)
    (root / JOURNAL).unlink(missing_ok=True)
    return from_state(root, state, reused=False, resumed=resumed)


def write_label(path: Path, label: Pixels, classes: Sequence[ClassInfo]) -> None:
    """Write a label map as an 8-bit palette PNG whose numbers are the labels, IGNORE as 255; beside, then renamed."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(classes)] = [item.color for item in classes]
    palette[IGNORE] = VOID_COLOR
    picture = Image.fromarray(label)
    picture.putpalette(palette.tobytes())
    with _beside(path) as temporary:
        picture.save(temporary, format="PNG")


def check_label(label: Pixels, count: int, where: str) -> None:
    """Raise DataError where a label map holds a number that is neither a class nor IGNORE."""
    wrong = (label >= count) & (label != IGNORE)
    if wrong.any():
        raise DataError(f"{where} holds the label {int(label[wrong].max())}, but the classes are 0 to {count - 1}.")


# One picture


@dataclass
class _Job:
    root: Path
    class_list: ClassList
    link: bool
    copied: int = 0

    def convert(self, record: Record, name: str) -> tuple[npt.NDArray[np.int64], Tally]:
        """Write a picture and its label map; returns the pixels of each label, int64 [256], and its annotations."""
        image_path = self.root / "images" / f"{name}{record.suffix}"
        with _beside(image_path) as temporary:
            if not self._put(record.image, temporary):
                self.copied += self.link
            try:
                image = read_image(temporary)
            except DataError as error:  # which names a file that the user does not know
                raise DataError(str(error).replace(str(temporary), record.image.where)) from None
            size = (image.shape[0], image.shape[1])
            drawn = record.label(size)
            made, tally = drawn if isinstance(drawn, Drawn) else (drawn, Tally())
            label = _turned(made, size, temporary, record.image.where)
            check_label(label, len(self.class_list.classes), record.image.where)
            write_label(self.label_path(name), label, self.class_list.classes)
        return count_labels(label), tally

    def check(self, record: Record, name: str) -> npt.NDArray[np.int64] | None:
        """The pixels of each label of a picture that is done; None if it is not there after all."""
        try:
            image = read_image(self.root / "images" / f"{name}{record.suffix}")
            label = read_label(self.label_path(name), self.class_list, IGNORE)
        except DataError:
            return None
        return count_labels(label) if label.shape == image.shape[:2] else None

    def label_path(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"

    def _put(self, content: Content, target: Path) -> bool:
        """Whether the picture was linked rather than copied."""
        target.unlink(missing_ok=True)
        if self.link and content.path is not None:
            with contextlib.suppress(OSError):  # another disk, or one without links
                os.link(content.path.resolve(), target)
                return True
        target.write_bytes(content.read())
        return False


def _turned(label: Pixels, size: tuple[int, int], image: Path, where: str) -> Pixels:
    """The label map in the picture's size, turned with it if it fits the picture as it is stored."""
    if label.shape == size:
        return label
    with Image.open(image) as picture:
        orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    if orientation in _TURNS and label.shape == size[::-1]:
        return np.ascontiguousarray(_TURNS[orientation](label))
    raise DataError(
        f"{where} is {size[0]}x{size[1]} and its label map {label.shape[0]}x{label.shape[1]} (height x width)."
    )


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside ``path`` that gets its name when the block ends well, and is removed when it does not."""
    temporary = path.with_name(f"{_PART}{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# All pictures


_Counts = tuple[npt.NDArray[np.int64], Tally]


def _run(
    job: _Job, records: Sequence[Record], names: Sequence[str], done: dict[str, Tally], progress: Progress
) -> tuple[Outcome, dict[str, list[str]], list[Skipped], int]:
    """Convert all; returns what it came to, the names of each split, what was left out, and how many were ``done``."""
    outcome, skipped, resumed = Outcome(), list[Skipped](), 0
    splits: dict[str, list[str]] = {}

    def work(index: int) -> tuple[_Counts | DataError, bool]:
        record, name = records[index], names[index]
        if name in done and (counts := job.check(record, name)) is not None:
            return (counts, done[name]), True
        try:
            return job.convert(record, name), False
        except DataError as error:
            return error, False

    cv2_threads = cv2.getNumThreads()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        cv2.setNumThreads(1)  # one picture a thread
        with (job.root / JOURNAL).open("a", encoding="utf-8") as journal:
            for index, (result, old) in enumerate(pool.map(work, range(len(records)))):
                record, name = records[index], names[index]
                if isinstance(result, DataError):
                    skipped.append(Skipped(record.image.where, str(result)))
                else:
                    outcome.add_counts(result[0], job.class_list.classes, result[1])
                    splits.setdefault(record.split, []).append(name)
                    resumed += old
                    if not old:
                        journal.write(journal_line(name, result[1]))
                        journal.flush()
                progress(index + 1, len(records), {"skipped": len(skipped)} if skipped else None)
    finally:
        pool.shutdown(cancel_futures=True)
        cv2.setNumThreads(cv2_threads)
    return outcome, splits, skipped, resumed


def _file_names(records: Sequence[Record]) -> list[str]:
    """A file name without suffix for each record: no two the same, upper and lower case being equal, none hidden."""
    names, used = [], set()
    for record in records:
        text = unicodedata.normalize("NFC", record.name)
        base = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|]+', "_", text).strip().lstrip(".")
        base = base.encode("utf-8", "replace")[:200].decode("utf-8", "ignore").strip() or "picture"
        name, number = base, 1
        while name.casefold() in used:
            number += 1
            name = f"{base}_{number}"
        used.add(name.casefold())
        names.append(name)
        if record.suffix.lower() not in IMAGE_SUFFIXES or not re.fullmatch(_SPLIT, record.split):
            raise ValueError(f"{record.image.where}: suffix {record.suffix}, split {record.split}")  # a reader's bug
    return names
