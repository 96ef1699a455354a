"""The losses on the JAX backend: Keras chooses its backend once in a process, so the tests run in another one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def test_the_losses_equal_the_oracle_on_jax():
    pytest.importorskip("jax")
    file = str(Path(__file__).with_name("test_loss_values.py"))
    chosen = "equal_the_oracle and (sum or ohem-smoothed or boundary-adaptive)"  # together, every formula
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", chosen, file]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[1-9]\d* passed", done.stdout), done.stdout
