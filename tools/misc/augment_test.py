"""Draw training samples as train.py would make them: picture, label, overlay, and what was drawn for each."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

try:
    from common import cli, recipe, train_flags
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

if TYPE_CHECKING:
    from deeplabv3p.data.augment import Parameters
    from deeplabv3p.data.pipeline import Samples
    from deeplabv3p.visualize import Pixels

EPILOG = """All flags and recipes of train.py are accepted; those that do not change the samples are not listed. With
the flags of a run these are its own samples, the first of the epoch. Only the colour outside the pictures may differ: a
run takes the mean of its network there. Ignored pixels are beige in the label map and untinted in the overlay."""

_SHOWN = ("seed", "batch_size", "total_epoch", "model_type", "model_input_shape", "crop_shape")
_HEIGHT = 240  # pixels of a row


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = recipe.parse(_parser(), argv)
    # Only now: these import NumPy, OpenCV and grain.
    import numpy as np

    from deeplabv3p import visualize

    samples, first = _samples(options)
    rows = []
    labels: set[int] = set()
    for number in range(first, first + options.count):
        index, varied = samples.make(number)
        labels |= set(np.unique(varied.label).tolist())
        classes = samples.dataset.classes
        panels = [
            varied.image,
            visualize.shown(varied.label, classes),
            visualize.overlay(varied.image, varied.label, classes),
            _table(varied.parameters, [item.name for item in classes]),
        ]
        titles = [samples.dataset.samples[index].name, "label", "overlay", "drawn"]
        rows.append(visualize.side_by_side(panels, titles, _HEIGHT))
    legend = visualize.legend(samples.dataset.classes, labels)
    width = max(part.shape[1] for part in (*rows, legend))
    sheet = [
        np.pad(part, ((0, 6), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in (*rows, legend)
    ]
    visualize.save_image(options.output, np.concatenate(sheet))
    print(f"{options.count} samples of epoch {options.epoch or options.total_epoch}\nwritten: {options.output}")


def _samples(options: argparse.Namespace) -> tuple[Samples, int]:
    """All samples of the run that the flags describe, and the number of the first one to show."""
    from common.training import make_augmentation, open_datasets
    from deeplabv3p.data.pipeline import Samples, pool_for, steps_per_epoch, usual_batch_size
    from deeplabv3p.models.registry import ModelName

    augmentation = make_augmentation(vars(options))
    dataset, _ = open_datasets(vars(options))
    size_hw = options.crop_shape or options.model_input_shape or ModelName(options.model_type).record.size_hw
    batch_size = options.batch_size or usual_batch_size(len(dataset))
    batch_size = batch_size if isinstance(batch_size, int) else 1
    an_epoch = steps_per_epoch(len(dataset), batch_size) * batch_size
    epoch = options.epoch or options.total_epoch
    samples = Samples(
        dataset,
        size_hw,
        (127.5, 127.5, 127.5),
        augmentation,
        options.seed,
        an_epoch,
        epoch + options.count // an_epoch,
        pool_for(dataset, augmentation),
    )
    return samples, (epoch - 1) * an_epoch


def _table(parameters: Parameters, names: Sequence[str]) -> Pixels:
    """A picture of what was drawn, a line each."""
    import numpy as np

    from deeplabv3p import visualize

    picture = np.full((_HEIGHT, 250, 3), 255, np.uint8)
    for line, (name, value) in enumerate(parameters.items()):
        text = value if isinstance(value, str) else f"{value:.3g}"
        kind, _, number = text.partition(" ")
        if kind == "class":
            text = names[int(number)]
        visualize.write_text(picture, f"{name}: {text}", (6, 14 + 15 * line), 12)
    return picture


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(__doc__, EPILOG)
    parser.add_argument("--config", metavar="FILE", help="recipe: a TOML file of these flags; flags given here win")
    add = parser.add_argument
    add("--output", type=Path, default=Path("augment_test.png"), metavar="FILE", help="picture to write (.png or .jpg)")
    add("--count", type=cli.integer(1, 200), default=8, metavar="N", help="samples to draw")
    add("--epoch", type=cli.integer(1), metavar="N", help="epoch that they are of (default: the last, --total_epoch)")
    train_flags.add(parser)
    listed = {"data", "augmentation"}
    for group in parser._action_groups[2:]:
        for action in group._group_actions:
            if group.title not in listed and action.dest not in _SHOWN:
                action.help = argparse.SUPPRESS
    return parser


if __name__ == "__main__":
    cli.run(main)
