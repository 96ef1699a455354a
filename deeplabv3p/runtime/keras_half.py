"""Keras files with their kernels in half precision: half the size, opened by plain Keras as they are.

Kernels are the tensors of two and more axes. Biases and batch norms are a hundredth of a network and stay float32: a
variance may lie below the smallest number of half precision.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from deeplabv3p.runtime.keras_portable import rewrite

WEIGHTS = "model.weights.h5"


def round_kernels(model: Any) -> None:
    """Round the kernels of ``model`` to half precision, so that it is what a half-precision file will hold."""
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(np.asarray(weight).astype(np.float16).astype(np.float32))


def store_half(path: Path) -> None:
    """Write a ``.keras`` file again in place, its kernels as float16 and all of it compressed."""
    rewrite(path, {WEIGHTS: _halved}, compress=True)


def _halved(weights: bytes) -> bytes:
    """The same HDF5 file with its kernels as float16."""
    import h5py

    stored = io.BytesIO()
    with h5py.File(io.BytesIO(weights)) as source, h5py.File(stored, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = np.asarray(item)
                target.create_dataset(name, data=values.astype(np.float16) if values.ndim > 1 else values)
            else:
                target.require_group(name)
            target[name].attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    return stored.getvalue()
