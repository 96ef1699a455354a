"""The dataset that the tests of the fit share."""

from __future__ import annotations

from pathlib import Path

import pytest

from deeplabv3p.data.shapes import generate


@pytest.fixture(scope="session")
def shapes(tmp_path_factory) -> Path:
    """12 pictures of 64x64 to train on, 4 to validate on."""
    folder = tmp_path_factory.mktemp("shapes")
    generate(folder, train=12, val=4, test=0, size_hw=(64, 64), seed=5)
    return folder
