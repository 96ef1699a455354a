"""From a picture and an opened model to labels: prepare, run, sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError
from deeplabv3p.pixels import Geometry, labels_from_output, prepare
from deeplabv3p.runtime import Runtime


def predict(runtime: Runtime, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Segment one picture, uint8 [H, W, 3] RGB.

    Returns:
        Labels, uint8 [H, W] at the picture's own size, each below the number of classes.

    Raises:
        DataError: the picture cannot be used, or the model puts out NaN or labels that are not classes.
        UsageError: the spec asks for something that is not available.
    """
    output, geometry = predict_logits(runtime, image)
    labels = labels_from_output(output, geometry, runtime.spec.output)
    if labels.max() >= runtime.spec.num_classes:
        raise DataError(
            f"the model puts out label {labels.max()}, but its spec lists {runtime.spec.num_classes} classes."
        )
    return labels


def predict_logits(runtime: Runtime, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.generic], Geometry]:
    """The model's output for one picture, without the batch axis, and where the picture lies on the input tensor."""
    tensor, geometry = prepare(image, runtime.spec.input)
    return runtime.run(tensor[None])[0], geometry


def protocol(runtime: Runtime) -> str:
    """How :func:`predict` works with this model, in one line to stand beside a score:
    ``mobilenetv2 os16, 360x480 stretch, single scale, no flip, whole picture, keras 3.15 (tensorflow cpu)``."""
    spec = runtime.spec
    stride = "" if spec.model.output_stride is None else f" os{spec.model.output_stride}"
    if spec.input.size_hw is not None:
        size = f"{spec.input.size_hw[0]}x{spec.input.size_hw[1]} {spec.input.resize}"
    elif spec.input.max_side is not None:
        size = f"own size up to {spec.input.max_side}"
    else:
        size = "own size"
    how = "single scale, no flip, whole picture"
    return f"{spec.model.name}{stride}, {size}, {how}, {runtime.name} ({runtime.device})"
