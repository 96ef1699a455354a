"""The C++ library, asked through ``deeplab_probe`` of a build folder.

The folder is that of the environment variable DEEPLAB_DEVICE_BUILD, or ``inference/cpp/build/host``.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deeplabv3p.errors import DataError, DeeplabError, UsageError

ROOT = Path(__file__).parents[2]
ERRORS = {2: UsageError, 3: DataError}


class Probe:
    """A process that answers one job after the other; see tests/probe.cpp."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, do: str, payload: bytes = b"", /, **job: Any) -> bytes:
        """The answer's bytes. Raises what the C++ library threw as the same error of Python's."""
        text = json.dumps({"do": do} | job).encode()
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(struct.pack("=QQ", len(text), len(payload)) + text + payload)
        stdin.flush()
        head = stdout.read(16)
        assert len(head) == 16, f"the probe died of {do} {job} (exit code {self._process.wait()})"
        code, size = struct.unpack("=QQ", head)
        answer = stdout.read(size)
        if code:
            raise ERRORS.get(code, DeeplabError)(answer.decode())
        return answer

    def array(self, do: str, dtype: Any, shape: tuple[int, ...], payload: bytes = b"", /, **job: Any) -> np.ndarray:
        """The answer as an array."""
        return np.frombuffer(self.ask(do, payload, **job), dtype).reshape(shape)

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0, "the probe ended with an error: see what it wrote"


@pytest.fixture(scope="session")
def probe():
    build = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", ROOT / "inference/cpp/build/host"))
    path = build / "deeplab_probe"
    if not path.is_file():
        pytest.skip(f"the C++ library is not built: there is no {path} (set DEEPLAB_DEVICE_BUILD)")
    opened = Probe(path)
    yield opened
    opened.close()
