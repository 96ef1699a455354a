"""No engine reports to its makers: who imports those that would, and what a process with one of them does."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import silence

ROOT = Path(__file__).parents[2]
REPORTING = {"onnxruntime", "openvino", "nncf", "onnxslim", "tf2onnx"}
"""Packages that report, or import one that does."""


def _files() -> list[Path]:
    folders = [ROOT / name for name in ("deeplabv3p", "common", "tools", "benchmarks")]
    return sorted(path for folder in folders for path in folder.rglob("*.py")) + sorted(ROOT.glob("*.py"))


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in {"import_package", "import_module", "__import__", "importorskip"}:
            return {str(node.args[0].value).partition(".")[0]}
    return set()


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_reports_is_imported_silently(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own = str(path.relative_to(ROOT))
    silent = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "unreported()" in ast.unparse(node.items[0].context_expr)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        found = _imported(node) & REPORTING
        if "onnxruntime" in found:
            assert own == "deeplabv3p/runtime/onnx_import.py"
        if found & {"openvino", "nncf"}:
            assert node in silent, f"{found} is imported outside of `with unreported():`"
        if found & {"onnxslim", "tf2onnx"}:
            assert "import_onnxruntime(" in path.read_text() or "silence_onnxruntime()" in path.read_text()


def test_the_environment_is_set_before_onnxruntime_is_loaded():
    pytest.importorskip("onnxruntime")
    code = (
        "import os, sys\n"
        "seen = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.startswith('onnxruntime'): seen.append(os.environ.get('ORT_DISABLE_TELEMETRY'))\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from deeplabv3p.runtime.onnx_import import import_onnxruntime\n"
        "import_onnxruntime()\n"
        "assert set(seen) == {'1'}, seen\n"
    )
    left = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=left, check=True)


ENGINES = {
    "onnx": "from deeplabv3p.runtime.onnx_import import import_onnxruntime as go",
    "openvino": "from deeplabv3p.runtime.openvino_engine import _import as go",
    "tflite": "from ai_edge_litert.interpreter import Interpreter as go_; go = lambda: None",
    "mnn": "import MNN; go = lambda: None",
    "opencv": "import cv2; go = lambda: cv2.dnn",
}
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "ai_edge_litert", "mnn": "MNN", "opencv": "cv2"}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: nobody watches the engines")
@pytest.mark.parametrize("engine", ENGINES)
def test_loading_an_engine_is_silent(engine, tmp_path):
    """No socket, and no file in the user's folders. Sessions that run for seconds: tests/test_silence.py."""
    pytest.importorskip(PACKAGES[engine])
    home = silence.make_home(tmp_path / "home")
    code = f"{ENGINES[engine]}\ngo()\nimport time; time.sleep(0.5)"
    done = silence.watch([sys.executable, "-c", code], home, cwd=ROOT)
    assert done.code == 0, done.text
    assert done.network == []
    assert done.written == []


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_watch_sees_what_it_should(tmp_path):
    """Else its silence would mean nothing."""
    home = silence.make_home(tmp_path / "home")
    code = (
        "import socket, pathlib\n"
        "try: socket.create_connection(('127.0.0.1', 9), timeout=1)\n"
        "except OSError: pass\n"
        "pathlib.Path.home().joinpath('.deviceid').write_text('1')\n"
    )
    done = silence.watch([sys.executable, "-c", code], home, cwd=tmp_path)
    assert any("AF_INET" in line for line in done.network)
    assert done.written == [".deviceid"]
