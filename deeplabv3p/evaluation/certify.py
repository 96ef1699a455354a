"""Certify model files: run each over the same pictures as a reference, and judge how far it lies from it.

Every file is measured in a process of its own. An engine that crashes costs its own row and nothing else.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from deeplabv3p.data.dataset import Dataset
from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.evaluation import isolation
from deeplabv3p.evaluation.bisect import Bisection, find_departure
from deeplabv3p.evaluation.budget import Budgets, missed
from deeplabv3p.evaluation.comparison import (
    Counts,
    Interval,
    bootstrap_difference,
    class_iou,
    in_truth,
    miou,
    same_geometry,
)
from deeplabv3p.evaluation.measurement import Job, Measurement, run_job
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime.artifact import ArtifactRef
from deeplabv3p.spec import ModelSpec

Verdict = Literal["reference", "pass", "FAIL", "skipped"]

SECONDS = 3.0
"""How long latencies are taken for each file."""


@dataclass(frozen=True)
class Candidate:
    """A model file to certify. ``precision`` is a key of ``budget.DEFAULTS``; ``asked`` says that its runtime was asked
    for by name, so that a missing package is an error; ``notes`` are worth telling, a sentence each."""

    artifact: ArtifactRef
    spec: ModelSpec
    precision: str
    asked: bool = False
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What tables call it: the file."""
        return self.artifact.path.name


@dataclass(frozen=True)
class Figures:
    """How well a file does, and how far it lies from the reference. Agreements are percentages of pixels;
    ``difference`` is the file's ``miou_in_truth`` less the reference's, so over the same classes, with its bootstrap
    interval. None is what cannot be said. ``miou`` is over the ``classes_counted`` classes in the truth or the
    prediction."""

    miou: float
    miou_in_truth: float
    classes_counted: int
    classes_in_truth: int
    agreement: float | None = None
    band_agreement: float | None = None
    max_error: float | None = None
    mean_error: float | None = None
    difference: float | None = None
    interval: Interval | None = None

    def judged(self) -> dict[str, float | None]:
        """The figures by the names that budgets have."""
        return {
            "agreement": self.agreement,
            "band_agreement": self.band_agreement,
            "miou_drop": None if self.difference is None else -100 * self.difference,
            "max_error": self.max_error,
            "mean_error": self.mean_error,
        }


@dataclass(frozen=True)
class Row:
    """One line of a certificate. ``reasons`` say why it failed or was skipped, a phrase each; ``size`` is in bytes.
    ``figures`` and ``measurement`` are None where it was not measured."""

    name: str
    runtime: str
    precision: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    asked: bool = False
    path: Path | None = None
    size: int | None = None
    figures: Figures | None = None
    measurement: Measurement | None = None
    bisection: Bisection | None = None


@dataclass(frozen=True)
class Certificate:
    """The reference's row, then the others in the order they were given; against which dataset and which budgets."""

    rows: tuple[Row, ...]
    dataset: str
    pictures: int
    budgets: Budgets
    threads: int | None

    def with_verdict(self, verdict: Verdict) -> list[Row]:
        """The rows with that verdict."""
        return [row for row in self.rows if row.verdict == verdict]


def certify(
    reference: Candidate,
    others: Sequence[Candidate | Row],
    dataset: Dataset,
    *,
    budgets: Budgets,
    threads: int | None = None,
    seconds: float = SECONDS,
    bisect: bool = False,
    folder: Path | None = None,
    progress: Progress = silent,
) -> Certificate:
    """Measure the reference and every other file, and judge the others.

    Args:
        reference: what the others should equal.
        others: files, and rows that are settled already (such as skipped ones), which are taken over as they are.
        dataset: the pictures, with as many classes as every file.
        budgets: by precision, see ``budget.parse_budgets``.
        threads: CPU threads of every engine; None leaves the choice to each.
        seconds: how long latencies are taken, for each file.
        bisect: find the layer where a file that fails leaves the reference, which must be a Keras model for that.
        folder: an existing folder for the reference's predictions, which are removed at the end (None: the system's).
        progress: called after each picture of each file.

    Raises:
        UsageError: a file has other classes than the dataset.
        DataError: the reference cannot be measured.
        RuntimeMissingError: the reference's runtime is missing.
    """
    files = [item for item in others if isinstance(item, Candidate)]
    for candidate in (reference, *files):
        if candidate.spec.num_classes != len(dataset.classes):
            raise UsageError(
                f"{candidate.artifact.path} has {candidate.spec.num_classes} classes, but the dataset {dataset.source} "
                f"has {len(dataset.classes)}. Only models of the same classes can be compared."
            )
    total = (1 + len(files)) * len(dataset)
    with tempfile.TemporaryDirectory(prefix=".certify-", dir=folder) as store:

        def run(candidate: Candidate, before: int) -> Measurement:
            job = Job(
                candidate.artifact,
                candidate.spec,
                dataset,
                Path(store),
                candidate is reference,
                # Of the reference with itself, this says whether there is anything to subtract.
                same_geometry(reference.spec, candidate.spec),
                threads,
                seconds,
            )
            info = {"file": f"{candidate.name}@{candidate.artifact.runtime}"}
            found: Measurement = isolation.call(
                run_job, job, on_message=lambda done: progress(before * len(dataset) + done, total, info)
            )
            return found

        first = _measure_reference(reference, run)
        rows = [_reference_row(reference, first)]
        before = 1
        for item in others:
            if isinstance(item, Row):
                rows.append(item)
                continue
            row = _judge(item, first, budgets, functools.partial(run, before=before))
            before += 1
            if bisect and row.verdict == "FAIL" and row.measurement is not None:
                row = dataclasses.replace(row, bisection=_bisect(reference, item, dataset, row.measurement))
            rows.append(row)
            progress(before * len(dataset), total, {"file": row.name, "verdict": row.verdict})
    return Certificate(tuple(rows), dataset.source, len(dataset), budgets, threads)


def file_size(path: Path) -> int:
    """Bytes of a model: a file, with its weights where they lie beside it (OpenVINO's .bin), or all of a folder."""
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    weights = path.with_suffix(".bin")
    beside = weights.stat().st_size if path.suffix == ".xml" and weights.exists() else 0
    return path.stat().st_size + beside


def _measure_reference(reference: Candidate, run: Callable[[Candidate, int], Measurement]) -> Measurement:
    try:
        return run(reference, 0)
    except isolation.CrashError as error:
        raise DataError(f"the reference {reference.artifact.path} cannot be measured: {error}.") from None


def _reference_row(candidate: Candidate, measurement: Measurement) -> Row:
    figures = _scores(measurement.parts)
    return dataclasses.replace(_row(candidate, "reference"), figures=figures, measurement=measurement)


def _scores(parts: Counts) -> Figures:
    """The scores from the parts of every picture, int64 [N, 3, K]."""
    whole = parts.sum(axis=0)
    classes = in_truth(whole)
    return Figures(
        miou=float(miou(whole)),
        miou_in_truth=float(miou(whole, classes)),
        classes_counted=int(np.count_nonzero(~np.isnan(class_iou(whole)))),
        classes_in_truth=int(np.count_nonzero(classes)),
    )


def _judge(
    candidate: Candidate, reference: Measurement, budgets: Budgets, run: Callable[[Candidate], Measurement]
) -> Row:
    try:
        measurement = run(candidate)
    except RuntimeMissingError as error:
        return _row(candidate, "skipped", str(error))
    except (DeeplabError, isolation.CrashError) as error:
        return _row(candidate, "FAIL", str(error))
    figures = compare(reference, measurement)
    reasons = missed(budgets[candidate.precision], figures.judged())
    row = _row(candidate, "FAIL" if reasons else "pass", *reasons)
    return dataclasses.replace(row, figures=figures, measurement=measurement)


def compare(reference: Measurement, measurement: Measurement) -> Figures:
    """The figures of a file from what was measured of it and of the reference, over the same pictures."""
    own, error = _scores(measurement.parts), measurement.error
    return dataclasses.replace(
        own,
        agreement=measurement.everywhere.percent if measurement.everywhere else None,
        band_agreement=measurement.band.percent if measurement.band and measurement.band.whole else None,
        max_error=error.maximum if error else None,
        mean_error=error.mean if error else None,
        difference=own.miou_in_truth - _scores(reference.parts).miou_in_truth,
        interval=bootstrap_difference(reference.parts, measurement.parts),
    )


def _row(candidate: Candidate, verdict: Verdict, *reasons: str) -> Row:
    return Row(
        name=candidate.name,
        runtime=candidate.artifact.runtime,
        precision=candidate.precision,
        verdict=verdict,
        reasons=tuple(reason.rstrip(".") for reason in reasons),
        notes=candidate.notes,
        asked=candidate.asked,
        path=candidate.artifact.path,
        size=file_size(candidate.artifact.path),
    )


def _bisect(reference: Candidate, candidate: Candidate, dataset: Dataset, measurement: Measurement) -> Bisection:
    picture = dataset.samples[measurement.worst].image
    arguments = (reference.artifact, reference.spec, candidate.artifact, candidate.spec, candidate.precision)
    try:
        found: Bisection = isolation.call(find_departure, *arguments, picture)
    except (DeeplabError, isolation.CrashError) as error:
        return Bisection(method="", picture=picture.name, tolerance=0.0, steps=(), first=None, remark=str(error))
    return found
