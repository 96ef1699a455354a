"""Does label-error mining find errors that were planted? CamVid's label maps with errors of known kinds and places, in
pictures that the model was not trained on; how many of the regions ranked first are planted ones?

Kinds: ``relabel`` gives a connected piece of a class another class that people confuse it with; ``erase`` gives an
object the labels of its surroundings, as if nobody had drawn it; ``shift``, counted apart, moves an object's outline by
some pixels. A picture gets one error of each kind where it has a fitting piece.

The network runs once a picture: all seeds share its outputs. Seeds change what is planted where.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from common import cli
from common.console import ConsoleProgress
from common.dataset_gallery import suspect_card
from common.facts import machine_facts
from common.gallery_page import write_gallery
from common.network import agreed_classes, find_artifact
from deeplabv3p import files, visualize
from deeplabv3p.data.dataset import Dataset, open_dataset
from deeplabv3p.errors import DataError
from deeplabv3p.evaluation.label_errors import SuspectLabel, find_label_errors
from deeplabv3p.inference import protocol
from deeplabv3p.pixels import IGNORE
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.artifact import open_artifact
from deeplabv3p.spec import ModelSpec

Labels = npt.NDArray[np.uint8]
Rng = np.random.Generator

TOP = 50
LEAST_PIXELS, MOST_PIXELS = 300, 15_000  # of a planted piece; 360x480 pixels are 172,800
SHIFT = 8  # pixels

# What a tired annotator takes one class of CamVid for.
CONFUSED = {
    "Sky": ("Building",),
    "Building": ("Tree", "Fence"),
    "Road": ("Pavement",),
    "Pavement": ("Road",),
    "Tree": ("Building",),
    "SignSymbol": ("Building", "Pole"),
    "Fence": ("Building", "Tree"),
    "Car": ("Building", "Pedestrian"),
    "Pedestrian": ("Bicyclist", "SignSymbol"),
    "Bicyclist": ("Pedestrian", "SignSymbol"),
}
OBJECTS = ("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist")


@dataclasses.dataclass(frozen=True)
class Planted:
    """The errors of a label map: ``where`` int32 [H, W], 0 or the number of an error (1, 2, …), and their kinds."""

    label: Labels
    where: npt.NDArray[np.int32]
    kinds: tuple[str, ...]


def plant(
    label: Labels,
    kinds: Iterable[str],
    rng: Rng,
    confused: Mapping[int, Sequence[int]],
    objects: Collection[int],
    least: int = LEAST_PIXELS,
    most: int = MOST_PIXELS,
) -> Planted:
    """Plant one error of each kind where the label map has a fitting piece of ``least`` to ``most`` pixels.

    Args:
        label: uint8 [H, W].
        kinds: of ``relabel``, ``erase`` and ``shift``.
        rng: draws class, piece and new class.
        confused: the classes that a class may be relabelled to.
        objects: the classes that may be erased or shifted.
    """
    label = label.copy()
    where = np.zeros(label.shape, np.int32)
    planted: list[str] = []
    for kind in kinds:
        for value in rng.permutation(sorted(confused if kind == "relabel" else objects)).tolist():
            pieces = [piece for piece in _pieces(label == value, least, most) if not where[piece].any()]
            if not pieces:
                continue
            piece = pieces[int(rng.integers(len(pieces)))]
            changed = label.copy()
            if kind == "relabel":
                changed[piece] = rng.choice(confused[value])
            elif kind == "erase":
                changed[piece] = _surroundings(label, piece)[piece]
            else:
                changed = _shifted(label, piece, rng)
            places = (changed != label) & (where == 0)
            if not places.any():
                continue
            planted.append(kind)
            where[places] = len(planted)
            label[places] = changed[places]
            break
    return Planted(label, where, tuple(planted))


def _pieces(mask: npt.NDArray[np.bool_], least: int, most: int) -> list[npt.NDArray[np.bool_]]:
    _, piece_of, figures, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    areas = figures[:, cv2.CC_STAT_AREA]
    return [piece_of == piece for piece in range(1, len(areas)) if least <= areas[piece] <= most]


def _surroundings(label: Labels, piece: npt.NDArray[np.bool_]) -> Labels:
    """The label map as if the piece were not there: its pixels have the label of the nearest pixel outside."""
    unknown = (piece | (label == IGNORE)).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, np.uint8)
    table[nearest[unknown == 0]] = label[unknown == 0]
    return table[nearest]


def _shifted(label: Labels, piece: npt.NDArray[np.bool_], rng: Rng) -> Labels:
    """The piece moved by SHIFT pixels to the left or right; where it was are the surroundings."""
    value = label[piece][0]
    step = SHIFT if rng.random() < 0.5 else -SHIFT
    moved = np.zeros_like(piece)
    if step > 0:
        moved[:, step:] = piece[:, :-step]
    else:
        moved[:, :step] = piece[:, -step:]
    result = np.where(piece, _surroundings(label, piece), label)
    result[moved & (label != IGNORE)] = value
    return np.asarray(result, np.uint8)


@dataclasses.dataclass
class Remembering:
    """A runtime that keeps its outputs: the same input is run once."""

    inner: Runtime
    outputs: dict[bytes, npt.NDArray[np.generic]] = dataclasses.field(default_factory=dict)

    @property
    def spec(self) -> ModelSpec:
        return self.inner.spec

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def device(self) -> str:
        return self.inner.device

    def run(self, batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        key = batch.tobytes()
        if key not in self.outputs:
            self.outputs[key] = self.inner.run(batch)
        return self.outputs[key]

    def close(self) -> None:
        self.inner.close()


def mine(
    runtime: Runtime,
    dataset: Dataset,
    kinds: Sequence[str],
    seed: int,
    confused: Mapping[int, Sequence[int]],
    objects: Collection[int],
    folder: Path,
    **sizes: int,
) -> tuple[Dataset, list[Planted], tuple[SuspectLabel, ...]]:
    """Plant errors, write the label maps into ``folder``, and look for the errors: the dataset with them, what was
    planted in each picture, and all that was found. Without kinds the labels are as they were."""
    rng = np.random.default_rng(seed)
    planted = []
    samples = []
    for index, sample in enumerate(dataset.samples):
        own = plant(dataset.load(index)[1], kinds, rng, confused, objects, **sizes)
        path = folder / f"{index}.png"
        visualize.save_label_png(path, own.label, dataset.classes)
        planted.append(own)
        samples.append(dataclasses.replace(sample, label=path))
    spoilt = dataclasses.replace(dataset, samples=tuple(samples), ignore_index=IGNORE)
    with ConsoleProgress(f"seed {seed}: mine", "pictures") as progress:
        return spoilt, planted, find_label_errors(runtime, spoilt, limit=100_000, progress=progress)


def planted_error(suspect: SuspectLabel, planted: Sequence[Planted]) -> int:
    """The number of the planted error that more than half of the region's pixels belong to; 0: none."""
    top, left, bottom, right = suspect.doubt.box
    numbers = planted[suspect.index].where[top:bottom, left:right][suspect.doubt.mask]
    counts = np.bincount(numbers)
    best = int(counts[1:].argmax()) + 1 if len(counts) > 1 else 0
    return best if best and 2 * counts[best] > len(numbers) else 0


def figures(found: Sequence[SuspectLabel], planted: Sequence[Planted]) -> dict[str, Any]:
    """How many of the first regions are planted, and which errors they are."""
    numbers = [planted_error(suspect, planted) for suspect in found]
    kinds = [kind for own in planted for kind in own.kinds]
    result: dict[str, Any] = {
        "planted": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "regions": len(found),
        "planted_regions": sum(number > 0 for number in numbers),
    }
    for top in (TOP, 2 * TOP):
        hits = [(suspect.index, number) for suspect, number in zip(found[:top], numbers, strict=False) if number]
        hit_kinds = [planted[index].kinds[number - 1] for index, number in set(hits)]
        result[f"precision_{top}"] = len(hits) / top
        result[f"errors_found_{top}"] = {kind: hit_kinds.count(kind) for kind in sorted(set(hit_kinds))}
    return result


def main() -> None:
    options = _parse()
    artifact, spec = find_artifact(options.model_path, options)
    classes = agreed_classes(spec, options.classes_path)
    dataset = open_dataset(options.dataset_path, options.dataset_file, classes, options.ignore_index)
    names = [item.name for item in classes.classes]
    if not set(names) >= set(CONFUSED):
        raise DataError(f"the model knows {', '.join(names)}; this benchmark is about the classes of CamVid.")
    dataset = dataclasses.replace(dataset, samples=dataset.samples[:: options.every])
    confused = {names.index(name): [names.index(other) for other in others] for name, others in CONFUSED.items()}
    objects = [names.index(name) for name in OBJECTS]
    runtime = Remembering(open_artifact(artifact, spec=spec))
    runs: dict[str, list[dict[str, Any]]] = {"relabel and erase": [], "shift": []}
    listed: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in range(options.seed, options.seed + options.seeds):
            for title, kinds in (("relabel and erase", ("relabel", "erase")), ("shift", ("shift",))):
                spoilt, planted, found = mine(runtime, dataset, kinds, seed, confused, objects, Path(temporary))
                row = {"seed": seed, **figures(found, planted)}
                runs[title].append(row)
                print(title, row, flush=True)
                if seed == options.seed and title == "relabel and erase":
                    listed["not_planted"] = _listing(found[:TOP], planted, names)
                    _gallery(options.gallery, "planted", spoilt, found[:TOP])
        spoilt, _, found = mine(runtime, dataset, (), 0, confused, objects, Path(temporary))
        listed["without_planting"] = _listing(found[:TOP], None, names)
        _gallery(options.gallery, "own", spoilt, found[:TOP])
    result = {
        "model": artifact.path.name,
        "protocol": protocol(runtime),
        "dataset": Path(options.dataset_file).name,
        "pictures": len(dataset),
        "every": options.every,
        "piece_pixels": [LEAST_PIXELS, MOST_PIXELS],
        "shift_pixels": SHIFT,
        "runs": runs,
        "precision_50_mean": {
            title: statistics.mean(row["precision_50"] for row in rows) for title, rows in runs.items()
        },
        "precision_50_min": {title: min(row["precision_50"] for row in rows) for title, rows in runs.items()},
        **listed,
        "machine": machine_facts(),
    }
    print({key: result[key] for key in ("pictures", "precision_50_mean", "precision_50_min")})
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")


def _listing(
    found: Sequence[SuspectLabel], planted: Sequence[Planted] | None, names: Sequence[str]
) -> list[dict[str, Any]]:
    """The regions that are not planted, with their ranks."""
    return [
        {
            "rank": rank,
            "name": suspect.sample.name,
            "labelled": names[suspect.doubt.labelled],
            "suggested": names[suspect.doubt.suggested],
            "box": list(suspect.doubt.box),
            "pixels": suspect.doubt.pixels,
            "score": round(suspect.doubt.score, 2),
        }
        for rank, suspect in enumerate(found, 1)
        if planted is None or not planted_error(suspect, planted)
    ]


def _gallery(folder: Path | None, name: str, dataset: Dataset, found: Sequence[SuspectLabel]) -> None:
    if folder is not None:
        cards = [suspect_card(dataset, suspect, rank, 480) for rank, suspect in enumerate(found, 1)]
        write_gallery(folder / f"{name}.html", name, f"the first {len(cards)} regions", dataset.classes, cards)


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    model_help = "model trained on CamVid's train.txt alone"
    add("--model_path", default="weights/camvid_mobilenetv2.keras", metavar="FILE", help=model_help)
    add("--dataset_path", required=True, metavar="DIR", help="CamVid: images/, labels/ and lists")
    add("--dataset_file", default="test.txt", metavar="FILE", help="list of pictures the model has not seen")
    add("--classes_path", metavar="FILE", help="class names, one a line (default: the model's own)")
    add("--ignore_index", type=cli.integer(0, 65535), default=11, metavar="LABEL", help="ignored number in the labels")
    add("--every", type=cli.integer(1), default=3, metavar="N", help="take every N-th picture of the list")
    add("--seed", type=cli.integer(0), default=11, metavar="N", help="the first seed")
    add("--seeds", type=cli.integer(1), default=5, metavar="N", help="number of seeds")
    add("--gallery", type=Path, metavar="DIR", help="folder for galleries of the first regions (default: none)")
    add("--output", type=Path, metavar="FILE", help="JSON file for the result (default: none)")
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
