"""Keras files with their kernels in half precision: half the size, opened by plain Keras as they are.

Kernels are the tensors of two and more axes. Biases and batch norms are a hundredth of a network and stay float32: a
variance may lie below the smallest number of half precision.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = "model.weights.h5"


def round_kernels(model: Any) -> None:
    """Round the kernels of ``model`` to half precision, so that it is what a half-precision file will hold."""
    for weight in model.weights:
        if len(weight.shape) > 1:
            weight.assign(np.asarray(weight).astype(np.float16).astype(np.float32))


def store_half(path: Path) -> None:
    """Write a ``.keras`` file again in place, its kernels as float16 and all of it compressed."""
    import h5py

    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stored = io.BytesIO()
    with h5py.File(io.BytesIO(members[WEIGHTS])) as source, h5py.File(stored, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                values = np.asarray(item)
                target.create_dataset(name, data=values.astype(np.float16) if values.ndim > 1 else values)
            else:
                target.require_group(name)
            target[name].attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    members[WEIGHTS] = stored.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            # Without the time of writing: equal models are equal files.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
