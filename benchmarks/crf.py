"""The dense CRF in NumPy beside pydensecrf2: agreement of the labels and time, on the probabilities of a trained model.

Both get the same probabilities. The first picture is refined once more before, so that libraries are loaded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from common import cli
from common.facts import machine_facts
from common.network import find_artifact
from common.pictures import find_pictures
from deeplabv3p import files
from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import RuntimeMissingError
from deeplabv3p.inference import CrfOptions, crf, predict_scores
from deeplabv3p.runtime.artifact import open_artifact
from deeplabv3p.sampling import argmax


def main() -> None:
    options = _parse()
    try:
        from pydensecrf import densecrf
    except ImportError:
        raise RuntimeMissingError("pydensecrf2 is not installed: pip install 'deeplabv3p[crf]'") from None
    artifact, spec = find_artifact(options.model_path, options)
    runtime = open_artifact(artifact, spec=spec)
    how = CrfOptions()
    rows: list[dict[str, Any]] = []
    for path in find_pictures(options.image):
        image = read_image(path)
        probabilities = np.ascontiguousarray(np.moveaxis(predict_scores(runtime, image), 2, 0))
        energy = crf.unary_energy(probabilities)
        ways: dict[str, Callable[[], Any]] = {
            "numpy": lambda image=image, energy=energy: crf.refine_numpy(image, energy, how),
            "pydensecrf2": lambda image=image, energy=energy: crf.refine_compiled(densecrf, image, energy, how),
        }
        if not rows:
            for run in ways.values():
                run()
        row: dict[str, Any] = {"picture": path.name, "size_hw": list(image.shape[:2]), "classes": len(energy)}
        labels = {}
        for name, run in ways.items():
            start = time.perf_counter()
            labels[name] = argmax(run())
            row[f"{name}_ms"] = 1000 * (time.perf_counter() - start)
        row["agreement"] = float((labels["numpy"] == labels["pydensecrf2"]).mean())
        row["changed"] = float((labels["pydensecrf2"] != argmax(probabilities)).mean())
        rows.append(row)
        print(row, flush=True)
    pixels = [row["size_hw"][0] * row["size_hw"][1] for row in rows]
    result = {
        "agreement": float(np.average([row["agreement"] for row in rows], weights=pixels)),
        "numpy_ms_median": statistics.median(row["numpy_ms"] for row in rows),
        "pydensecrf2_ms_median": statistics.median(row["pydensecrf2_ms"] for row in rows),
        "iterations": how.iterations,
        "model": artifact.path.name,
        "rows": rows,
        "machine": machine_facts(),
    }
    print({name: value for name, value in result.items() if name not in {"rows", "machine"}})
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=2) + "\n")


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--model_path", required=True, metavar="FILE", help="model whose probabilities are refined")
    add("--classes_path", metavar="FILE", help="class names, one a line, for a model that does not tell them")
    add("--image", required=True, nargs="+", metavar="PATH", help="pictures: files, folders or 'patterns'")
    add("--output", type=Path, metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
