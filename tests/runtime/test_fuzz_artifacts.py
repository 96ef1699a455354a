"""Damaged model files and specs: each gives a line of ours or a result, and no process of ours dies, hangs or takes all
memory. Engines that a damaged file can crash may do so in the probe's process only."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from exported import ROUTES, Exported

from deeplabv3p.errors import DataError
from deeplabv3p.runtime import probe
from deeplabv3p.runtime.artifact import CRASHING, open_artifact
from deeplabv3p.spec import ModelSpec, sidecar_path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs limits on memory")

# How many mutations of each route's file, and as many of specs: 2,000 together. TensorFlow takes its time for each.
MANY = {
    "tflite": 300, "onnx": 300, "openvino": 180, "mnn": 300, "opencv": 300, "opencv-pb": 200, "pb": 60,
    "savedmodel": 20, "keras": 40,
}  # fmt: skip
MANY_SPECS = {"tflite": 100, "onnx": 100, "mnn": 100}
FEW = {"tflite": 25, "onnx": 25, "openvino": 10, "mnn": 25, "opencv": 25, "opencv-pb": 15}
FEW_SPECS = {"tflite": 15, "onnx": 15, "mnn": 15}

TIME_LIMIT_S = 60.0  # for one file on a busy machine; each takes milliseconds
MEMORY_LIMIT_MB = 4000  # TensorFlow alone is 800


@dataclass(frozen=True)
class Case:
    """A damaged file, or a whole one with a damaged spec."""

    runtime: str
    path: Path
    spec: Path


class Worker:
    """A process that opens files, and is started anew when one ends it."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py")), str(writing)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[writing],
            text=True,
        )
        os.close(writing)
        self._answers = os.fdopen(reading)

    def attempt(self, case: Case) -> dict[str, object] | None:
        """What became of a file; None where the process died or hung, which has ended it."""
        assert self._process.stdin is not None
        print(case.runtime, case.path, case.spec, sep="\t", file=self._process.stdin, flush=True)
        ready, _, _ = select.select([self._answers], [], [], TIME_LIMIT_S)
        line = self._answers.readline() if ready else ""
        return json.loads(line) if line else None

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._answers.close()


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Change a byte or two in place, which most parsers let through, or cut, insert and delete."""
    changed = bytearray(data)
    if rng.integers(2):
        for _ in range(rng.integers(1, 3)):
            at = int(rng.integers(len(changed)))
            changed[at] = int(rng.choice([0, 1, 127, 128, 255, changed[at] ^ (1 << int(rng.integers(8)))]))
        return bytes(changed)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(changed))) if changed else 0
        kind = rng.integers(6)
        if kind < 3:
            changed[at : at + int(rng.integers(1, 64))] = b""
        elif kind < 5:
            changed[at:at] = rng.bytes(int(rng.integers(1, 16)))
        else:
            del changed[at:]
    return bytes(changed)


def mutate_spec(spec: ModelSpec, rng: np.random.Generator) -> str:
    """Another value somewhere in the spec's JSON: of the same type, of another, or none."""
    data = spec.to_dict()
    section = data[str(rng.choice(["input", "output", "input", "output", "model"]))]
    key = str(rng.choice(list(section)))
    values = [
        None,
        -1,
        0,
        1,
        3,
        255,
        10**6,
        10**12,
        0.5,
        "NCHW",
        "uint8",
        "labels",
        "",
        [],
        [1, 1],
        [10**7, 10**7],
        True,
    ]
    values += [[64, 97], [0, 0, 0], [1e-30] * 3, "float16", "pad", "probabilities", "BGR"]
    section[key] = values[int(rng.integers(len(values)))]
    return json.dumps(data)


def damaged_files(exported: Exported, folder: Path, counts: dict[str, int]) -> list[Case]:
    cases = []
    for route, count in counts.items():
        whole = exported.path(ROUTES[route])
        for seed in range(count):
            rng = np.random.default_rng(seed)
            path = folder / f"{route}{seed}{whole.suffix}"
            if whole.is_dir():
                shutil.copytree(whole, path)
                parts = sorted(item for item in path.rglob("*") if item.is_file() and item.stat().st_size)
                part = parts[int(rng.integers(len(parts)))]
                part.write_bytes(mutate(part.read_bytes(), rng))
            else:
                path.write_bytes(mutate(whole.read_bytes(), rng))
            if whole.suffix == ".xml":
                path.with_suffix(".bin").write_bytes(whole.with_suffix(".bin").read_bytes())
            cases.append(Case(route.partition("-")[0], path, sidecar_path(whole)))
    return cases


def damaged_specs(exported: Exported, folder: Path, counts: dict[str, int]) -> list[Case]:
    cases = []
    for route, count in counts.items():
        whole = exported.path(ROUTES[route])
        for seed in range(count):
            path = folder / f"{route}{seed}.spec.json"
            path.write_text(
                mutate_spec(ModelSpec.load(sidecar_path(whole)), np.random.default_rng(seed)), encoding="utf-8"
            )
            cases.append(Case(route.partition("-")[0], whole, path))
    return cases


def attempt_all(cases: list[Case]) -> tuple[list[Case], int, int]:
    """(those that ended their process, number of errors, number of results)."""
    fatal, errors, results = [], 0, 0
    worker = Worker()
    try:
        for case in cases:
            answer = worker.attempt(case)
            if answer is None:
                fatal.append(case)
                worker.close()
                worker = Worker()
                continue
            text = str(answer["text"])
            assert answer["outcome"] != "bug", f"{case}: {text}"
            assert int(str(answer["megabytes"])) < MEMORY_LIMIT_MB, f"{case} takes {answer['megabytes']} MB"
            if answer["outcome"] == "error":
                errors += 1
                assert "\n" not in text, case
                assert case.path.name in text or case.spec.name in text, f"{case}: {text}"
            else:
                results += 1
    finally:
        worker.close()
    return fatal, errors, results


@pytest.mark.parametrize(
    ("files", "specs"),
    [pytest.param(FEW, FEW_SPECS, id="few"), pytest.param(MANY, MANY_SPECS, id="2000", marks=pytest.mark.slow)],
)
def test_damaged_models_and_specs(exported, tmp_path, monkeypatch, files, specs):
    monkeypatch.delenv(probe.TRUST_VARIABLE, raising=False)
    cases = damaged_files(exported, tmp_path, files) + damaged_specs(exported, tmp_path, specs)
    fatal, errors, results = attempt_all(cases)
    assert errors > len(cases) // 4, "the mutations must do something"
    assert results > len(cases) // 20, "and not everything"
    monkeypatch.setattr(probe, "TIME_LIMIT_S", 10.0)
    for case in fatal:
        assert case.runtime in CRASHING, f"{case} ends a process that nothing guards"
        # What did so in a process that had opened others before may be fine alone: then it is opened here.
        with contextlib.suppress(DataError):
            open_artifact(f"{case.path}@{case.runtime}", spec=ModelSpec.load(case.spec)).close()
    print(f"{len(cases)} cases: {errors} errors, {results} results, {len(fatal)} ended the process of the probe")
