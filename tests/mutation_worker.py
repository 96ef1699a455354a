"""Reads mutations of one kind of file, in this process, and says what became of each: ``KIND FOLDER FIRST COUNT``.

A line for each: the seed before it is read, and what is wrong with it afterwards, if anything; ``done`` at the end."""

from __future__ import annotations

import copy
import io
import json
import sys
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from example_spec import SPEC

from deeplabv3p.errors import DeeplabError
from deeplabv3p.runtime import keras_engine, probe

TIME_LIMIT_S = 20.0  # of the processor for one file; each takes milliseconds

# What a value becomes. The texts are put into JSON as they stand.
RAW = {
    "@huge": "1" + "0" * 400, "@digits": "9" * 5000, "@nan": "NaN", "@inf": "-Infinity", "@large": "1e999",
    "@deep": "[" * 5000 + "]" * 5000, "@nested": '{"a":' * 300 + "1" + "}" * 300, "@half": '"\\ud800bad"',
    "@zero": '"\\u0000"', "@lines": '"a\\nb\\rc"', "@broken": "{",
}  # fmt: skip
VALUES: list[Any] = [
    *RAW, None, True, False, -1, 0, 1, 3, 255, 256, 65537, 1 << 31, (1 << 63) - 1, -0.0, 0.5, 1e-300, 1e300, "", "x",
    "Lambda", "layers.Lambda", "keras", "keras.layers", "keras.utils", "builtins", "classification", "NCHW", "uint8",
    "a" * 5000, "../../etc/passwd", [], {}, [[]], [1, 2, 3], {"class_name": "Lambda", "config": {}},
    {"class_name": "function", "module": "keras.utils", "config": "get_file", "registered_name": "get_file"},
]  # fmt: skip


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip, insert, repeat or exchange parts."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(changed))) if changed else 0
        part = bytes(changed[at : at + int(rng.integers(1, 64))])
        kind = rng.integers(6)
        if kind < 2 and changed:
            changed[at] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
        elif kind == 2:
            del changed[at : at + len(part)]
        elif kind == 3:
            changed[at:at] = rng.bytes(int(rng.integers(1, 16)))
        elif kind == 4:
            changed[at:at] = part * int(rng.integers(1, 50))
        else:
            del changed[at + 1 :]
    return bytes(changed)


def mutate_json(value: Any, rng: np.random.Generator) -> str:
    """Change, delete or double some values anywhere in a document; sometimes its bytes as well."""
    value = copy.deepcopy(value)
    for _ in range(rng.integers(1, 4)):
        places = _places(value)
        if not places:
            break
        container, key = places[int(rng.integers(len(places)))]
        kind = rng.integers(8)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.extend(container[:] * int(rng.integers(1, 4)))
        elif kind == 1:
            container[f"{key}{rng.integers(9)}"] = container[key]
        elif kind == 2:
            other, source = places[int(rng.integers(len(places)))]
            container[key] = copy.deepcopy(other[source]) if source in _keys(other) else None
        else:
            container[key] = copy.deepcopy(VALUES[int(rng.integers(len(VALUES)))])
    text = json.dumps(value)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text if rng.integers(10) else mutate_bytes(text.encode(), rng).decode("utf-8", "replace")


def _places(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, (dict, list)):
            keys = _keys(item)
            found += [(item, key) for key in keys]
            left += [item[key] for key in keys]
    return found


def _keys(container: Any) -> list[Any]:
    return list(container) if isinstance(container, dict) else list(range(len(container)))


# --- kinds: what reads a mutation. Each gets the folder and a random generator.


def read_spec(folder: Path, rng: np.random.Generator) -> None:
    from deeplabv3p.spec import ModelSpec

    ModelSpec.from_json(mutate_json(SPEC.to_dict(), rng), "mutated.spec.json").to_json()


def read_sidecar(folder: Path, rng: np.random.Generator) -> None:
    """The spec beside a model, or in it, read for use; and what is done first with it."""
    from deeplabv3p import pixels
    from deeplabv3p.runtime.artifact import load_spec

    model = folder / "mutated.tflite"
    model.touch()
    spec = folder / "mutated.tflite.spec.json"
    spec.write_text(mutate_json(SPEC.to_dict(), rng), encoding="utf-8", errors="replace")
    found = load_spec(model)
    if found.input.size_hw is None or max(found.input.size_hw) <= 4096:
        with np.errstate(all="ignore"):  # means and deviations beyond float32 are numbers all the same
            pixels.prepare(np.zeros((24, 32, 3), np.uint8), found.input)


def read_classes(folder: Path, rng: np.random.Generator) -> None:
    from deeplabv3p.data.classes import load_classes

    files = [
        b"sky 1 2 3\nroad 4 5 6\ncar 7 8 9\n",
        b"1 2 3 sky\n4 5 6 road\n",
        b"name,r,g,b\nsky,1,2,3\nroad,4,5,6\n",
        b"# label:color_rgb:parts:actions\nsky:1,2,3::\nroad:4,5,6::\n",
        "0: Straße\n1: ciel bleu\n2: 空\n".encode(),
        b"sky #010203\nroad #0a0b0c\n",
    ]
    path = folder / "mutated.txt"
    text = files[int(rng.integers(len(files)))]
    for old in (b"1", b"sky", b",", b":"):
        if not rng.integers(6):
            new = [b"9" * 5000, b"\xff", b"\xc2\xb2", b"\0", b"\r", b"\xed\xa0\x80", b"1e400", b"-", b"\t"]
            text = text.replace(old, new[int(rng.integers(len(new)))])
    path.write_bytes(mutate_bytes(text, rng))
    load_classes(path)


def read_keras_config(folder: Path, rng: np.random.Generator) -> None:
    """The check alone, on descriptions of real networks."""
    from deeplabv3p.runtime.keras_safety import check_model_file

    _mutate_archive(folder, rng, {"config.json"})
    check_model_file(folder / "mutated.keras")


def read_keras(folder: Path, rng: np.random.Generator) -> None:
    from deeplabv3p.runtime.artifact import find_spec
    from deeplabv3p.runtime.keras_engine import load_model

    _mutate_archive(folder, rng, {"config.json", "model.weights.h5", "spec.json", "metadata.json", ""})
    find_spec(folder / "mutated.keras")
    load_model(folder / "mutated.keras")


def read_weights(folder: Path, rng: np.random.Generator) -> None:
    from deeplabv3p.weights.load import read_source

    suffix = (".keras", ".h5", ".weights.h5", ".npz")[int(rng.integers(4))]
    path = folder / f"mutated{suffix}"
    path.write_bytes(mutate_bytes((folder / f"m{suffix}").read_bytes(), rng))
    read_source(path)


def read_h5(folder: Path, rng: np.random.Generator) -> None:
    import h5py

    from deeplabv3p.runtime.keras_engine import load_model

    path = folder / "mutated.h5"
    path.write_bytes((folder / "m.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        text = mutate_json(json.loads(file.attrs["model_config"]), rng)
        file.attrs["model_config"] = text.replace("\0", "")
    load_model(path)


def _mutate_archive(folder: Path, rng: np.random.Generator, members: set[str]) -> None:
    """One member another, or the bytes of the whole ("")."""
    chosen = sorted(members)[int(rng.integers(len(members)))]
    content = (folder / "m.keras").read_bytes()
    if chosen:
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
            for name in old.namelist():
                data: str | bytes = old.read(name)
                if name == chosen:
                    data = mutate_json(json.loads(data), rng) if name.endswith(".json") else mutate_bytes(data, rng)
                new.writestr(name, data)
        content = changed.getvalue()
    else:
        content = mutate_bytes(content, rng)
    (folder / "mutated.keras").write_bytes(content)


KINDS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "spec": read_spec,
    "sidecar": read_sidecar,
    "classes": read_classes,
    "keras config": read_keras_config,
    "keras": read_keras,
    "h5": read_h5,
    "weights": read_weights,
}
"""By name; ``NEEDS_MODELS`` want ``m.keras``, ``m.h5``, ``m.weights.h5`` and ``m.npz`` in the folder."""
NEEDS_MODELS = {"keras config", "keras", "h5", "weights"}


def main() -> None:
    """Read the mutations of the seeds that are named."""
    kind, folder, first, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    probe.limit_memory()
    if kind in {"keras", "h5"}:
        keras_engine.import_keras()  # takes seconds, which are none of the first file's
    for seed in range(first, first + count):
        print(f"seed {seed}", flush=True)
        started = time.process_time()
        try:
            KINDS[kind](folder, np.random.default_rng(seed))
        except DeeplabError as error:
            if "\n" in str(error) or len(str(error)) > 1000:
                print(f"bad {seed}: not one short line: {str(error)[:300]!r}", flush=True)
        except BaseException as error:
            text = "".join(traceback.format_exception(error))
            print(f"bad {seed}: {json.dumps(text[-1500:])}", flush=True)
        if time.process_time() - started > TIME_LIMIT_S:
            print(f"bad {seed}: it took {time.process_time() - started:.0f} s", flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main()
