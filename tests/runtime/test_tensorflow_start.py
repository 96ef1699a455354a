"""How TensorFlow is started: with oneDNN on every processor, unless the user says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASK = """
from deeplabv3p.runtime.{module} import {start}
{start}({argument})
from tensorflow.python.util import _pywrap_util_port
print(_pywrap_util_port.IsMklEnabled())
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="TensorFlow has oneDNN by default on x86-64 alone")
@pytest.mark.parametrize(
    ("module", "start", "argument", "value"),
    [
        ("keras_engine", "import_keras", "", None),
        ("keras_engine", "import_keras", "", "0"),
        ("tensorflow_common", "import_tensorflow", "'pb'", None),
    ],
)
def test_onednn_is_on_unless_it_is_switched_off(module: str, start: str, argument: str, value: str | None) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    environment["KERAS_BACKEND"] = "tensorflow"
    if value is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = value
    program = ASK.format(module=module, start=start, argument=argument)
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout.split() == [str(value is None)]
