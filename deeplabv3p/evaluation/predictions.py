"""Score label maps that are files already, such as those a device wrote, as :mod:`deeplabv3p.evaluation.score` scores a
model."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from deeplabv3p.data.dataset import Dataset, Sample
from deeplabv3p.data.decode import dataset_reading, read_label
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.score import Evaluation, PictureCallback, PictureScore
from deeplabv3p.metrics import Scores, confusion_matrix
from deeplabv3p.progress import Progress, silent


def find_predictions(dataset: Dataset, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
    """The predicted label map of each sample: ``NAME.png`` as ``eval.py --save_result`` names it, or ``NAME_label.png``
    as ``deeplab.py`` does, in ``folder``.

    Raises:
        DataError: the folder is missing, or some of the files are (the first one is named, the rest counted).
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"the folder of predictions {root} does not exist.")
    found = [_find(root, sample) for sample in dataset.samples]
    missing = [sample.name for sample, path in zip(dataset.samples, found, strict=True) if path is None]
    if missing:
        more = f" ({len(missing) - 1:,} more of {len(dataset):,} are missing)" if len(missing) > 1 else ""
        raise DataError(
            f"{root} has no prediction for '{missing[0]}'{more}: there is neither {missing[0]}.png nor "
            f"{missing[0]}_label.png. Predict the pictures of {dataset.source}."
        )
    return tuple(path for path in found if path is not None)


def _find(root: Path, sample: Sample) -> Path | None:
    names = (f"{sample.name}.png", f"{sample.name}_label.png")
    return next((root / name for name in names if (root / name).is_file()), None)


def evaluate_predictions(
    dataset: Dataset,
    paths: tuple[Path, ...],
    *,
    protocol: str,
    progress: Progress = silent,
    on_picture: PictureCallback | None = None,
) -> Evaluation:
    """Count right and wrong pixels of predicted label maps, each once, ignored ones left out.

    Args:
        dataset: the pictures and the truth.
        paths: the predicted label map of each sample, of its picture's size. In them the classes have their own
            numbers, whatever number the truth ignores.
        protocol: how the label maps came about, to stand beside the scores.
        progress: called after each picture, with the mIoU so far.
        on_picture: called with each picture and its result.

    Raises:
        DataError: a picture or a label map cannot be used, or a prediction has another size or holds a number that is
            no class.
    """
    started = time.perf_counter()
    reading = dataset_reading(paths, dataset.class_list, None)
    classes = len(dataset.classes)
    confusion = np.zeros((classes, classes), np.int64)
    per_picture = []
    for index, (sample, path) in enumerate(zip(dataset.samples, paths, strict=True)):
        image, truth = dataset.load(index)
        prediction = read_label(path, dataset.class_list, None, reading)
        if prediction.shape != truth.shape:
            sizes = (f"{height}x{width}" for height, width in (prediction.shape, truth.shape))
            raise DataError(
                f"{path} is {next(sizes)}, but its picture {sample.image} is {next(sizes)} (height x width). "
                "Scores are taken at the picture's own size: write the labels at it."
            )
        counts = confusion_matrix(truth, prediction, classes)
        confusion += counts
        picture = Scores(counts, dataset.ignored_class)
        per_picture.append(PictureScore(sample.name, picture.pa, picture.miou))
        if on_picture is not None:
            on_picture(sample, image, truth, prediction)
        progress(index + 1, len(dataset), {"mIoU": Scores(confusion, dataset.ignored_class).miou})
    return Evaluation(
        scores=Scores(confusion, dataset.ignored_class),
        classes=dataset.classes,
        protocol=protocol,
        dataset=dataset.source,
        pictures=len(dataset),
        seconds=time.perf_counter() - started,
        per_picture=tuple(per_picture),
    )
