"""What a converted dataset knows of itself: ``dataset.json``, and while it is being made the list of what is done."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deeplabv3p import documents, files
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.convert.foreign import Skipped
from deeplabv3p.data.convert.tally import Tally
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

STATE, JOURNAL, CLASSES = "dataset.json", ".converted", "classes.txt"
SCRATCH = ".unpacked"


@dataclass(frozen=True)
class Conversion:
    """A dataset that was written, or was there.

    Attributes:
        root: its folder.
        classes: the classes in label order.
        splits: the number of pictures of each list ``<split>.txt``, in the order of the source.
        pixels: of each class, over all pictures; ``ignored_pixels`` are those that count nowhere.
        pictures: with each class.
        skipped: files that were left out.
        notes: what else there is to say; ``warnings``: what may spoil a training.
        reused: nothing was done, because the dataset was there.
        resumed: pictures that a conversion that was cut off had already done.
    """

    root: Path
    classes: tuple[ClassInfo, ...]
    splits: dict[str, int]
    pixels: tuple[int, ...]
    ignored_pixels: int
    pictures: tuple[int, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    reused: bool = False
    resumed: int = 0


def find_conversion(root: Path, key: str, overwrite: bool) -> Conversion | None:
    """The complete conversion with this key that ``root`` already holds; None if it has to be made or finished.

    Raises:
        DataError: ``root`` is a file, or holds something else and ``overwrite`` is off, or something that is no
            conversion at all.
    """
    if root.exists() and not root.is_dir():
        raise DataError(f"{root} is a file. Choose a folder for the dataset.")
    state = read_state(root)
    if state is None:
        inside = [path for path in root.iterdir() if path.name != SCRATCH] if root.is_dir() else []
        if inside:
            raise DataError(f"{root} is not empty and holds no conversion. Choose another folder, or empty it.")
        return None
    if state["key"] != key:
        if not overwrite:
            raise DataError(
                f"{root} holds a conversion of other files, or with other options ({state['format']}). Choose another "
                "folder, or add --overwrite to convert again into this one."
            )
        return None
    if not state["complete"] or overwrite:
        return None
    return from_state(root, state) if _is_whole(root, state) else None


def read_state(root: Path) -> dict[str, Any] | None:
    """The content of ``dataset.json``; None where there is none that this module wrote."""
    try:
        state = documents.read_json(root / STATE)
    except DataError:
        return None
    keys = {"format": str, "key": str, "complete": bool, "splits": dict}
    good = isinstance(state, dict) and all(isinstance(state.get(key), kind) for key, kind in keys.items())
    return state if good else None


def write_state(root: Path, state: dict[str, Any]) -> None:
    """Write ``dataset.json`` atomically."""
    text = json.dumps(state, indent=1, ensure_ascii=False) + "\n"
    files.write_text(root / STATE, text.encode("utf-8", "replace").decode("utf-8"))  # names of others may be no text


def read_journal(root: Path) -> dict[str, Tally]:
    """The pictures that a conversion that was cut off had done, by name, with their annotations."""
    try:
        text = (root / JOURNAL).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    done: dict[str, Tally] = {}
    for line in text.split("\n")[:-1]:  # a last line without its end was cut off
        name, _, counts = line.partition("\t")
        with contextlib.suppress(ValueError, DataError):
            done[name] = Tally.from_json(documents.parse_json(counts, JOURNAL))
    return done


def journal_line(name: str, tally: Tally) -> str:
    """The line of a picture that is done."""
    return f"{name}\t{json.dumps(tally.as_json(), ensure_ascii=False)}\n"


def _is_whole(root: Path, state: dict[str, Any]) -> bool:
    """Whether every listed file is there."""
    try:
        class_list = load_classes(root / CLASSES)
        return all((root / path).is_file() for path in state.get("lists", [])) and all(
            len(open_dataset(root, root / f"{split}.txt", class_list, IGNORE)) == count
            for split, count in state["splits"].items()
        )
    except DataError:
        return False


def from_state(root: Path, state: dict[str, Any], *, reused: bool = True, resumed: int = 0) -> Conversion:
    """What a complete ``dataset.json`` tells."""
    classes = state["classes"]
    return Conversion(
        root,
        tuple(ClassInfo(item["name"], (item["color"][0], item["color"][1], item["color"][2])) for item in classes),
        dict(state["splits"]),
        tuple(item["pixels"] for item in classes),
        state["ignored_pixels"],
        tuple(item["pictures"] for item in classes),
        tuple(Skipped(item["file"], item["reason"]) for item in state["skipped"]),
        tuple(state["notes"]),
        tuple(state.get("warnings", ())),
        reused,
        resumed,
    )
