"""What lies in a dataset folder: pairs of picture and label map, and the lists that name them, whole or not."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deeplabv3p.data.classes import CLASS_FILES
from deeplabv3p.data.dataset import LAYOUTS_TEXT, find_layout, find_pair, name_key, read_list
from deeplabv3p.data.kinds import IMAGE_SUFFIXES, is_other_kind
from deeplabv3p.errors import DataError

CLASSES_NAME = "classes.txt"

_VOC_LISTS = Path("ImageSets", "Segmentation")
_SPLIT_WORDS = ("train", "val", "test")
_SIGNATURES = {  # of files that are pictures whatever they are called
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"GIF8": "GIF",
}


@dataclass(frozen=True)
class Pair:
    """The files that answer to one name. ``others``: more files of that name, so that nobody knows which is meant.
    ``found``: training, which looks at suffixes, finds both."""

    name: str
    image: Path | None
    label: Path | None
    others: tuple[Path, ...] = ()
    found: bool = True


@dataclass(frozen=True)
class SplitList:
    """A list file. ``members`` are indexes into the inventory's pairs, each once, in order; ``lines`` how each of them
    is written. ``unknown`` are lines that nothing answers to, ``respelled`` those that another spelling answers to,
    ``repeated`` those that come again. ``problem``: why the file cannot be read as a list at all."""

    path: Path
    name: str
    members: tuple[int, ...] = ()
    lines: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    respelled: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    problem: str | None = None
    empty: bool = False


@dataclass(frozen=True)
class Inventory:
    """A dataset as it lies there. ``layout`` is (pictures' folder, label maps' folder), or None for lists of pairs.
    ``unread`` are pictures in these folders of kinds that are not read."""

    root: Path
    layout: tuple[str, str] | None
    pairs: tuple[Pair, ...]
    lists: tuple[SplitList, ...]
    unread: tuple[Path, ...] = ()

    def relative(self, path: Path) -> str:
        """A path as it is shown: relative to the dataset where it lies in it, and printable whatever its bytes."""
        return shown(os.path.relpath(path, self.root) if path.is_relative_to(self.root) else os.fspath(path))

    @property
    def listed(self) -> tuple[int, ...]:
        """The pairs that training can meet: those of all lists, or all where there is none."""
        members = dict.fromkeys(index for item in self.lists for index in item.members)
        return tuple(members) if self.lists else tuple(range(len(self.pairs)))


def take_inventory(root: Path, lists: Sequence[Path] = (), classes_file: Path | None = None) -> Inventory:
    """Look at a dataset folder.

    Args:
        root: the folder.
        lists: the list files to look at, the first for training, as paths or relative to ``root``; empty: all text
            files of the folder that are lists.
        classes_file: a file that is no list.

    Raises:
        DataError: the folder, or a list that was named, does not exist, or nothing in it is a dataset.
    """
    root = Path(os.path.abspath(root))  # noqa: PTH100 - links stay as they are named
    if not root.is_dir():
        raise DataError(f"the dataset folder {root} does not exist.")
    layout = find_layout(root)
    paths = [_locate(root, path) for path in lists] or _text_files(root, layout, classes_file)
    pairs = _pairs_in(root, layout) if layout else []
    by_key = {name_key(pair.name): index for index, pair in enumerate(pairs)}
    read = []
    for path in paths:
        found = _read(root, path, pairs, by_key, named=bool(lists), layout=layout)
        if found is not None:
            read.append(found)
    if not layout and not any(item.members for item in read):
        raise DataError(
            f"{root} holds {LAYOUTS_TEXT}, and no list of 'image label' pairs. "
            "Name the dataset's own folder, or its lists with --dataset_file."
        )
    unread = tuple(path for folder in layout or () for path in sorted((root / folder).iterdir()) if _is_unread(path))
    return Inventory(root, layout, tuple(pairs), tuple(read), unread)


def _is_unread(path: Path) -> bool:
    return is_other_kind(path) and not path.name.startswith(".") and content_format(path) is None and path.is_file()


def content_format(path: Path) -> str | None:
    """The format of a picture file by its first bytes, in Pillow's word; None: it is none of those known here."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), None)


def shown(text: str) -> str:
    """Text that any terminal and file takes: bytes that are no UTF-8 and control characters become escapes."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    """Python keeps a byte of a file name that is no text as a character from U+DC80 on."""
    byte = ord(character) - 0xDC00
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else character.encode("unicode_escape").decode()


def _locate(root: Path, path: Path) -> Path:
    for candidate in (path, root / path):
        if candidate.is_file():
            return Path(os.path.abspath(candidate))  # noqa: PTH100
    raise DataError(f"the list {path} does not exist, neither here nor in {root}.")


def _text_files(root: Path, layout: tuple[str, str] | None, classes_file: Path | None) -> list[Path]:
    """Text files that may be lists: VOC's segmentation lists, or those of the folder and of its other subfolders."""
    if layout and (root / _VOC_LISTS).is_dir():
        return sorted((root / _VOC_LISTS).glob("*.txt"))
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        raise DataError(f"cannot read the folder {root}: {error.strerror}.") from None
    inside = [folder for folder in entries if folder.is_dir() and folder.name not in (*(layout or ()), ".git")]
    found = [path for folder in (root, *inside) for path in sorted(folder.glob("*.txt"))]
    other = {*(root / name for name in CLASS_FILES), *([classes_file.resolve()] if classes_file else [])}
    return [path for path in found if path not in other and path.resolve() not in other]


def _pairs_in(root: Path, layout: tuple[str, str]) -> list[Pair]:
    images, labels = (_by_key(root / folder) for folder in layout)
    pairs = []
    for key in sorted({*images, *labels}):
        image, more = _first(sorted(images.get(key, []), key=_unseen_image))
        label, rest = _first(sorted(labels.get(key, []), key=_unseen_label))
        # Only a second file that training would find, too, is in doubt.
        others = [path for path in more if not _unseen_image(path)] + [path for path in rest if not _unseen_label(path)]
        found = not (image and _unseen_image(image)) and not (label and _unseen_label(label))
        name = (image or label or Path(key)).stem
        pairs.append(Pair(name, image, label, tuple(others), found))
    return _joined_by_case(pairs)


def _first(paths: list[Path]) -> tuple[Path | None, list[Path]]:
    return (paths[0], paths[1:]) if paths else (None, [])


def _joined_by_case(pairs: list[Pair]) -> list[Pair]:
    """``Cat.jpg`` and ``cat.png`` belong together, though training on some systems does not find them."""
    lone_labels: dict[str, list[Pair]] = {}
    for pair in pairs:
        if pair.image is None:
            lone_labels.setdefault(pair.name.casefold(), []).append(pair)
    joined, used = [], set()
    for pair in pairs:
        partners = lone_labels.get(pair.name.casefold(), []) if pair.label is None else []
        if len(partners) == 1 and partners[0].name not in used:
            used.add(partners[0].name)
            joined.append(Pair(pair.name, pair.image, partners[0].label, pair.others, found=False))
        else:
            joined.append(pair)
    return [pair for pair in joined if not (pair.image is None and pair.name in used)]


def _unseen_image(path: Path) -> bool:
    return path.suffix.lower() not in IMAGE_SUFFIXES


def _unseen_label(path: Path) -> bool:
    return path.suffix.lower() != ".png"


def _by_key(folder: Path) -> dict[str, list[Path]]:
    """The pictures of a folder by the name that lists use, those with a wrong suffix or none included."""
    found: dict[str, list[Path]] = {}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}.") from None
    for entry in entries:
        path = folder / entry.name
        if entry.name.startswith(".") or not entry.is_file():
            continue
        if path.suffix.lower() in IMAGE_SUFFIXES or content_format(path):
            found.setdefault(name_key(path.stem), []).append(path)
    return found


def _read(
    root: Path, path: Path, pairs: list[Pair], by_key: dict[str, int], *, named: bool, layout: tuple[str, str] | None
) -> SplitList | None:
    """Read a text file as a list; None where it is none, and nobody said that it is. New pairs go into ``pairs``."""
    name = shown(os.path.relpath(path, root) if path.is_relative_to(root) else os.fspath(path))
    is_split = named or any(word in path.stem.lower() for word in _SPLIT_WORDS)
    try:
        lines = read_list(path)
    except DataError as error:
        empty = "is empty" in str(error)
        return SplitList(path, name, problem=None if empty else str(error), empty=empty) if is_split else None
    in_pairs = all(len(line.split()) > 1 for line in lines)
    if not (layout and (any(name_key(line) in by_key for line in lines) or not in_pairs)):
        pairs_of_lines = [find_pair(line, (root, path.parent)) for line in lines] if in_pairs else []
        if not any(pairs_of_lines) and not is_split:
            return None
        if layout is None and not in_pairs:
            problem = f"{name} holds names, but the dataset has no folders of pictures and label maps to find them in."
            return SplitList(path, name, problem=problem)
        return _members(path, name, zip(lines, _add(pairs_of_lines, pairs, by_key, root), strict=True))
    spelled = {_loose(pair.name): index for index, pair in enumerate(pairs)}
    exact: list[int | None] = [by_key.get(name_key(line)) for line in lines]
    loose = [spelled.get(_loose(line)) if index is None else None for line, index in zip(lines, exact, strict=True)]
    if not is_split and sum(index is not None for index in (*exact, *loose)) * 2 < len(lines):
        return None
    return _members(path, name, zip(lines, exact, strict=True), loose)


def _add(
    found: Sequence[tuple[Path, Path] | None], pairs: list[Pair], by_key: dict[str, int], root: Path
) -> list[int | None]:
    indexes: list[int | None] = []
    for files in found:
        if files is None:
            indexes.append(None)
            continue
        key = os.fspath(files[0])
        if key not in by_key:
            by_key[key] = len(pairs)
            image = files[0]
            name = os.path.relpath(image, root) if image.is_relative_to(root) else key
            pairs.append(Pair(os.fspath(Path(name).with_suffix("")), *files))
        indexes.append(by_key[key])
    return indexes


def _members(
    path: Path, name: str, lines: Iterable[tuple[str, int | None]], loose: Sequence[int | None] | None = None
) -> SplitList:
    entries = list(lines)
    loose = loose or [None] * len(entries)
    first: dict[int, str] = {}
    unknown, respelled = [], []
    repeats: Counter[str] = Counter()
    for (line, exact), other in zip(entries, loose, strict=True):
        index = other if exact is None else exact
        if index is None:
            unknown.append(line)
            continue
        if exact is None:
            respelled.append(line)
        if index in first:
            repeats[line] += 1
        first.setdefault(index, line)
    return SplitList(path, name, tuple(first), tuple(first.values()), tuple(unknown), tuple(respelled), tuple(repeats))


def _loose(name: str) -> str:
    """A name without the suffix of a picture, folders, and the difference of upper and lower case."""
    name = re.split(r"[/\\]", name)[-1]
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - it is no path of this system
    return name_key(stem if suffix.lower() in (*IMAGE_SUFFIXES, ".gif") else name).casefold()
