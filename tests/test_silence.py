"""Every command and every format: nothing reaches for a network, nothing is left in the user's folders, and nothing is
imported from the folder that they run in."""

from __future__ import annotations

import shutil
from pathlib import Path

import commands
import pytest
import silence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: nobody watches the commands"),
]

TRAPS = ("json", "numpy", "keras", "tensorflow", "cv2", "zipfile", "onnx", "onnxruntime", "openvino", "nncf", "_tools")
TRAPS += ("MNN", "deeplabv3p", "common", "sitecustomize", "usercustomize", "hashlib", "PIL", "h5py", "struct")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a model, and what ``convert`` makes of it, which the commands behind it in the table run."""
    return commands.make_folder(tmp_path_factory.mktemp("silence"))


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_commands_are_silent_and_take_nothing_from_the_current_folder(name: str, folder: Path, tmp_path: Path) -> None:
    home, work = silence.make_home(tmp_path / "home"), tmp_path / "work"
    work.mkdir()
    for trap in TRAPS:
        mark = tmp_path / f"ran-{trap}"
        (work / f"{trap}.py").write_text(f"open({str(mark)!r}, 'w')\nraise SystemExit('{trap}.py ran')\n")
    done = silence.watch(commands.words(name, folder), home, work)
    assert done.code in commands.CODES.get(name, {0}), done.text
    assert "Traceback" not in done.text
    assert done.network == []
    assert done.written == []
    assert list(tmp_path.glob("ran-*")) == []
