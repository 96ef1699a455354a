"""Look at a dataset: a contact sheet, and an HTML gallery with overlays, with predictions the worst first."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli, dataset_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from common.console import ConsoleProgress
from common.runs import check_output_folder
from deeplabv3p.errors import UsageError

if TYPE_CHECKING:
    from common.dataset_gallery import Order, PictureCards
    from deeplabv3p.data.dataset import Dataset
    from deeplabv3p.progress import Progress

EPILOG = """Writes gallery.html (and gallery_2.html, … where the pictures are more than a page of 25 MB holds) and
contact_sheet.png. The pages need no network: everything is inside."""

_SHEET_PICTURES = 48


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV.
    from common.dataset_gallery import PictureCards, contact_sheet
    from common.gallery_page import write_gallery
    from deeplabv3p import visualize

    predicted = options.predictions is not None or options.model_path is not None
    order: Order = options.order or ("wrong" if predicted else "list")
    if order != "list" and not predicted:
        raise UsageError(f"--order {order} needs --predictions or --model_path. Without them the order is the list's.")
    dataset = _open(options)
    total = len(dataset)
    if order == "list":
        dataset = dataclasses.replace(dataset, samples=dataset.samples[: options.limit])
    cards = PictureCards(
        dataset.classes, order=order, limit=options.limit, side=options.side, ignored=dataset.ignored_class
    )
    with ConsoleProgress("browse", "pictures") as progress:
        _collect(dataset, options, cards, progress)
    shown = cards.cards()
    words = {"list": "in the order of the list", "wrong": "the largest share of wrong pixels first"}
    how = words.get(order, "the lowest mIoU first")
    note = f"{dataset.source}: {len(shown):,} of {total:,} pictures, {how}. A click on a picture enlarges it."
    pages = write_gallery(folder / "gallery.html", "Dataset", note, dataset.classes, shown)
    sheet = folder / "contact_sheet.png"
    visualize.save_image(sheet, contact_sheet(dataset, cards.indexes()[:_SHEET_PICTURES]))
    if len(shown) < total:
        print(f"{len(shown):,} of {total:,} pictures are shown, {how}; --limit shows more")
    print(f"contact sheet: {sheet}\ngallery: {pages[0]}{f' and {len(pages) - 1} more pages' if pages[1:] else ''}")


def _open(options: argparse.Namespace) -> Dataset:
    """The dataset, with the model's classes where neither a flag nor the dataset names others."""
    from common.classes import resolve
    from common.network import agreed_classes, find_artifact

    if options.model_path is None or resolve(options.classes_path, options.dataset_path) is not None:
        return dataset_flags.open_from(options)
    return dataset_flags.open_from(options, agreed_classes(find_artifact(options.model_path, options)[1], None))


def _collect(dataset: Dataset, options: argparse.Namespace, cards: PictureCards, progress: Progress) -> None:
    """Give every picture to the cards, with its prediction if there is one."""
    from deeplabv3p.evaluation.predictions import evaluate_predictions, find_predictions

    if options.predictions is not None:
        paths = find_predictions(dataset, options.predictions)
        evaluate_predictions(dataset, paths, protocol="", progress=progress, on_picture=cards.add)
    elif options.model_path is not None:
        _predict(dataset, options, cards, progress)
    else:
        for index, sample in enumerate(dataset.samples):
            cards.add(sample, *dataset.load(index))
            progress(index + 1, len(dataset))


def _predict(dataset: Dataset, options: argparse.Namespace, cards: PictureCards, progress: Progress) -> None:
    from common.classes import resolve
    from common.network import agreed_classes, find_artifact
    from deeplabv3p.evaluation.score import evaluate, open_engines

    artifact, spec = find_artifact(options.model_path, options)
    agreed_classes(spec, resolve(options.classes_path, options.dataset_path))
    with contextlib.ExitStack() as opened:
        engines = open_engines(artifact, spec, threads=options.threads)
        for engine in engines:
            opened.callback(engine.close)
        evaluate(engines[0], dataset, workers=engines[1:], progress=progress, on_picture=cards.add)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = cli.Parser(__doc__, EPILOG)
    dataset_flags.add(parser)
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    predictions_help = "folder of predicted label PNGs, NAME.png or NAME_label.png (default: none)"
    source.add_argument("--predictions", metavar="DIR", help=predictions_help)
    model_help = "model that predicts, as path[@runtime[:device]] (default: none)"
    source.add_argument("--model_path", metavar="FILE", help=model_help)
    add("--threads", type=cli.integer(1), metavar="N", help="CPU threads of the model (default: all)")
    order_help = (
        "list: as listed; wrong: the most wrong pixels first; miou: the lowest mIoU first (default: wrong with "
    )
    add("--order", choices=("list", "wrong", "miou"), help=f"{order_help}predictions, else list)")
    limit_help = "show at most N pictures, the first of the order; each takes about 25 kB"
    add("--limit", type=cli.integer(1, 20_000), default=2000, metavar="N", help=limit_help)
    side_help = "longer side of a picture on the page"
    add("--side", type=cli.integer(64, 2048), default=320, metavar="PX", help=side_help)
    add("--output_path", type=Path, default=Path("browse"), metavar="DIR", help="folder for the results")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
