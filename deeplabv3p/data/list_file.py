"""Lists of samples, written so that :func:`deeplabv3p.data.dataset.open_dataset` reads them back."""

from __future__ import annotations

import os
from pathlib import Path

from deeplabv3p import files
from deeplabv3p.data.dataset import LAYOUTS, Dataset, Sample, name_key


def write_list(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write the list of a dataset's samples, atomically: their names in a dataset of two folders, else a
    ``picture<TAB>label map`` a line, relative to the dataset's folder where they are below it. The list may lie
    anywhere.

    Raises:
        DataError: it cannot be written.
    """
    samples = dataset.samples
    if _are_named(dataset):
        lines = [sample.name for sample in samples]
    else:
        root = os.path.abspath(dataset.root)  # noqa: PTH100 - Path.resolve would follow links
        lines = [f"{_shown(sample.image, root)}\t{_shown(sample.label, root)}" for sample in samples]
    files.write_text(path, "".join(f"{line}\n" for line in lines))


def _are_named(dataset: Dataset) -> bool:
    """Whether each sample is found by its name in the folders of a layout."""
    layout = next((pair for pair in LAYOUTS if all((dataset.root / name).is_dir() for name in pair)), None)
    if layout is None:
        return False
    images, labels = (dataset.root / name for name in layout)

    def fits(sample: Sample) -> bool:
        key = name_key(sample.name)
        stems = {name_key(sample.image.stem), name_key(sample.label.stem)}
        return sample.image.parent == images and sample.label.parent == labels and stems == {key}

    return all(fits(sample) for sample in dataset.samples)


def _shown(path: Path, root: str) -> str:
    """Relative to ``root`` if it is below it; parts of paths are separated by slashes."""
    absolute = Path(os.path.abspath(path))  # noqa: PTH100
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()
