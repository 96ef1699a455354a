"""Score label PNGs that a device wrote: the same numbers as eval.py for the same label maps."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

try:
    from common import cli, dataset_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder

EPILOG = """A prediction is NAME.png (or NAME_label.png) for the picture NAME of the list: a class number a pixel, grey
or palette, at the picture's own size. Writes scores.json, scores.csv, charts and report.html."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV.
    from common.report import Gallery, evaluation_sections, run_section, write_report, write_scores
    from deeplabv3p.evaluation.predictions import evaluate_predictions, find_predictions
    from eval import score_table

    dataset = dataset_flags.open_from(options)
    paths = find_predictions(dataset, options.prediction_path)
    print(f"dataset: {dataset.source}, {len(dataset)} pictures\npredictions: {options.prediction_path}", flush=True)
    gallery = Gallery(dataset.classes)
    protocol = f"label maps of {options.prediction_path}"
    with ConsoleProgress("evaluate", "pictures") as progress:
        evaluation = evaluate_predictions(dataset, paths, protocol=protocol, progress=progress, on_picture=gallery.add)
    write_scores(folder, evaluation)
    report = write_report(folder, "Evaluation", [*evaluation_sections(folder, evaluation, gallery), run_section()])
    print(score_table(evaluation))
    print(f"report: {report}, with scores.json, scores.csv and charts beside it")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    parser.add_argument("--prediction_path", required=True, metavar="DIR", help="folder of the predicted label PNGs")
    dataset_flags.add(parser)
    parser.add_argument(
        "--output_path", type=Path, default=Path("result"), metavar="DIR", help="folder for the results"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
