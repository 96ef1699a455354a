"""The same fit on the JAX backend: Keras chooses its backend once in a process, so the tests run in another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "chosen",
    [
        # Every case compiles six training steps, half a minute; test_no_tensorflow.py resumes with more options.
        pytest.param("stopped_run and options1 or mean_iou", id="some"),
        pytest.param("learns or stopped_run or mean_iou", id="all", marks=pytest.mark.slow),
    ],
)
def test_the_fit_runs_and_resumes_on_jax(chosen):
    pytest.importorskip("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen]
    files = [str(Path(__file__).with_name(name)) for name in ("test_fit.py", "test_meter.py")]
    done = subprocess.run([*command, *files], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
