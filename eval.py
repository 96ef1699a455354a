"""Score a model on a dataset, at each picture's own resolution: PA, MPA, mIoU, FWIoU and the IoU of every class."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli, inference_flags, spec_flags
from common.console import ConsoleProgress
from common.runs import check_output_folder

if TYPE_CHECKING:
    from common.report import Gallery
    from deeplabv3p.data.dataset import Sample
    from deeplabv3p.evaluation.score import Evaluation, PictureCallback, Pixels
    from deeplabv3p.spec import ClassInfo, ModelSpec


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV, and the engine when the model is opened.
    from common.classes import described, with_own
    from common.network import agreed_spec, find_artifact
    from common.report import Gallery, evaluation_sections, run_section, write_report, write_scores
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.data.decode import Oddities
    from deeplabv3p.evaluation.score import evaluate, open_engines
    from deeplabv3p.inference import protocol

    options = with_own(options)
    artifact, own_spec = find_artifact(options.model_path, options)
    spec, class_list = agreed_spec(own_spec, options, artifact.path)
    how = inference_flags.options_from(options, spec)
    white = spec.input.picture_max
    oddities = Oddities(white, sure=options.picture_max is not None)
    dataset = open_dataset(
        options.dataset_path,
        options.dataset_file,
        class_list,
        spec.ignore_index,
        picture_max=white,
        oddities=oddities,
    )
    facts = [("Model", str(artifact.path)), *_overrides(own_spec, spec)]
    with contextlib.ExitStack() as opened:
        engines = open_engines(artifact, spec, threads=options.threads, workers=options.workers)
        for engine in engines:
            opened.callback(engine.close)
        facts.append(("Engines", str(len(engines))))
        if spec.provenance.terms:
            facts.append(("Terms of use", spec.provenance.terms))
        for name, value in facts:
            print(f"{name.lower()}: {value}")
        print(described(spec.classes, options.classes_path, options.dataset_path))
        print(f"dataset: {dataset.source}, {len(dataset)} pictures\nprotocol: {protocol(engines[0], how)}", flush=True)
        gallery = Gallery(spec.classes)
        keep = _saver(folder, spec.classes, gallery) if options.save_result else gallery.add
        with ConsoleProgress("evaluate", "pictures") as progress:
            evaluation = evaluate(
                engines[0], dataset, options=how, workers=engines[1:], progress=progress, on_picture=keep
            )
    warnings = oddities.lines()
    facts += [("Warning", warning) for warning in warnings]
    write_scores(folder, evaluation)
    report = write_report(folder, "Evaluation", [*evaluation_sections(folder, evaluation, gallery), run_section(facts)])
    print(score_table(evaluation))
    if options.save_result:
        print(f"label maps: {folder / 'labels'}, overlays: {folder / 'overlays'}")
    for warning in warnings:
        cli.warn(warning)
    print(f"report: {report}, with scores.json, scores.csv and charts beside it")


def score_table(evaluation: Evaluation) -> str:
    """The scores as lines of text: every class, then the means. Undefined ones are dashes."""
    scores = evaluation.scores
    width = max(len("class"), *(len(item.name) for item in evaluation.classes))
    lines = [f"{'class':{width}}      IoU  accuracy         pixels"]
    for label, item in enumerate(evaluation.classes):
        iou = "ignored" if label == scores.ignored else _score(scores.iou[label])
        accuracy, pixels = _score(scores.accuracy[label]), scores.pixels[label]
        lines.append(f"{item.name:{width}}  {iou:>7}  {accuracy:>8}  {pixels:13,}")
    means = (
        f"mIoU {_score(scores.miou)} over {scores.classes_counted} of {len(evaluation.classes)} classes, "
        f"mIoU in truth {_score(scores.miou_in_truth)} over {scores.classes_in_truth}, "
        f"PA {_score(scores.pa)}, MPA {_score(scores.mpa)}, FWIoU {_score(scores.fwiou)}, {scores.total:,} pixels"
    )
    lines.append(means)
    alone = [evaluation.classes[label].name for label in scores.only_predicted]
    if alone:
        counted = f"classes counted: {scores.classes_in_truth} in the truth, {len(alone)} in the prediction alone"
        lines.append(f"{counted}, with IoU 0: {', '.join(alone)}. Compare models by mIoU in truth")
    return "\n".join(lines)


def _score(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _overrides(own: ModelSpec, used: ModelSpec) -> list[tuple[str, str]]:
    """What the command line says other than the model, in words."""
    result = []
    if own.input.size_hw != used.input.size_hw and used.input.size_hw:
        result.append(("Input size", f"{cli.size_text(used.input.size_hw)} (the model leaves it open)"))
    if own.ignore_index != used.ignore_index:
        result.append(("Ignored label", f"{used.ignore_index} (the model says {own.ignore_index})"))
    if own.classes != used.classes:
        result.append(("Class colours", "those of the class file"))
    return result


def _saver(folder: Path, classes: tuple[ClassInfo, ...], gallery: Gallery) -> PictureCallback:
    """Writes each prediction as a palette PNG and laid over its picture, under the name of the sample, and passes all
    on to the gallery."""
    from common.pictures import ResultNames
    from deeplabv3p import visualize

    names = ResultNames()

    def save(sample: Sample, image: Pixels, truth: Pixels, prediction: Pixels) -> None:
        name = names.unique(sample.name)
        visualize.save_label_png(folder / "labels" / f"{name}.png", prediction, classes)
        visualize.save_image(folder / "overlays" / f"{name}.png", visualize.overlay(image, prediction, classes))
        gallery.add(sample, image, truth, prediction)

    return save


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, "Writes scores.json, scores.csv, charts and report.html into the output folder.")
    add = parser.add_argument
    add(
        "--model_path",
        required=True,
        metavar="FILE",
        help="model to score, as path[@runtime[:device]]: of any format, with or without a spec",
    )
    add(
        "--dataset_path",
        required=True,
        metavar="DIR",
        help="dataset folder: images/ and labels/, or VOC's, or of a pair list",
    )
    add("--dataset_file", required=True, metavar="FILE", help="list of the pictures to score, one a line")
    add(
        "--classes_path",
        metavar="FILE",
        help="class names, one a line, label 0 first (default: the dataset's, else the model's)",
    )
    add(
        "--ignore_index",
        type=cli.label_or_none,
        metavar="LABEL",
        help=f"number in the label files that is not scored, 0 to 65535, or {cli.NO_LABEL} (default: the model's own)",
    )
    add(
        "--model_input_shape",
        type=cli.size_hw,
        metavar="HxW",
        help="input height x width in pixels, for a model that leaves its size open (default: the model's own)",
    )
    add("--output_path", type=Path, default=Path("result"), metavar="DIR", help="folder for the results")
    add("--save_result", action="store_true", help="write each label map (palette PNG) and overlay, too")
    add("--threads", type=cli.integer(1), metavar="N", help="CPU threads of all engines together (default: all)")
    workers_help = "engines that work at the same time (default: one a thread, at most 8; one where they share threads)"
    add("--workers", type=cli.integer(1, 64), metavar="N", help=workers_help)
    inference_flags.add(parser)
    spec_flags.add(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
