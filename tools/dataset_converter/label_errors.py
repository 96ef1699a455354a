"""Rank the regions of a dataset whose label is probably wrong, by the probabilities of a trained model."""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from common import cli, dataset_flags, inference_flags, spec_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder

if TYPE_CHECKING:
    from deeplabv3p.data.dataset import Dataset
    from deeplabv3p.evaluation.label_errors import SuspectLabel

EPILOG = """The model must not have been trained on these pictures, or it repeats their labels, the wrong ones, too:
train on one half and look at the other. Writes label_errors.html, a gallery, label_errors.json and label_errors.csv."""

_CONSOLE_ROWS = 10
_COLUMNS = (
    *("rank", "name", "labelled", "suggested", "score", "log_odds", "pixels"),
    *("top", "left", "bottom", "right", "label_file"),
)
_MIN_PIXELS = 64  # that of deeplabv3p.evaluation.label_errors, which imports NumPy


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV, and the engine when the model is opened.
    from common.classes import described, with_own
    from common.dataset_gallery import suspect_card
    from common.gallery_page import write_gallery
    from common.network import agreed_spec, find_artifact
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.evaluation.label_errors import find_label_errors
    from deeplabv3p.inference import protocol
    from deeplabv3p.runtime.artifact import open_artifact

    options = with_own(options)
    artifact, spec = find_artifact(options.model_path, options)
    spec, class_list = agreed_spec(spec, options, artifact.path)
    how = inference_flags.options_from(options, spec)
    dataset = open_dataset(
        options.dataset_path,
        options.dataset_file,
        class_list,
        spec.ignore_index,
        picture_max=spec.input.picture_max,
    )
    with contextlib.closing(open_artifact(artifact, threads=options.threads, spec=spec)) as runtime:
        protocol_text = protocol(runtime, how)
        print(described(spec.classes, options.classes_path, options.dataset_path))
        print(f"dataset: {dataset.source}, {len(dataset)} pictures\nprotocol: {protocol_text}", flush=True)
        with ConsoleProgress("mine", "pictures") as progress:
            found = find_label_errors(
                runtime,
                dataset,
                options=how,
                min_pixels=options.min_pixels,
                limit=options.top,
                progress=progress,
            )
    rows = [_row(rank, suspect, dataset) for rank, suspect in enumerate(found, 1)]
    _write(folder, rows, {"model": str(artifact.path), "protocol": protocol_text, "dataset": dataset.source})
    cards = [suspect_card(dataset, suspect, rank, options.side) for rank, suspect in enumerate(found, 1)]
    note = (
        f"{len(cards):,} regions of {len(dataset):,} pictures ({dataset.source}), the most suspect first: outlined is "
        "what is labelled as the first class and looks like the second to the model. It may be the model that is wrong."
    )
    pages = write_gallery(folder / "label_errors.html", "Doubtful labels", note, dataset.classes, cards)
    print(_table(rows))
    print(f"gallery: {pages[0]}, with label_errors.json and label_errors.csv beside it")


def _row(rank: int, suspect: SuspectLabel, dataset: Dataset) -> dict[str, Any]:
    doubt = suspect.doubt
    names = (dataset.classes[label].name for label in (doubt.labelled, doubt.suggested))
    figures = (round(doubt.score, 4), round(doubt.log_odds, 4), doubt.pixels)
    values = (rank, suspect.sample.name, *names, *figures, *doubt.box, str(suspect.sample.label))
    return dict(zip(_COLUMNS, values, strict=True))


def _write(folder: Path, rows: list[dict[str, Any]], facts: dict[str, Any]) -> None:
    from common.facts import versions
    from deeplabv3p import files
    from deeplabv3p.csv_text import to_csv

    files.write_text(folder / "label_errors.csv", to_csv(_COLUMNS, rows))
    content = json.dumps({**facts, "regions": rows, "versions": versions()}, indent=1, ensure_ascii=False)
    files.write_text(folder / "label_errors.json", content + "\n")


def _table(rows: Sequence[dict[str, Any]]) -> str:
    if not rows:
        return (
            "no region is doubted: wherever the model differs from the labels, the region is smaller than --min_pixels"
        )
    lines = [
        f"{row['rank']:3}  {row['name']}: {row['labelled']}, perhaps {row['suggested']}; {row['pixels']:,} pixels "
        f"at row {row['top']}, column {row['left']}; score {row['score']:.1f}"
        for row in rows[:_CONSOLE_ROWS]
    ]
    more = [f"     … {len(rows) - _CONSOLE_ROWS} more"] if len(rows) > _CONSOLE_ROWS else []
    return "\n".join(lines + more)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    model_help = "trained model, as path[@runtime[:device]], that has not seen these pictures"
    add("--model_path", required=True, metavar="FILE", help=model_help)
    dataset_flags.add(parser, classes_required=False)
    size_help = "input height x width in pixels, for a model that leaves its size open (default: the model's own)"
    add("--model_input_shape", type=cli.size_hw, metavar="HxW", help=size_help)
    add("--top", type=cli.integer(1, 10_000), default=200, metavar="N", help="regions to report")
    add("--min_pixels", type=cli.integer(2), default=_MIN_PIXELS, metavar="N", help="size of the smallest region")
    side_help = "longer side of a region's picture on the page"
    add("--side", type=cli.integer(64, 2048), default=320, metavar="PX", help=side_help)
    add("--output_path", type=Path, default=Path("label_errors"), metavar="DIR", help="folder for the results")
    add("--threads", type=cli.integer(1), metavar="N", help="CPU threads of the model (default: all)")
    inference_flags.add(parser)
    spec_flags.add(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
