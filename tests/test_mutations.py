"""Ten thousand mutations of what people send each other: each is read, or is one line of ours. They are read in
processes of their own, because a library could crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mutation_worker
import numpy as np
import pytest

from deeplabv3p.evaluation import isolation

ROOT = Path(__file__).parents[1]

MANY = {"spec": 3000, "sidecar": 1500, "classes": 2500, "keras config": 1200, "keras": 500, "h5": 300, "weights": 1000}
FEW = {"spec": 150, "sidecar": 60, "classes": 150, "keras config": 50, "weights": 50, "keras": 6, "h5": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole files that mutations are made of."""
    folder = tmp_path_factory.mktemp("mutations")
    isolation.call(_write_models, folder)  # Keras stays out of this process
    return folder


def _write_models(send: object, folder: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent / "runtime"))
    import tiny_model

    from deeplabv3p.runtime.keras_engine import save_model

    model = tiny_model.make_model((16, 16))
    for suffix in (".keras", ".h5"):
        save_model(model, tiny_model.make_spec((16, 16)), folder / f"m{suffix}")
    model.save_weights(folder / "m.weights.h5")
    arrays = {"features.0.0.weight": np.zeros((8, 3, 3, 3), np.float32), "features.0.1.weight": np.ones(8, np.float32)}
    np.savez(folder / "m.npz", **arrays)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        *FEW.items(),
        *(pytest.param(kind, count, marks=pytest.mark.slow, id=f"{kind}-many") for kind, count in MANY.items()),
    ],
)
def test_mutations_are_read_or_refused_in_one_line(
    kind: str, count: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place = request.getfixturevalue("folder") if kind in mutation_worker.NEEDS_MODELS else tmp_path
    command = [sys.executable, str(Path(__file__).with_name("mutation_worker.py")), kind, str(place), "0", str(count)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    seeds = [line for line in lines if line.startswith("seed ")]
    assert lines[-1:] == ["done"], f"{seeds[-1:]} ended the process with {done.returncode}: {done.stderr[-2000:]}"
    assert [line for line in lines if line.startswith("bad ")] == []
    assert len(seeds) == count


def test_the_mutations_do_something() -> None:
    """Some are harmless, most are not; and they are the same everywhere."""
    rng = np.random.default_rng
    texts = {mutation_worker.mutate_json({"a": [1, {"b": "c"}]}, rng(seed)) for seed in range(200)}
    assert len(texts) > 50
    assert mutation_worker.mutate_json([1, 2], rng(3)) == mutation_worker.mutate_json([1, 2], rng(3))
    assert sum(MANY.values()) >= 10_000
