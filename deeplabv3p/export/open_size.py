"""Proof that a file whose height and width are open works at more than one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import UsageError
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.spec import Layout

if TYPE_CHECKING:
    from deeplabv3p.export.freeze import Frozen

Floats = npt.NDArray[np.float32]

_SIZES = ((64, 96), (97, 65))  # even and odd: padding goes by the parity
_TOLERANCE = 1e-3  # of the largest value. Rounding gives 1e-6; a wrong resize or padding far more than this


def check_open_size(
    start: Callable[[], Callable[[Floats], npt.NDArray[np.generic]]], frozen: Frozen, layout: Layout, engine: str
) -> None:
    """Run a converted model and the frozen graph at two sizes and compare. Many networks compute with the size that
    they were built for; some only seem not to.

    Args:
        start: opens the model, and returns what runs a batch in ``layout``.
        frozen: the graph that it was made of, with an open size.
        layout: of the model's input and output.
        engine: for the message.

    Raises:
        UsageError: the model does not work at both sizes, or not as it should.
    """
    import tensorflow as tf

    try:
        run = start()
        for size_hw in _SIZES:
            batch = np.random.default_rng(0).normal(size=(1, *size_hw, 3)).astype(np.float32)
            wanted = np.asarray(frozen.concrete(tf.constant(batch)))
            got = run(batch if layout == "NHWC" else np.ascontiguousarray(batch.transpose(0, 3, 1, 2)))
            if layout == "NCHW" and got.ndim == 4:
                got = got.transpose(0, 2, 3, 1)
            if got.shape != wanted.shape:
                raise ValueError(f"{list(got.shape)} comes out instead of {list(wanted.shape)}")
            if not np.allclose(got, wanted, rtol=0, atol=_TOLERANCE * max(1.0, float(np.abs(wanted).max()))):
                raise ValueError("the result differs")
    except Exception as error:  # whatever the engine raises
        raise UsageError(
            f"'{frozen.spec.model.name}' does not work in {engine} with an open size ({first_line(error)}). "
            "Leave --dynamic out, and export it at each size."
        ) from None
