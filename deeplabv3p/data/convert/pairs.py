"""Pictures and label maps in two folders, by equal names."""

from __future__ import annotations

from pathlib import PurePosixPath

from deeplabv3p.data.convert.foreign import Foreign, Skipped, is_picture
from deeplabv3p.data.convert.tree import File, Tree


def find_pairs(
    tree: Tree, images: str, labels: str, suffixes: tuple[str, ...], foreign: Foreign
) -> list[tuple[str, File, File]]:
    """(name, picture, label map) of all pictures in folders called ``images`` that have a label map in one called
    ``labels`` in the same place: ``images/train/a.jpg`` and ``labels/train/a.png``, or ``train/images/a.jpg`` and
    ``train/labels/a.png``. The label map's name is the picture's with one of ``suffixes`` behind it. The folders may be
    the same. What has no partner is told in ``foreign.skipped``."""
    masks: dict[tuple[str, str], File] = {}
    pictures: dict[tuple[str, str], File] = {}
    for file in tree.files.values():
        if (key := _key(file, labels)) is not None and file.suffix.lower() != ".txt":
            masks.setdefault(key, file)
        if (key := _key(file, images)) is not None and is_picture(file.name):
            pictures.setdefault(key, file)
    pairs, used = [], set()
    for (folder, stem), picture in pictures.items():
        found = [
            key for suffix in suffixes if (key := (folder, f"{stem}{suffix}")) in masks and masks[key] is not picture
        ]
        if found:
            pairs.append((stem, picture, masks[found[0]]))
            used.add(masks[found[0]].name)
        elif images != labels or not any(stem.endswith(suffix) for suffix in suffixes if suffix):
            foreign.skipped.append(Skipped(picture.where, "its label map is missing"))
    if images != labels:
        foreign.skipped += [
            Skipped(mask.where, "its picture is missing") for mask in masks.values() if mask.name not in used
        ]
    return pairs


def _key(file: File, folder: str) -> tuple[str, str] | None:
    """The path without the last part called ``folder``, and the name without suffix."""
    parts = PurePosixPath(file.name).parent.parts
    if folder not in parts:
        return None
    at = len(parts) - 1 - parts[::-1].index(folder)
    return "/".join((*parts[:at], *parts[at + 1 :])), file.stem
