"""One trained model at other input sizes and output strides, flipped or not: dump each, score each, one table.

Every variant is scored on the validation and on the test list; a choice between variants is to be made on the former.

    python benchmarks/dumps.py --model_path logs/000/best.keras --dataset_path CAMVID --output benchmarks/camvid.json
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

import deeplab
import eval as evaluation
from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.runtime.artifact import load_spec

FLIP = "flip"
VARIANTS = ("360x480/16", "360x480/8", "360x480/32", "513x385/16", "720x960/16")


def main() -> None:
    options = _parse()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for variant in options.variants:
            size, stride, *flip = variant.split("/")
            model = Path(folder) / f"{size}-os{stride}.keras"
            dump = ["--model_path", str(options.model_path), "--dump_model", "--output_model_file", str(model)]
            if not model.exists():  # it is there for the same size without or with flip
                deeplab.main([*dump, "--model_input_shape", size, "--output_stride", stride])
            row: dict[str, Any] = {"size_hw": size, "output_stride": int(stride), "flip": flip == [FLIP]}
            for split in options.splits:
                row[split] = score(model, options.dataset_path, split, Path(folder) / split, flip=row["flip"])
            rows.append(row)
    result = {
        "model": str(options.model_path.name),
        "weights_sha256": load_spec(options.model_path).provenance.weights_sha256,
        "machine": machine_facts(),
        "rows": rows,
    }
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")
    print(_table(rows, options.splits))


def score(model: Path, dataset: Path, split: str, folder: Path, *, flip: bool = False) -> dict[str, Any]:
    """What ``eval.py`` says of a model on the list ``<split>.txt`` of a dataset; its report goes into ``folder``."""
    data = ["--dataset_path", str(dataset), "--dataset_file", str(dataset / f"{split}.txt")]
    more = ["--flip"] if flip else []
    evaluation.main(["--model_path", str(model), *data, "--output_path", str(folder), *more])
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    keep = ("miou", "miou_in_truth", "classes_counted", "classes_in_truth", "pa", "mpa", "fwiou")
    keep += ("pictures", "scored_pixels", "seconds")
    iou = {item["name"]: item["iou"] for item in scores["classes"]}
    return {key: scores[key] for key in keep} | {"iou": iou, "protocol": scores["protocol"]["model"]}


def compared(scores: dict[str, Any]) -> float:
    """The mIoU that a result is compared with others by: over the classes in the truth, which are the same for all.
    Results of older versions have one mIoU only; in their lists (all of CamVid and VOC) every class occurs in the truth
    and is predicted, so that both are one number."""
    score: float = scores.get("miou_in_truth", scores["miou"])
    return score


def _table(rows: list[dict[str, Any]], splits: list[str]) -> str:
    """Markdown: size, stride, flip, and for each split both mIoUs and PA; then the classes of the last split."""
    head = [
        "input",
        "output stride",
        "flip",
        *(f"{split} mIoU in truth" for split in splits),
        *(f"{split} mIoU" for split in splits),
        *(f"{split} PA" for split in splits),
    ]
    names = list(rows[0][splits[-1]]["iou"])
    lines = ["| " + " | ".join([*head, *names]) + " |", "|" + "---|" * (len(head) + len(names))]
    for row in rows:
        values = [row["size_hw"], str(row["output_stride"]), "yes" if row["flip"] else "no"]
        values += [f"{compared(row[split]):.4f}" for split in splits]
        values += [f"{row[split][key]:.4f}" for key in ("miou", "pa") for split in splits]
        values += [f"{row[splits[-1]]['iou'][name]:.3f}" for name in names]
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def _variant(text: str) -> str:
    if not re.fullmatch(rf"\d+x\d+/\d+(/{FLIP})?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not HEIGHTxWIDTH/STRIDE, or that and /{FLIP}")
    return text


def _parse() -> argparse.Namespace:
    parser = cli.Parser("Dump a model at several sizes and output strides, and score each.")
    add = parser.add_argument
    add("--model_path", type=Path, required=True, metavar="FILE", help="trained model, .keras")
    add("--dataset_path", type=Path, required=True, metavar="DIR", help="dataset folder with a list for each split")
    add("--splits", nargs="+", default=["val", "test"], metavar="NAME", help="lists to score (default: val test)")
    variants_help = "what to dump, with the mirrored picture or without (default: five)"
    add("--variants", nargs="+", type=_variant, default=list(VARIANTS), metavar="HxW/STRIDE[/flip]", help=variants_help)
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
