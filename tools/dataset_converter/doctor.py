"""Examine a dataset before it costs a night: what is wrong with it, the worst first, why it matters, and what to do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder
from deeplabv3p.errors import DataError

if TYPE_CHECKING:
    from deeplabv3p.data.doctor import Diagnosis

EPILOG = """Exit code 3: training would stop, or learn something else than is meant. --fix writes a repaired copy and
examines that, too; the exit code is then the copy's. The dataset itself is only read. docs/doctor.md explains every
finding."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parse(argv)
    folder = None if options.output_path is None else check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV.
    from common.doctor_report import diagnosis_text, repairs_text
    from deeplabv3p.data.doctor import repair

    diagnosis = _examine(options, options.dataset, options.dataset_file, "examine")
    print(diagnosis_text(diagnosis))
    if folder is not None:
        _write(folder, diagnosis)
    if options.fix is None:
        return 0 if diagnosis.healthy else DataError.exit_code
    if diagnosis.healthy and not any(item.fixable for item in diagnosis.findings):
        print("nothing to repair, nothing written")
        return 0
    with ConsoleProgress("repair", "samples") as progress:
        repairs = repair(diagnosis, options.fix, progress=progress)
    print(f"\n{repairs_text(repairs)}\n")
    again = _examine(options, options.fix, [], "examine the copy")
    print(diagnosis_text(again))
    return 0 if again.healthy else DataError.exit_code


def _examine(options: argparse.Namespace, dataset: Path, lists: Sequence[Path], title: str) -> Diagnosis:
    from common.classes import VOC_CLASSES, resolve
    from deeplabv3p.data.dataset import VOC_LAYOUT, find_layout
    from deeplabv3p.data.doctor import diagnose

    classes_path = resolve(options.classes_path, dataset)
    if classes_path is None and find_layout(dataset) == VOC_LAYOUT:
        classes_path = str(VOC_CLASSES)
    with ConsoleProgress(title, "samples") as progress:
        return diagnose(
            dataset,
            lists=lists,
            classes_path=classes_path,
            ignore_index=None if options.ignore_index == cli.NO_LABEL else options.ignore_index,
            picture_max=options.picture_max,
            threads=options.threads,
            progress=progress,
        )


def _write(folder: Path, diagnosis: Diagnosis) -> None:
    from common.doctor_report import diagnosis_sections, write_diagnosis
    from common.report import run_section, write_report

    found = write_diagnosis(folder, diagnosis)
    report = write_report(folder, "Dataset doctor", [*diagnosis_sections(diagnosis), run_section()])
    print(f"report: {report}, all files of each finding: {found}")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    add("dataset", type=Path, metavar="DATASET", help="dataset folder: images/ and labels/, VOC's, or lists of pairs")
    lists_help = "lists to look at, that of the training first (default: all that the folder has)"
    add("--dataset_file", type=Path, nargs="+", default=[], metavar="FILE", help=lists_help)
    classes_help = "class list, one a line (default: classes.txt of the dataset; VOC's for VOC's layout)"
    add("--classes_path", type=Path, metavar="FILE", help=classes_help)
    ignore_help = f"label number that counts for nothing, as in train.py; {cli.NO_LABEL}: there is none"
    add("--ignore_index", type=cli.label_or_none, default=255, metavar="LABEL", help=ignore_help)
    cli.add_picture_max(add, "65535; a finding where that looks wrong")
    add("--output_path", type=Path, metavar="DIR", help="folder for doctor.json and report.html with example crops")
    add("--fix", type=Path, metavar="DIR", help="write a repaired copy into this new folder, and say what was done")
    add("--threads", type=cli.integer(1, 256), default=2, metavar="N", help="threads that decode")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
