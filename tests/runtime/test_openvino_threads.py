"""OpenVINO's Python binding under threads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("openvino")

# Four threads ask the binding for the first time, and Python switches as often as it can. Without the tables that
# the engine makes when it is imported this stood still in 11 of 12 runs.
CODE = """
import sys, threading
from deeplabv3p.runtime import openvino_engine
openvino = openvino_engine._import()
sys.setswitchinterval(1e-6)
start = threading.Barrier(4)
def ask():
    start.wait()
    openvino.Type.f32.to_dtype()
threads = [threading.Thread(target=ask) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


def test_engines_may_start_at_the_same_moment() -> None:
    command = [sys.executable, "-c", CODE]
    for _ in range(3):
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout == "done\n"
