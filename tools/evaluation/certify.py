"""Prove that model files do what their reference does: logits, labels, mIoU, latency, size, memory, and a verdict."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli, spec_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder
from deeplabv3p.errors import BudgetError, RuntimeMissingError, UsageError
from deeplabv3p.evaluation.budget import DEFAULTS, MEASURES, parse_budgets

if TYPE_CHECKING:
    from deeplabv3p.data.classes import ClassList
    from deeplabv3p.data.dataset import Dataset
    from deeplabv3p.evaluation.certify import Candidate, Certificate, Row

EPILOG = """Without OTHER, and with --runtimes, files are exported from REFERENCE (a Keras model) into OUTPUT/models,
where they are not there yet. Writes certificate.json, .csv, .md, latency_miou_size.png and report.html. Exit codes: 4
where a budget is missed, 5 where what was asked for by name was skipped. docs/certify.md explains all."""

SAMPLES = 100
TRAINING_LIST = "train.txt"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    if options.chart:
        _draw(options.chart, folder)
        return
    budgets = parse_budgets(options.budget)
    # Only now: these import NumPy and OpenCV. Engines are imported by the processes that run them.
    from common.certificate import print_table, summary, write_certificate
    from common.classes import described, with_own
    from common.network import agreed_spec, find_artifact
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.evaluation.candidates import given
    from deeplabv3p.evaluation.certify import certify

    options = with_own(options)
    artifact, own_spec = find_artifact(options.reference, _flags_for(options.reference, options))
    spec, class_list = agreed_spec(own_spec, options, artifact.path)
    whole = open_dataset(
        options.dataset_path,
        options.dataset_file,
        class_list,
        spec.ignore_index,
        picture_max=spec.input.picture_max,
    )
    dataset = _limited(whole, options.limit)
    reference = given(artifact, spec)
    others: list[Candidate | Row] = [given(*find_artifact(text, _flags_for(text, options))) for text in options.others]
    print(described(spec.classes, options.classes_path, options.dataset_path))
    print(f"reference: {artifact.path}\ndataset: {dataset.source}, {len(dataset)} pictures", flush=True)
    if options.runtimes or not others:
        others += _exported(options, reference, class_list, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with ConsoleProgress("certify", "pictures") as progress:
        certificate = certify(
            reference,
            others,
            dataset,
            budgets=budgets,
            threads=options.threads,
            seconds=options.seconds,
            bisect=options.bisect,
            folder=folder,
            progress=progress,
        )
    report = write_certificate(folder, certificate)
    print_table(certificate)
    print(f"{summary(certificate)}\nreport: {report}, with certificate.json, .csv, .md and the chart beside it")
    _conclude(certificate)


def _conclude(certificate: Certificate) -> None:
    """Turn the verdicts into the exit code.

    Raises:
        BudgetError: a file failed.
        RuntimeMissingError: none failed, but something that was asked for was skipped.
    """
    failed = certificate.with_verdict("FAIL")
    if failed:
        names = ", ".join(f"{row.name} ({row.runtime})" for row in failed)
        raise BudgetError(f"{len(failed)} of {len(certificate.rows) - 1} files failed: {names}. The table says why.")
    skipped = [row for row in certificate.with_verdict("skipped") if row.asked]
    if skipped:
        named = ", ".join(f"{row.name} ({row.runtime} {row.precision})" for row in skipped)
        reasons = "; ".join(dict.fromkeys(row.reasons[0] for row in skipped))
        verb = "was" if len(skipped) == 1 else "were"
        raise RuntimeMissingError(f"{named} {verb} asked for and skipped, which is not passed: {reasons}.")


def _flags_for(text: str, options: argparse.Namespace) -> argparse.Namespace | None:
    """The flags that describe a model, for a file that has no spec of its own; a spec's word is not changed here."""
    from deeplabv3p.runtime.artifact import find_spec, parse_artifact

    return options if find_spec(parse_artifact(text).path) is None else None


def _exported(
    options: argparse.Namespace, reference: Candidate, class_list: ClassList, folder: Path
) -> list[Candidate | Row]:
    """The files that are exported from the reference."""
    from deeplabv3p.evaluation.candidates import export_missing, parse_wishes

    if reference.artifact.runtime != "keras":
        raise UsageError(
            f"{reference.artifact.path} is not a Keras model, so nothing can be exported from it. Name the files to "
            "compare with it."
        )
    wishes = parse_wishes(options.runtimes, options.precisions)
    pictures, source = _calibration(options, reference, class_list)
    print(f"exports: {', '.join(f'{wish.runtime} {wish.precision}' for wish in wishes)}", flush=True)
    print(f"calibration: {source}", flush=True)
    with ConsoleProgress("export", "files") as progress:
        return export_missing(
            reference.artifact.path, reference.spec, wishes, folder / "models", pictures, source, progress
        )


def _calibration(
    options: argparse.Namespace, reference: Candidate, class_list: ClassList
) -> tuple[list[Path] | None, str]:
    """Pictures for int8, and where they are from: --calibration_file, else the training list beside the pictures' own
    list. Never the pictures that are scored."""
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.export.calibration import draw

    listed = options.calibration_file
    if listed is None:
        own = Path(options.dataset_file)
        places = (own.parent, Path(options.dataset_path) / own.parent)
        found = [place / TRAINING_LIST for place in places if (place / TRAINING_LIST).is_file()]
        if own.name == TRAINING_LIST or not found:
            return None, "none, so that int8 is skipped (--calibration_file names pictures)"
        listed = str(found[0])
    samples = open_dataset(options.dataset_path, listed, class_list, reference.spec.ignore_index).samples
    drawn = draw([sample.image for sample in samples], min(options.sample_num, len(samples)), listed)
    return drawn, f"{len(drawn)} pictures of {listed}"


def _limited(dataset: Dataset, limit: int | None) -> Dataset:
    """At most ``limit`` pictures, evenly spread over the list."""
    if limit is None or limit >= len(dataset):
        return dataset
    from deeplabv3p.export.calibration import draw

    source = f"{dataset.source} ({limit} of {len(dataset)}, evenly spread)"
    return dataclasses.replace(dataset, samples=tuple(draw(dataset.samples, limit, source)), source=source)


def _draw(paths: Sequence[Path], folder: Path) -> None:
    """One chart of several certificates."""
    from common.certificate import CHART_PNG, chart_points, read_certificate
    from deeplabv3p.charts import trade_off_chart

    points = chart_points([read_certificate(path) for path in paths])
    trade_off_chart(folder / CHART_PNG, points)
    print(f"written: {folder / CHART_PNG}, {len(points)} files of {len(paths)} certificates")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    add = parser.add_argument
    add(
        "reference",
        nargs="?",
        metavar="REFERENCE",
        help="model that the others should equal, as path[@runtime[:device]] (default: none, for --chart only)",
    )
    add(
        "others",
        nargs="*",
        metavar="OTHER",
        help="files to compare with it, named alike (default: exports of the reference)",
    )
    add("--dataset_path", metavar="DIR", help="dataset folder: images/ and labels/, or VOC's, or of a pair list")
    add("--dataset_file", metavar="FILE", help="list of the pictures to run, one a line")
    add(
        "--classes_path",
        metavar="FILE",
        help="class names, one a line, label 0 first (default: the dataset's, else the reference's)",
    )
    add(
        "--ignore_index",
        type=cli.label_or_none,
        metavar="LABEL",
        help=f"number in the label files that is not scored, or {cli.NO_LABEL} (default: the reference's own)",
    )
    add(
        "--model_input_shape",
        type=cli.size_hw,
        metavar="HxW",
        help="input height x width in pixels, for a reference that leaves its size open (default: its own)",
    )
    add(
        "--runtimes",
        metavar="LIST",
        help="what to export and run: onnx,tflite:int8,… (default: every runtime and precision; those that cannot be "
        "had are skipped)",
    )
    add("--precisions", metavar="LIST", help=f"of exports: {','.join(DEFAULTS)} (default: all that a runtime has)")
    add(
        "--budget",
        metavar="LIST",
        help=f"NAME=VALUE or PRECISION.NAME=VALUE, with {', '.join(MEASURES)} (default: f32 agreement 99.9, int8 "
        "miou_drop 1, others miou_drop 0.5)",
    )
    add(
        "--calibration_file",
        metavar="FILE",
        help=f"list of pictures for int8, as --dataset_file (default: {TRAINING_LIST} beside that one)",
    )
    add("--sample_num", type=cli.integer(1), default=SAMPLES, metavar="N", help="calibration pictures to draw at most")
    add("--limit", type=cli.integer(1), metavar="N", help="run only N pictures, evenly spread (default: all)")
    add("--threads", type=cli.integer(1), metavar="N", help="CPU threads of every engine (default: its own choice)")
    add("--seconds", type=cli.number(0), default=3.0, metavar="S", help="how long latencies are taken for each file")
    add("--bisect", action="store_true", help="name the layer where a file that fails leaves the reference")
    add(
        "--chart",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="only draw latency, mIoU and size of several certificate.json in one chart (default: off)",
    )
    add("--output_path", type=Path, default=Path("certificate"), metavar="DIR", help="folder for the results")
    spec_flags.add(parser)
    options = parser.parse_intermixed_args(argv)  # flags may stand between the models
    if options.chart is None:
        needed = ("reference", "dataset_path", "dataset_file")
        missing = [name for name in needed if getattr(options, name) is None]
        if missing:
            names = ", ".join(name.upper() if name == "reference" else f"--{name}" for name in missing)
            parser.error(f"missing: {names}")
    elif options.reference is not None:
        parser.error("--chart draws certificates that are there already; name no models with it")
    return options


if __name__ == "__main__":
    cli.run(main)
