"""Memory is bounded for pictures of 100 megapixels."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from example_spec import SPEC
from fake_engine import Subsampling, noise

from deeplabv3p.inference import InferenceOptions, predict, stages
from deeplabv3p.spec import Window

MIB = 2**20


def peak_of(runtime, image, options):
    """(labels, bytes allocated at the peak beyond the picture and the labels)."""
    tracemalloc.start()
    try:
        labels = predict(runtime, image, options)
        return labels, tracemalloc.get_traced_memory()[1] - labels.nbytes
    finally:
        tracemalloc.stop()


def large_picture(height, width):
    tile = noise(250, 500)
    return np.tile(tile, (height // 250, width // 500, 1))


@pytest.mark.slow
def test_windows_over_100_megapixels_take_bounded_memory():
    runtime = Subsampling(SPEC.replace(input={"size_hw": None}, classes=SPEC.classes[:3]))
    image = large_picture(10_000, 10_000)
    # Twice as many windows as the picture has room for: all their tensors are 2.1 GiB, a band of scores 1.2 GB.
    labels, peak = peak_of(runtime, image, InferenceOptions(window=Window((512, 512), (384, 384)), window_batch=4))
    assert labels.shape == (10_000, 10_000)
    assert len(np.unique(labels)) == 3
    assert peak < 256 * MIB


def test_what_is_not_held_does_not_grow_with_the_height_of_the_picture(monkeypatch):
    monkeypatch.setattr(stages, "HELD_BYTES", 16 * MIB)
    runtime = Subsampling(SPEC.replace(input={"size_hw": None}))
    options = InferenceOptions(window=Window((128, 128), (64, 64)), window_batch=8)
    peaks = [peak_of(runtime, large_picture(height, 1000), options)[1] for height in (750, 3000)]
    tensors = 4 * 4 * 750 * 1000 * 3  # four windows over each pixel, float32
    assert tensors > 16 * MIB
    assert peaks[1] < 1.1 * peaks[0]
    assert peaks[1] < 16 * MIB


def test_a_large_picture_at_a_fixed_size_takes_little_beyond_its_labels():
    _, peak = peak_of(Subsampling(SPEC), large_picture(5000, 8000), InferenceOptions())
    assert peak < 100 * MIB
    _, peak = peak_of(Subsampling(SPEC), large_picture(5000, 8000), InferenceOptions(flip=True))
    # The mirrored copy of the picture is 115 MiB.
    assert peak < 250 * MIB
