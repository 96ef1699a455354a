"""Which class list a command uses: one rule for all of them, said on the console.

``--classes_path``, else the dataset's own file, else the model's classes where there is a model, else VOC's for a
dataset of VOC's layout, else an error that says how to write one.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from deeplabv3p.data.classes import CLASS_FILES, ClassList, load_classes, own_class_file
from deeplabv3p.data.dataset import VOC_LAYOUT, find_layout
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import ClassInfo

VOC_CLASSES = Path(__file__).resolve().parents[1] / "configs" / "voc_classes.txt"


def resolve(classes_path: str | os.PathLike[str] | None, dataset_path: str | os.PathLike[str] | None) -> str | None:
    """The class file by the rule, as far as files say it; None: neither a flag nor the dataset names one."""
    if classes_path is not None:
        return os.fspath(classes_path)
    own = None if dataset_path is None else own_class_file(Path(dataset_path))
    return None if own is None else os.fspath(own)


def without_model(classes_path: str | os.PathLike[str] | None, dataset_path: str | os.PathLike[str]) -> str:
    """The class file for a command that has no model, which may be VOC's.

    Raises:
        UsageError: there is none; the message says how to get one.
        DataError: there is no such dataset.
    """
    found = resolve(classes_path, dataset_path)
    if found is not None:
        return found
    root = Path(dataset_path)
    if not root.is_dir():
        raise DataError(f"the dataset folder {root} does not exist.")
    if find_layout(root) == VOC_LAYOUT:
        return os.fspath(VOC_CLASSES)
    raise UsageError(
        f"nothing says the classes: {root} has no {CLASS_FILES[0]}. Write {root / CLASS_FILES[0]}, one class name a "
        "line, label 0 first ('name R G B' where label maps are in colours), or name a class list with --classes_path."
    )


def with_own(options: argparse.Namespace) -> argparse.Namespace:
    """The options of a command with a model; ``classes_path`` is the dataset's own file where it was left out."""
    path = resolve(options.classes_path, options.dataset_path)
    return argparse.Namespace(**(vars(options) | {"classes_path": path}))


def described(
    classes: Sequence[ClassInfo] | ClassList,
    classes_path: str | os.PathLike[str] | None,
    dataset_path: str | os.PathLike[str],
) -> str:
    """``classes: 11 of data/classes.txt``, and whether the dataset's own file says otherwise."""
    count = len(classes.classes if isinstance(classes, ClassList) else classes)
    if classes_path is None:
        return f"classes: {count} of the model"
    text = f"classes: {count} of {os.fspath(classes_path)}"
    if Path(classes_path) == VOC_CLASSES:
        text += " (the dataset has VOC's layout and no list of its own)"
    own = own_class_file(Path(dataset_path))
    if own is None or own.resolve() == Path(classes_path).resolve():
        return text
    names = [item.name for item in load_classes(classes_path).classes]
    try:
        others = [item.name for item in load_classes(own).classes]
    except DataError:  # it is not the list in use
        return text
    return text if names == others else f"{text}; not those of {own}, which names {len(others)} others"
