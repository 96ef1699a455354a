"""What a dataset holds: shares of pixels and pictures, sizes, what occurs together, and the balanced loss's weights."""

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

EPILOG = """Writes stats.json, classes.csv, together.csv, charts and report.html into the output folder. The weights are
those of train.py --weighted_type balanced on the same list."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV.
    from common.dataset_report import statistics_sections, statistics_table, write_statistics
    from common.report import run_section, write_report
    from deeplabv3p.data.stats import dataset_statistics

    dataset = dataset_flags.open_from(options)
    with ConsoleProgress("count", "label maps") as progress:
        found = dataset_statistics(dataset, progress=progress)
    write_statistics(folder, found)
    report = write_report(folder, "Dataset", [*statistics_sections(folder, found), run_section()])
    print(statistics_table(found))
    print(f"report: {report}, with stats.json, classes.csv, together.csv and charts beside it")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    dataset_flags.add(parser)
    parser.add_argument("--output_path", type=Path, default=Path("stats"), metavar="DIR", help="folder for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
