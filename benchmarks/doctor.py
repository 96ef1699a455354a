"""How long the dataset doctor takes and how much memory, for few and for many samples: memory must not follow them.

Each row is a process of its own that examines so many samples, all different, drawn for the purpose: JPEG pictures of
375x500 pixels and palette label maps of 21 classes, in a training and a validation list. ``memory_mib`` is the peak
resident size of the process.

    python benchmarks/doctor.py --samples 250 1000 --output result.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.data.classes import default_colors
from deeplabv3p.visualize import encode_jpeg

HEIGHT, WIDTH, CLASSES = 375, 500, 21

CHILD = """
import json, os, resource, sys
sys.path[:0] = [sys.argv[1]]
from deeplabv3p.data.doctor import diagnose
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = os.times()
found = diagnose(sys.argv[2], threads=int(sys.argv[3]))
end = os.times()
assert found.healthy, found.findings
usage = resource.getrusage(resource.RUSAGE_SELF)
row = {"samples": len(found.records), "seconds": round(found.seconds, 1)}
row["cpu_seconds"] = round(end.user - begin.user + end.system - begin.system, 1)
row |= {"memory_mib": usage.ru_maxrss // 1024, "of_it_imports_mib": base // 1024}
print(json.dumps(row))
"""


def main() -> None:
    options = _parse()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        made = 0
        for count in sorted(options.samples):
            begin = time.perf_counter()
            for index in range(made, count):
                _draw(root, index)
            made = count
            _write_lists(root, count)
            print(f"{count} samples drawn ({time.perf_counter() - begin:.0f} s)", file=sys.stderr, flush=True)
            rows.append(_examine(root, options.threads))
            print(rows[-1], flush=True)
    if options.output:
        result = {"rows": rows, "threads": options.threads, "size_hw": [HEIGHT, WIDTH], "machine": machine_facts()}
        files.write_text(options.output, json.dumps(result, indent=2) + "\n")


def _draw(root: Path, index: int) -> None:
    """A sample like no other: soft blocks with noise, and a dozen discs, which are its classes."""
    rng = np.random.default_rng(index)
    blocks = cv2.resize(rng.integers(0, 256, (8, 10, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    noise = rng.integers(0, 24, (HEIGHT, WIDTH, 3), np.uint8)
    image, label = cv2.add(blocks, noise), np.zeros((HEIGHT, WIDTH), np.uint8)
    for value in rng.integers(0, CLASSES, 12).tolist():
        center, radius = rng.integers(0, (WIDTH, HEIGHT)).tolist(), int(rng.integers(10, 90))
        cv2.circle(label, center, radius, value, cv2.FILLED)
        cv2.circle(label, center, radius, 255, 3)
        cv2.circle(image, center, radius, rng.integers(0, 256, 3).tolist(), cv2.FILLED)
    for kind in ("images", "labels"):
        (root / kind).mkdir(exist_ok=True)
    (root / "images" / f"{index:06d}.jpg").write_bytes(encode_jpeg(np.asarray(image, np.uint8), 90))
    picture = Image.fromarray(label)
    picture.putpalette([part for color in default_colors(256) for part in color])
    picture.save(root / "labels" / f"{index:06d}.png")


def _write_lists(root: Path, count: int) -> None:
    """Nine tenths to train on, spread over all numbers."""
    for split, chosen in (("train", lambda index: index % 10), ("val", lambda index: not index % 10)):
        names = "".join(f"{index:06d}\n" for index in range(count) if chosen(index))
        files.write_text(root / f"{split}.txt", names)
    files.write_text(root / "classes.txt", "".join(f"class {index}\n" for index in range(CLASSES)))


def _examine(root: Path, threads: int) -> dict[str, float]:
    repository = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", CHILD, str(repository), str(root), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    row: dict[str, float] = json.loads(done.stdout)
    return row


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    counts_help = "how many samples to examine, each number in turn (default: 250 1000)"
    parser.add_argument(
        "--samples", type=cli.integer(20), nargs="+", default=[250, 1000], metavar="N", help=counts_help
    )
    parser.add_argument("--threads", type=cli.integer(1), default=2, metavar="N", help="threads that decode")
    parser.add_argument("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
