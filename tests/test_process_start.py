"""Processes of the project: started in one place, and none takes modules from the current folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from example_spec import SPEC

from deeplabv3p import processes

ROOT = Path(__file__).parents[1]
TRAPS = ("json", "numpy", "keras", "tensorflow", "cv2", "zipfile", "struct", "onnx", "onnxruntime", "openvino", "nncf")
TRAPS += ("_tools", "MNN", "deeplabv3p", "common", "sitecustomize", "usercustomize", "encodings", "hashlib", "PIL")


@pytest.fixture
def traps(tmp_path, monkeypatch):
    """The current folder is one with Python files that leave a mark when they are imported."""
    folder = tmp_path / "unpacked"
    folder.mkdir()
    marks = tmp_path / "marks"
    marks.mkdir()
    for name in TRAPS:
        (folder / f"{name}.py").write_text(f"open({str(marks)!r} + '/{name}', 'w')\nraise SystemExit('{name} ran')\n")
    monkeypatch.chdir(folder)
    yield folder
    assert sorted(path.name for path in marks.iterdir()) == []


def _source_files() -> list[Path]:
    found = [*ROOT.glob("*.py")]
    for folder in ("deeplabv3p", "common", "tools"):
        found += (ROOT / folder).rglob("*.py")
    return sorted(found)


@pytest.mark.parametrize("path", _source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_processes_are_started_in_one_place(path):
    if path == Path(processes.__file__):
        return
    starters = {"system", "popen", "fork", "forkpty", "startfile"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert node.attr not in starters
                assert not node.attr.startswith(("exec", "spawn", "posix_spawn"))
            continue
        for name in names:
            assert name.partition(".")[0] not in {"subprocess", "multiprocessing", "pty", "asyncio"}
            assert name not in {"concurrent.futures.process", "concurrent.futures.ProcessPoolExecutor"}


@pytest.mark.parametrize("pythonpath", [None, "", os.pathsep, ".", f".{os.pathsep}/nowhere"])
def test_a_module_is_run_without_the_current_folder(traps, monkeypatch, pythonpath):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if pythonpath is not None:
        monkeypatch.setenv("PYTHONPATH", pythonpath)
    for entry in ("", ".", str(traps)):
        monkeypatch.syspath_prepend(entry)
    done = processes.run_module("json.tool", [], input=b"[1]", capture_output=True, check=True)
    assert json.loads(done.stdout) == [1]


def test_what_such_a_process_starts_does_not_look_there_either(traps):
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import json, numpy'], check=True)"
    subprocess.run([sys.executable, "-P", "-c", code], env=processes.python_environment(), check=True)


def test_a_link_to_the_current_folder_is_the_current_folder(traps, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(traps)
    monkeypatch.syspath_prepend(link)
    processes.run_module("json.tool", [], input=b"[1]", capture_output=True, check=True)


def test_the_folder_of_the_package_stays(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT)
    assert str(ROOT) in processes.python_environment()["PYTHONPATH"].split(os.pathsep)


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.syspath_prepend("relative")
    done = processes.run_module("json.tool", [], input=b"[1]", capture_output=True, check=True, cwd=tmp_path)
    assert json.loads(done.stdout) == [1]


def test_a_tool_of_the_current_folder_is_not_taken(traps, monkeypatch):
    (traps / "git").write_text("#!/bin/sh\necho trapped\n")
    (traps / "git").chmod(0o755)
    for path in (".", "", str(traps)):
        monkeypatch.setenv("PATH", os.pathsep.join([path, os.environ["PATH"]]))
    done = processes.run_tool("git", ["--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"git version")
    monkeypatch.setenv("PATH", str(traps))
    with pytest.raises(FileNotFoundError, match="no program 'git'"):
        processes.run_tool("git", ["--version"])


def test_probing_a_file_imports_nothing_from_the_current_folder(traps, tmp_path, monkeypatch):
    """What opening a model for a device does: ``.tflite`` and the like are first opened in a process of their own."""
    from deeplabv3p.errors import DataError
    from deeplabv3p.runtime import probe

    monkeypatch.setenv(probe.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(probe.TRUST_VARIABLE, raising=False)
    path = traps / "model.tflite"
    path.write_bytes(b"no model")
    probe.check(path, "tflite", SPEC)  # the error is reported well, so that is no crash
    probe.remember(path, "tflite")
    with pytest.raises(DataError, match="refused"):
        probe.check(path, "no_such_runtime", SPEC)


def test_a_function_in_a_process_of_its_own_imports_nothing_from_the_current_folder(traps):
    from deeplabv3p.evaluation import isolation

    assert isolation.call(_nothing) is None


def _nothing(send):
    import json  # noqa: F401 - the one of the current folder would end this process

    import numpy as np  # noqa: F401


@pytest.mark.parametrize("pythonpath", ["", os.pathsep, "."])
@pytest.mark.parametrize("script", ["deeplab.py", "tools/dataset_converter/stats.py"])
def test_commands_import_nothing_from_the_current_folder_even_where_it_is_on_the_path(traps, script, pythonpath):
    """``export PYTHONPATH=$PYTHONPATH:folder`` leaves an empty entry, which means the current folder. What Python
    imports before a command begins is out of our hands."""
    for early in ("encodings", "sitecustomize", "usercustomize", "struct", "deeplabv3p", "common"):
        (traps / f"{early}.py").unlink()
    path = f"{pythonpath}{os.pathsep}/nowhere" if pythonpath else pythonpath
    environment = os.environ | {"PYTHONPATH": path}
    words = {"deeplab.py": ["--image", "none.png", "--model_path", "none.onnx"]}.get(script, [])
    words = words or ["--dataset_path", "none", "--dataset_file", "none.txt", "--classes_path", "none.txt"]
    done = subprocess.run([sys.executable, str(ROOT / script), *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert done.stderr.startswith("error: ")
