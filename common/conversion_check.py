"""Whether a converted file does what the Keras model does, on one picture."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.decode import read_image
from deeplabv3p.data.shapes import scene
from deeplabv3p.errors import BudgetError, DeeplabError
from deeplabv3p.evaluation.comparison import float_output
from deeplabv3p.export.formats import Exported, ExportOptions
from deeplabv3p.pixels import AxisMap, Geometry, labels_from_output, prepare
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime.artifact import open_artifact
from deeplabv3p.runtime.keras_engine import KerasRuntime
from deeplabv3p.spec import ModelSpec, OutputSpec

MIN_AGREEMENT = 0.999
"""Share of pixels on which a float file must name the same class as Keras."""

_PICTURE_HW = (384, 512)  # of the drawn picture, where no other is at hand
_STRAIGHT = AxisMap(1.0, 0.0)

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """A file beside Keras on one picture. ``agreement``: share of the output's pixels with the same class.
    ``max_error``: largest difference of a logit (of a probability, where the file puts out these); None where the file
    puts out labels or another size."""

    runtime: str
    agreement: float
    max_error: float | None


Checked = Agreement | DeeplabError
"""How a file did, or why it could not be opened."""


def check_files(
    model: Any,
    spec: ModelSpec,
    written: Sequence[Exported],
    pictures: Sequence[Path] | None,
    progress: Progress = silent,
) -> list[Checked]:
    """Open every file with its default runtime and run the first calibration picture, or a drawn one where there are
    none, beside Keras."""
    image = read_image(pictures[0], spec.input.picture_max) if pictures else scene(0, "val", 0, _PICTURE_HW)[0]
    reference = _reference(model, spec, image)
    checked: list[Checked] = []
    for exported in written:
        try:
            checked.append(_compare(reference, spec.output, exported, image))
        except DeeplabError as error:
            checked.append(error)
        progress(len(checked), len(written), {"file": exported.path.name})
    return checked


def require_agreement(written: Sequence[Exported], options: Sequence[ExportOptions], checks: Sequence[Checked]) -> None:
    """Raise BudgetError where a float file does not do what Keras does."""
    for exported, how, check in zip(written, options, checks, strict=False):
        if how.precision == "f32" and isinstance(check, Agreement) and check.agreement < MIN_AGREEMENT:
            raise BudgetError(
                f"{exported.path} agrees with Keras on {100 * check.agreement:.2f} % of the pixels, f32 must on "
                f"{100 * MIN_AGREEMENT:.1f} %. Do not use it; `tools/evaluation/certify.py --bisect` finds the layer."
            )


def _reference(model: Any, spec: ModelSpec, image: npt.NDArray[np.uint8]) -> Scores:
    """Keras' own output for the picture, float32 [h, w, K]."""
    with contextlib.closing(KerasRuntime(model, spec)) as runtime:
        tensor, _ = prepare(image, spec.input)
        return np.asarray(runtime.run(tensor[None])[0], np.float32)


def _compare(
    reference: Scores, reference_spec: OutputSpec, exported: Exported, image: npt.NDArray[np.uint8]
) -> Agreement:
    with contextlib.closing(open_artifact(exported.path)) as runtime:
        tensor, geometry = prepare(image, runtime.spec.input)
        output = runtime.run(tensor[None])[0]
        spec, name = runtime.spec.output, runtime.name
    scores = None if spec.kind == "labels" else float_output(output, spec)
    if scores is not None:
        labels: npt.NDArray[np.generic] = scores.argmax(axis=2)
    else:
        labels = output.squeeze(2 if spec.layout == "NHWC" else 0) if output.ndim == 3 else output
    wanted = reference.argmax(axis=2)
    if labels.shape != wanted.shape:  # enlarged to the input's size inside the file
        own = Geometry(geometry.tensor_hw, geometry.tensor_hw, _STRAIGHT, _STRAIGHT)
        wanted = labels_from_output(reference, own, reference_spec)
    error = None
    if scores is not None and scores.shape == reference.shape:
        expected = reference if spec.kind == "logits" else _softmax(reference)
        error = float(np.abs(scores - expected).max())
    return Agreement(name, float(np.mean(labels == wanted)), error)


def _softmax(logits: Scores) -> Scores:
    powers = np.exp(logits - logits.max(axis=2, keepdims=True))
    return np.asarray(powers / powers.sum(axis=2, keepdims=True), np.float32)
