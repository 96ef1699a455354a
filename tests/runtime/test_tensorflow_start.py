"""How TensorFlow is started: quietly, and with oneDNN on every processor, unless the user says otherwise."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from deeplabv3p.runtime.tensorflow_common import kept_lines

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


HEADER = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
INFO = "I0000 00:00:1796097938.235391   14539 port.cc:153] oneDNN custom operations are on."
WARNING = "2026-12-01 03:48:41.123456: W tensorflow/core/x.cc:1] a warning"
ERROR = "E0000 00:00:1796098542.641395    8163 cuda_platform.cc:52] failed call to cuInit"
OTHER = ["Traceback, perhaps", "I think so", "E for effort", "2026-12-01 a date", "Warning: of somebody else"]
# A package that says all that while it is loaded, past Python, as TensorFlow's libraries do.
NOISY = """
import os
os.write(2, {text!r}.encode())
if os.environ.get("BROKEN"):
    raise ImportError("a library is missing")
version = "here"
"""
START = r"""
import os, sys, threading
if os.environ.get("CLOSED"):
    os.close(2)
from deeplabv3p.runtime import tensorflow_common
from deeplabv3p.errors import RuntimeMissingError
before = len(sys.meta_path)
try:
    if os.environ.get("LATE"):  # Keras on another backend imports it by itself, and in any thread
        tensorflow_common.prepare()
        tensorflow_common.prepare()
        threads = [threading.Thread(target=__import__, args=("tensorflow",)) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    print(tensorflow_common.import_tensorflow("pb").version, len(sys.meta_path) - before)
except RuntimeMissingError as error:
    print(error)
if not os.environ.get("CLOSED"):
    print("afterwards", file=sys.stderr)
    os.write(2, b"I0000 00:00 a log line of later\n")
"""
LATER = ["afterwards", "I0000 00:00 a log line of later"]


def start(tmp_path: Path, **variables: str) -> tuple[str, list[str]]:
    """What a process puts out that imports the noisy package: (stdout, lines of stderr)."""
    (tmp_path / "tensorflow").mkdir()
    text = "\n".join([HEADER, INFO, WARNING, ERROR, *OTHER, ""])
    (tmp_path / "tensorflow/__init__.py").write_text(NOISY.format(text=text))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    environment |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), **variables}
    command = [sys.executable, "-c", START]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr.splitlines()


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (None, OTHER),
        ("3", OTHER),  # as a process of ours inherits it
        ("2", [ERROR, *OTHER]),
        ("1", [WARNING, ERROR, *OTHER]),
        ("0", [HEADER, INFO, WARNING, ERROR, *OTHER]),
    ],
)
def test_log_lines_of_the_start_are_those_that_the_level_asks_for(tmp_path, level, shown):
    variables = {} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level}
    out, lines = start(tmp_path, **variables)
    assert out == "here 0\n"
    assert lines == [*shown, *LATER]


def test_whoever_imports_it_and_in_whatever_thread(tmp_path):
    out, lines = start(tmp_path, LATE="1")
    assert out == "here 0\n"
    assert lines == [*OTHER, *LATER]


def test_where_the_import_fails_nothing_is_kept_back(tmp_path):
    out, lines = start(tmp_path, BROKEN="1")
    assert "does not load (a library is missing)" in out
    assert lines == [HEADER, INFO, WARNING, ERROR, *OTHER, *LATER]


def test_without_a_standard_error_stream(tmp_path):
    out, lines = start(tmp_path, CLOSED="1")
    assert out == "here 0\n"
    assert lines == []


def test_no_line_of_others_is_taken_for_a_log_line():
    lines = [f"{line}\n".encode() for line in OTHER]
    assert kept_lines([*lines, b"\xff\xfe no text\n", b"no end"], 3) == [*lines, b"\xff\xfe no text\n", b"no end"]


@pytest.mark.parametrize("level", [None, "1", "2", "3"])
def test_the_real_one_says_nothing(level):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_CPP")}
    environment |= {"KERAS_BACKEND": "tensorflow"} | ({} if level is None else {"TF_CPP_MIN_LOG_LEVEL": level})
    program = "from deeplabv3p.runtime.keras_engine import import_keras\nimport_keras()"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=300)
    assert done.stderr == ""
