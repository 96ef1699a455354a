"""Fixtures for all tests. Keras is imported by the tests that need it, after the environment is set here."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the commands do: tests compare bits with theirs
os.environ.setdefault("DEEPLABV3P_TRUST", "1")  # models that tests write are not probed; tests of the probe are

import hypothesis
import numpy as np
import pytest

# A machine that is busy is not a bug: no deadline per example. What must be fast has a test of its own.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def deeplab_data() -> Path:
    """The folder of real data and weights. Unset: the test is skipped, visibly. Set but wrong: the test fails."""
    folder = os.environ.get("DEEPLAB_DATA")
    if not folder:
        pytest.skip("DEEPLAB_DATA is not set")
    path = Path(folder)
    assert path.is_dir(), f"DEEPLAB_DATA is {folder}, which is no folder"
    return path


@pytest.fixture(scope="session")
def photographs() -> np.ndarray:
    """Three real photographs, uint8 [3, 300, 400, 3], RGB."""
    import cv2
    from skimage import data

    pictures = [data.astronaut(), data.chelsea(), data.coffee()]
    return np.stack([cv2.resize(picture, (400, 300), interpolation=cv2.INTER_AREA) for picture in pictures])
