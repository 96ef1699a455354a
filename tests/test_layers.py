"""Who imports whom: each part of the project imports only parts above it, and light parts import nothing heavy."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each row may import the rows above it. Parts of one row do not import each other.
ROWS = [
    {"errors"},
    {"files", "csv_text", "progress", "backend", "processes"},
    {"documents", "archives", "hdf5"},
    {"spec"},
    {"sampling", "colors", "fonts"},
    {"pixels"},
    {"data", "models", "weights", "losses", "metrics", "visualize", "charts"},
    {"runtime"},
    {"export"},
    {"inference"},
    {"evaluation"},
    {"training"},
    {"common"},
    {"train", "eval", "deeplab", "tools", "benchmarks"},
]
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
# The demo and some benchmarks run the commands themselves.
SCRIPTS_OF_SCRIPTS = {(own, script) for own in ("tools", "benchmarks") for script in ("train", "eval", "deeplab")}

HEAVY = {"keras", "tensorflow", "jax", "torch"}
KERAS_PARTS = {"models", "losses", "training"}  # may import Keras at the top; everything else only when it is needed


def _part(module: str) -> str | None:
    """The part of the project that a module is of; None for other packages."""
    names = module.split(".")
    if names[0] == "deeplabv3p":
        return names[1] if len(names) > 1 else "deeplabv3p"
    return names[0] if names[0] in LEVEL else None


def _files() -> list[Path]:
    found = [*ROOT.glob("*.py")]
    for folder in ("deeplabv3p", "common", "tools", "benchmarks"):
        found += (ROOT / folder).rglob("*.py")
    return sorted(found)


def _imports(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide who imports whom"
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_up(path):
    own = _part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in _imports(ast.parse(path.read_text(encoding="utf-8"))):
        other = _part(module)
        if other in (None, own, "deeplabv3p") or (own, other) in SCRIPTS_OF_SCRIPTS:
            continue
        if other not in LEVEL:  # a name inside the package's __init__, such as __version__
            continue
        assert own != "deeplabv3p", f"deeplabv3p/__init__.py imports {module}"
        assert LEVEL[other] < LEVEL[own], f"{own} imports {module}"


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_engines_are_imported_where_they_are_opened(path):
    """At the top of a module, only models, losses and training import Keras, and nobody imports an engine."""
    own = _part(".".join(path.relative_to(ROOT).with_suffix("").parts))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {
        name.split(".")[0]
        for node in tree.body
        for name in _imports(ast.Module([node], []))
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    allowed = {"keras"} if own in KERAS_PARTS else HEAVY if own == "benchmarks" else set()
    assert not top & HEAVY - allowed


def test_what_a_device_needs_loads_no_keras():
    code = (
        "import sys; import deeplabv3p.inference, deeplabv3p.runtime.artifact, deeplabv3p.evaluation.score; "
        "print(sorted({'keras', 'tensorflow', 'jax', 'grain', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True).strip() == "[]"


@pytest.mark.parametrize(
    ("script", "flag"),
    [
        ("train.py", "--resume"),
        ("eval.py", "--save_result"),
        ("deeplab.py", "--dump_model"),
        ("tools/demo.py", "--folder"),
        ("tools/model_converter/download_weights.py", "--offline"),
        ("tools/model_converter/import_weights.py", "--partial"),
        ("tools/model_converter/convert.py", "--output_kind"),
        ("tools/model_converter/keras_to_tensorflow.py", "--input_model"),
        ("tools/model_converter/keras_to_onnx.py", "--inputs_as_nchw"),
        ("tools/model_converter/keras_to_tflite.py", "--keras_model_file"),
        ("tools/model_converter/post_train_quant_convert.py", "--sample_num"),
        ("tools/benchmark.py", "--api"),
        ("tools/misc/augment_test.py", "--count"),
        ("tools/dataset_converter/dataset.py", "download"),
        ("tools/dataset_converter/doctor.py", "--fix"),
        ("tools/dataset_converter/stats.py", "--classes_path"),
        ("tools/dataset_converter/browse.py", "--predictions"),
        ("tools/dataset_converter/label_errors.py", "--min_pixels"),
        ("tools/evaluation/onboard/semantic_segment_eval.py", "--prediction_path"),
        ("tools/evaluation/onboard/onboard_png_convert.py", "--dtype"),
        ("tools/evaluation/certify.py", "--bisect"),
        ("tools/evaluation/model_statistics.py", "--per_layer"),
        ("tools/evaluation/layer_check.py", "--layer"),
    ],
)
def test_help_is_quick_and_imports_nothing_heavy(script, flag):
    """Half a second is the promise; that nothing heavy is imported is what holds it on any machine."""
    code = (
        "import sys, runpy; sys.path.insert(0, '.'); sys.argv = [sys.argv[1], '--help']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'keras', 'tensorflow', 'jax', 'grain', 'matplotlib', 'cv2', 'numpy', 'rich', 'PIL'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", code, script], cwd=ROOT, capture_output=True, text=True)
    after = os.times()
    assert done.returncode == 0, done.stderr
    assert flag in done.stdout
    # Processor time, which other processes on the machine do not stretch; on an idle machine it is the time one waits.
    assert after.children_user - before.children_user + after.children_system - before.children_system < 0.5
