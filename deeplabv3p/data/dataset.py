"""Datasets on disk: which picture goes with which label map, in layouts told apart by looking."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from deeplabv3p import files
from deeplabv3p.data.classes import CLASS_FILES, ClassList
from deeplabv3p.data.decode import Oddities, Picture, dataset_reading, is_turned, read_image, read_label
from deeplabv3p.data.kinds import IMAGE_SUFFIXES
from deeplabv3p.data.palettes import BY_ITSELF, Reading
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.spec import FULL_RANGE, ClassInfo, ignored_class

VOC_LAYOUT = ("JPEGImages", "SegmentationClass")
LAYOUTS = (("images", "labels"), VOC_LAYOUT, ("images", "masks"), ("imgs", "masks"))
"""Folders of pictures and of label maps, of the datasets that name their samples in lists."""


@dataclass(frozen=True)
class Sample:
    """A picture and its label map. ``name`` is unique in its dataset and safe as a relative file name."""

    name: str
    image: Path
    label: Path


@dataclass(frozen=True)
class Dataset:
    """Samples and what their labels mean. ``ignore_index`` is the number in the label files (None: there is none);
    in memory it is ``pixels.IGNORE``. ``source`` names the list to people, ``reading`` says what palettes mean.
    ``picture_max`` is the value of white in pictures of 16 bits a channel, None where nobody says so: 65535.
    ``oddities``, where there are such, are told about pictures that can be used with reservations, which are refused
    otherwise."""

    root: Path
    samples: tuple[Sample, ...]
    class_list: ClassList
    ignore_index: int | None
    source: str
    reading: Reading = BY_ITSELF
    picture_max: int | None = None
    oddities: Oddities | None = field(default=None, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def classes(self) -> tuple[ClassInfo, ...]:
        """The classes; label i is ``classes[i]``."""
        return self.class_list.classes

    @property
    def ignored_class(self) -> int | None:
        """See :func:`deeplabv3p.spec.ignored_class`."""
        return ignored_class(self.ignore_index, len(self.classes))

    def load(self, index: int) -> tuple[Picture, Picture]:
        """Decode one sample.

        Returns:
            image uint8 [H, W, 3] RGB, label uint8 [H, W] with 0 to K - 1 or ``pixels.IGNORE``.

        Raises:
            DataError: a file is missing or damaged, a label value is out of range, or the sizes differ.
        """
        sample = self.samples[index]
        image = read_image(sample.image, self.picture_max or FULL_RANGE, self.oddities)
        label = self.label(sample)
        if label.shape != image.shape[:2]:
            raise DataError(describe_sizes(sample, image.shape[:2], label.shape))
        return image, label

    def label(self, sample: Sample) -> Picture:
        """The label map of a sample alone, as in :meth:`load`."""
        return read_label(sample.label, self.class_list, self.ignore_index, self.reading)


def open_dataset(
    dataset_path: str | os.PathLike[str],
    dataset_file: str | os.PathLike[str],
    class_list: ClassList,
    ignore_index: int | None,
    *,
    picture_max: int | None = None,
    oddities: Oddities | None = None,
) -> Dataset:
    """Find the samples that a list file names.

    The list holds either names, one a line without suffix, of pictures in ``images/``, ``imgs/`` or ``JPEGImages/``
    with a PNG of the same name in ``labels/``, ``masks/`` or ``SegmentationClass/``; or ``image label`` pairs of paths,
    relative to ``dataset_path`` or to the list's own folder, separated by a tab or by blanks. Names and paths may hold
    blanks.

    Args:
        dataset_path: the folder of the dataset.
        dataset_file: the list; a path, or one relative to ``dataset_path``.
        class_list: the classes.
        ignore_index: the number that means ignore in the label files, 0 to 65535, or None.
        picture_max: the value of white in pictures of 16 bits a channel.
        oddities: is told about odd pictures, which are refused without it.

    Raises:
        DataError: the folder or list is missing, the list is empty, not text or holds a name twice, files are missing
            (the first one is named, the rest counted), or the palettes of the label maps contradict each other.
        UsageError: ``ignore_index`` is out of range.
    """
    if ignore_index is not None and not 0 <= ignore_index <= 65535:
        raise UsageError(f"the ignore label is {ignore_index}, but labels are 0 to 65535.")
    root = Path(dataset_path)
    if not root.is_dir():
        raise DataError(f"the dataset folder {root} does not exist.")
    list_path = Path(dataset_file)
    if not list_path.is_file() and (root / list_path).is_file():
        list_path = root / list_path
    layout = find_layout(root)
    if layout and not list_path.exists() and not _has_lists(root):
        raise DataError(
            f"the list {dataset_file} does not exist, and {root} has none. Make lists: python "
            f"tools/dataset_converter/dataset.py split {shlex.quote(os.fspath(root))}"
        )
    lines = read_list(list_path)
    images = _scan(root / layout[0], IMAGE_SUFFIXES) if layout else {}
    if layout and (any(name_key(line) in images for line in lines) or not all(len(line.split()) > 1 for line in lines)):
        labels = _scan(root / layout[1], (".png",))
        samples = _named_samples(root, layout, images, labels, lines, list_path)
        # All maps of the folder, so that every list of a dataset is read in the same way.
        maps = [labels[name][0] for name in sorted(labels.keys() & images.keys())]
    elif all(len(line.split()) > 1 for line in lines):
        samples = _paired_samples(root, lines, list_path)
        maps = [sample.label for sample in samples]
    else:
        raise DataError(f"{root} holds {LAYOUTS_TEXT}, and the lines of {list_path} are not 'image label' pairs.")
    reading = dataset_reading(maps, class_list, ignore_index) if class_list.classes else BY_ITSELF
    source = os.fspath(dataset_file)
    return Dataset(root, tuple(samples), class_list, ignore_index, source, reading, picture_max, oddities)


def _has_lists(root: Path) -> bool:
    """Whether a dataset has text files, beside its class list, that may be lists."""
    found = (path for deep in ("", "*/", "*/*/") for path in root.glob(f"{deep}*.txt"))
    return any(path.name.lower() not in CLASS_FILES for path in found)


def find_layout(root: Path) -> tuple[str, str] | None:
    """The folders of pictures and of label maps in a dataset; None: it has none that are known."""
    return next((pair for pair in LAYOUTS if all((root / name).is_dir() for name in pair)), None)


LAYOUTS_TEXT = "neither images/ and labels/ nor images/ and masks/ nor JPEGImages/ and SegmentationClass/"
"""For messages about a folder of no layout."""


def split_dataset(dataset: Dataset, val_split: float, seed: int) -> tuple[Dataset, Dataset]:
    """Divide a dataset at random into (train, val), the same way for the same seed; neither part is empty.

    ``val_split`` is val's share of the samples, between 0 and 1. Raises UsageError for another share and DataError
    where there are fewer than two samples. Frames of a video land on both sides: such data needs lists of its own.
    """
    if not 0 < val_split < 1:
        raise UsageError(f"val_split is {val_split}, but it must lie between 0 and 1 (both excluded).")
    count = len(dataset)
    if count < 2:
        raise DataError(f"{dataset.source} names {count} picture, too few to divide into training and validation.")
    val_count = min(max(round(count * val_split), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count).tolist()
    parts = []
    for name, chosen in (("training", order[val_count:]), ("validation", order[:val_count])):
        samples = tuple(dataset.samples[index] for index in sorted(chosen))
        source = f"{dataset.source} ({name} part: {len(samples)} of {count}, seed {seed})"
        parts.append(replace(dataset, samples=samples, source=source))
    return parts[0], parts[1]


def read_list(path: Path) -> list[str]:
    """The lines of a list file that are not blank, without blanks around them; raises DataError."""
    files.check_regular(path, what="the list")
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"the list {path} does not exist.") from None
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text, so it cannot be the list of a dataset.") from None
    lines = [line.strip() for line in text.split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"the list {path} is empty. Write one picture a line.")
    return lines


def name_key(name: str) -> str:
    """Accented letters have two spellings in Unicode; file systems and editors choose differently."""
    return unicodedata.normalize("NFC", name)


def _scan(folder: Path, suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """The files of a folder by name without suffix. One scan is far cheaper than asking for every possible name."""
    found: dict[str, list[Path]] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are wanted, Path.iterdir would build a path for every file
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}.") from None
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122
        if suffix.lower() in suffixes:
            found.setdefault(name_key(stem), []).append(folder / name)
    return found


def _named_samples(
    root: Path,
    layout: tuple[str, str],
    images: dict[str, list[Path]],
    labels: dict[str, list[Path]],
    names: list[str],
    list_path: Path,
) -> list[Sample]:
    _refuse_duplicates(names, list_path)
    for folder, found, kind in ((layout[0], images, "picture"), (layout[1], labels, "label map (.png)")):
        missing = [name for name in names if name_key(name) not in found]
        if missing:
            suffixed = Path(missing[0]).suffix.lower() in IMAGE_SUFFIXES
            hint = " Write names without suffix." if suffixed else ""
            if re.search(r"[/\\]", missing[0]):
                hint = " Write names without folders and suffix, or two paths a line, of picture and label map."
            hint = _drive_hint(missing[0], root) or hint
            raise DataError(
                f"{list_path} lists '{missing[0]}', but {root / folder} has no such {kind}{_and_more(missing)}.{hint}"
            )
    samples = []
    for name in names:
        image, label = images[name_key(name)], labels[name_key(name)]
        for alike in (image, label):
            if len(alike) > 1:
                clash = " and ".join(sorted(path.name for path in alike))
                raise DataError(f"'{name}' in {list_path} may be {clash} in {alike[0].parent}. Remove one.")
        samples.append(Sample(name, image[0], label[0]))
    return samples


def _paired_samples(root: Path, lines: list[str], list_path: Path) -> list[Sample]:
    pairs = []
    missing = []
    for line in lines:
        pair = find_pair(line, (root, list_path.parent))
        if pair is None:
            missing.append(line)
        else:
            pairs.append(pair)
    if missing:
        raise DataError(
            f"{list_path} lists '{missing[0]}', but there are no two such files, neither under {root} "
            f"nor under {list_path.parent}{_and_more(missing)}.{_drive_hint(missing[0], root)}"
        )
    _refuse_duplicates([os.fspath(image) for image, _ in pairs], list_path)
    names = [image.stem for image, _ in pairs]
    if len(set(names)) < len(names):  # the same name in several folders: the folders tell them apart
        base = os.path.commonpath([image.parent for image, _ in pairs])
        names = [image.relative_to(base).with_suffix("").as_posix() for image, _ in pairs]
        _refuse_duplicates(names, list_path)
    return [Sample(name, image, label) for name, (image, label) in zip(names, pairs, strict=True)]


def _drive_hint(line: str, root: Path) -> str:
    drive = re.match(r"[A-Za-z]:[/\\]", line)
    return f" {drive[0]} is a drive of another computer: write paths relative to {root}." if drive else ""


def find_pair(line: str, bases: Sequence[Path]) -> tuple[Path, Path] | None:
    """The one way to cut the line into two files that exist. Blanks may belong to the names, and paths may be written
    as Windows does."""
    found = _find_pair(line, bases)
    return found if found or "\\" not in line else _find_pair(line.replace("\\", "/"), bases)


def _find_pair(line: str, bases: Sequence[Path]) -> tuple[Path, Path] | None:
    separator = r"\t+" if "\t" in line else r"\s+"
    for cut in re.finditer(separator, line):
        image, label = (_find(part, bases) for part in (line[: cut.start()], line[cut.end() :]))
        if image and label:
            return image, label
    return None


def _find(part: str, bases: Sequence[Path]) -> Path | None:
    for base in bases:
        path = os.path.abspath(base / part)  # noqa: PTH100 - Path.resolve would follow links, and asks the disk
        if os.path.isfile(path):  # noqa: PTH113 - several times faster than Path.is_file before Python 3.12
            return Path(path)
    return None


def _refuse_duplicates(names: list[str], list_path: Path) -> None:
    name, number = Counter(names).most_common(1)[0]
    if number > 1:
        raise DataError(f"{list_path} lists '{name}' {number} times. List every picture once.")


def _and_more(missing: Sequence[str]) -> str:
    more = len(missing) - 1
    return f" ({more:,} more {'are' if more > 1 else 'is'} missing)" if more else ""


def describe_sizes(sample: Sample, image_hw: tuple[int, ...], label_hw: tuple[int, ...]) -> str:
    """What is wrong with a picture and a label map of two sizes (height, width), for people."""
    image_size, label_size = (f"{height}x{width}" for height, width in (image_hw, label_hw))
    sizes = f"{sample.image} is {image_size} and its label map {sample.label} is {label_size}"
    if label_hw == image_hw[::-1] and is_turned(sample.image):
        return f"{sizes}: the label map fits the picture before its EXIF orientation is applied. Turn the label map."
    return f"{sizes} (height x width). They must be equal."
