"""The C++ runner beside deeplab.py: do they give the same mask, and what do they cost?

- parity: a network in several formats and precisions, on 50 pictures of odd sizes cut from photographs; pixels whose
  label in C++ is not that of Python with the same file.
- stages: the network at 512x512: milliseconds of preparing, of the network and of labelling, per engine.
- labels: from the network's own output to labels, by the library and plainly (all classes resized, then argmax), at the
  output's own stride and at stride 4, with the peak memory of each.
- programs: seconds and peak memory from start to end for one picture and for all 50, in C++ and in Python.

    make device
    python benchmarks/device.py --model_path MODEL.keras --output benchmarks/device.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import DataError, DeeplabError
from deeplabv3p.export.export import Target, export_many
from deeplabv3p.export.formats import ExportOptions
from deeplabv3p.inference import predict, predict_logits
from deeplabv3p.models.factory import rebuild
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec, open_artifact

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "inference/cpp/build/host"
PROGRAM, LABELS = "deeplabSegment", "deeplab_labels_benchmark"
# By name: format and options.
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "f32.tflite": ("tflite", {}),
    "int8.tflite": ("tflite", {"precision": "int8"}),
    "f32.xml": ("openvino", {}),
    "f32.onnx": ("onnx", {}),
    "f32.mnn": ("mnn", {}),
    "int8.mnn": ("mnn", {"precision": "int8"}),
}
PICTURES = 50
SPEED_SIZE = (512, 512)

Picture = npt.NDArray[np.uint8]


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = draw_pictures(folder / "pictures")
        model, spec = keras_engine.load_model(options.model_path), load_spec(options.model_path)
        own = export_files(model, spec, folder / "own", FILES, pictures)
        result: dict[str, Any] = {"model": options.model_path.name, "classes": spec.num_classes}
        result["machine"] = machine_facts()
        result["parity"] = [measure_parity(options.build, path, pictures) for path in own]
        print(json.dumps(result["parity"], indent=1))
        fast, fast_spec = rebuild(model, spec, size_hw=SPEED_SIZE)
        floats = {name: kind for name, kind in FILES.items() if name.startswith("f32")}
        speed = export_files(fast, fast_spec, folder / "speed", floats, pictures)
        photograph = draw_photograph(folder / "photograph.png")
        result["stages"] = [measure_stages(options.build, path, photograph, options.runs) for path in speed]
        print(json.dumps(result["stages"], indent=1))
        result["labels"] = measure_labels(options.build, speed[0], photograph, options.runs)
        result["programs"] = measure_programs(options.build, own[0], pictures, folder)
        print(json.dumps([result["labels"], result["programs"]], indent=1))
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")


def draw_pictures(folder: Path) -> list[Path]:
    """50 PNGs of odd sizes, pieces of scikit-image's photographs; the same ones each time."""
    from skimage import data

    photographs = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.immunohistochemistry()]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    paths = []
    for number in range(PICTURES):
        photograph = photographs[number % len(photographs)]
        height, width = (int(rng.integers(60, side + 1)) | 1 for side in photograph.shape[:2])
        top, left = (int(rng.integers(0, max(side - size, 0) + 1)) for side, size in
                     zip(photograph.shape[:2], (height, width), strict=True))  # fmt: skip
        paths.append(folder / f"{number:02}.png")
        Image.fromarray(photograph[top : top + height, left : left + width]).save(paths[-1])
    return paths


def draw_photograph(path: Path) -> Path:
    """A photograph of 480x640 pixels as PNG."""
    from skimage import data

    Image.fromarray(cv2.resize(data.coffee(), (640, 480), interpolation=cv2.INTER_AREA)).save(path)
    return path


def export_files(
    model: Any, spec: Any, folder: Path, kinds: dict[str, tuple[str, dict[str, Any]]], pictures: Sequence[Path]
) -> list[Path]:
    """Write the model in several formats; 8-bit ones are calibrated with the pictures."""
    folder.mkdir()
    targets = [Target(kind, folder / name, ExportOptions(**options)) for name, (kind, options) in kinds.items()]
    for outcome in export_many(model, spec, targets, list(pictures)):
        if isinstance(outcome, DeeplabError):
            raise outcome
    return [target.path for target in targets]


# A process counts what it was before exec as its own memory, so programs are started by a small one. It says the peak.
LAUNCHER = """import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)"""


def run(command: Iterable[object]) -> tuple[str, float, float]:
    """(standard output, seconds, peak MiB) of a program."""
    start = time.perf_counter()
    words = [sys.executable, "-S", "-c", LAUNCHER, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise DataError(f"{words[4:]} ended with {done.returncode}: {done.stderr}")
    return done.stdout, seconds, int(done.stderr.split()[-1]) / 1024


def measure_parity(build: Path, path: Path, pictures: Sequence[Path]) -> dict[str, Any]:
    """Pixels that C++ and Python label differently, the same file in the same engine with one thread each."""
    with tempfile.TemporaryDirectory() as masks:
        run([build / PROGRAM, "-m", path, "-i", pictures[0].parent, "--output", masks, "-t", 1])
        runtime = open_artifact(str(path), threads=1)
        pixels = differing = 0
        for picture in pictures:
            want = predict(runtime, read_image(picture))
            with Image.open(Path(masks) / picture.name) as mask:
                differing += int(np.count_nonzero(np.asarray(mask) != want))
            pixels += want.size
        runtime.close()
    return {"file": path.name, "pictures": len(pictures), "pixels": pixels, "differing": differing}


def measure_stages(build: Path, path: Path, picture: Path, runs: int) -> dict[str, Any]:
    """Medians of what the runner says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        command = [build / PROGRAM, "-m", path, "-i", picture, "-k", Path(folder) / "m.png", "-c", runs, "--json"]
        found = json.loads(run(command)[0])
    times = {stage: found["milliseconds"][stage]["p50"] for stage in ("prepare", "network", "labels", "whole")}
    own = (times["prepare"] + times["labels"]) / times["network"]
    return {"file": path.name, **times, "own_share": own, "peak_mib": found["peak_mib"]}


def measure_labels(build: Path, path: Path, picture: Path, runs: int) -> list[dict[str, Any]]:
    """Both ways from a network's output to the labels of a picture of the input's size."""
    runtime = open_artifact(str(path))
    logits, _ = predict_logits(runtime, read_image(picture))
    logits = np.asarray(logits, np.float32)
    if runtime.spec.output.layout == "NCHW":
        logits = logits.transpose(1, 2, 0)
    runtime.close()
    fine = cv2.resize(logits, (SPEED_SIZE[1] // 4, SPEED_SIZE[0] // 4), interpolation=cv2.INTER_CUBIC)
    rows = []
    for grid in dict.fromkeys((logits.shape[0], fine.shape[0])):
        given = logits if grid == logits.shape[0] else fine
        row: dict[str, Any] = {"grid": f"{given.shape[0]}x{given.shape[1]}", "classes": given.shape[2]}
        with tempfile.NamedTemporaryFile() as file:
            np.ascontiguousarray(given).tofile(file.name)
            for way in ("fused", "plain"):
                words = [build / LABELS, way, file.name, *given.shape, *SPEED_SIZE, runs]
                output, _, peak = run(words)
                row |= {f"{way}_ms": float(output.split()[0]), f"{way}_peak_mib": peak}
        row["times_as_fast"] = row["plain_ms"] / row["fused_ms"]
        rows.append(row)
    return rows


def measure_programs(build: Path, path: Path, pictures: Sequence[Path], folder: Path) -> list[dict[str, Any]]:
    """From start to end, the faster of two runs each."""
    rows = []
    for count, image in ((1, pictures[0]), (len(pictures), pictures[0].parent)):
        target = folder / "masks"
        given = ("--output", target)
        programs = {
            "deeplabSegment": [build / PROGRAM, "-m", path, "-i", image, "--overlay", *given],
            "deeplab.py": [sys.executable, ROOT / "deeplab.py", "--model_path", path, "--image", image, *given],
        }
        for name, command in programs.items():
            best = min((run(command)[1:] for _ in range(2)), key=lambda taken: taken[0])
            rows.append({"program": name, "pictures": count, "seconds": best[0], "peak_mib": best[1]})
            shutil.rmtree(target)
    return rows


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    model = ROOT / "weights/camvid_mobilenetv2.keras"
    add("--model_path", type=Path, default=model, metavar="FILE", help="Keras model (default: the one in weights/)")
    add("--build", type=Path, default=BUILD, metavar="DIR", help="build folder of the runner")
    add("--runs", type=cli.integer(1), default=30, metavar="N", help="runs of each timing")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
