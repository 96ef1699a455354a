"""COCO: instances as JSON, drawn into one label map, and COCO-Stuff's label maps.

Category ids have gaps; labels are the categories in the order of their ids, behind the background. Instances are drawn
in the order of the file, later ones on top; crowds (``iscrowd``), whose regions are coarse, come before all others. The
polygons of one instance are its parts, each filled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from deeplabv3p.data.convert.foreign import (
    Foreign,
    Names,
    Pixels,
    Record,
    Size,
    Skipped,
    check_count,
    colored,
    is_picture,
    split_of,
)
from deeplabv3p.data.convert.formats import Options
from deeplabv3p.data.convert.json_file import read_json, size_of, take
from deeplabv3p.data.convert.maps import map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.raster import coco_mask, fill_polygon, points_of
from deeplabv3p.data.convert.tree import File, Tree
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE


def read_mscoco2017(tree: Tree, options: Options) -> Foreign:
    """Instances of every JSON of COCO's form, or the label maps of COCO-Stuff."""
    return _read_stuff(tree, options) if options.annotation == "stuff" else _read_instances(tree, options)


@dataclass(frozen=True)
class Annotated:
    """A picture that a JSON file annotates: its ``file_name``, split and (height, width) there, and what draws it."""

    file: File
    file_name: str
    split: str
    size: Size
    empty: bool
    draw: Callable[[Size], Pixels]


def read_annotations(tree: Tree, options: Options) -> tuple[Names, list[Annotated]]:
    """All pictures that the JSON files of COCO's form annotate, those called ``instances_*`` if there are some, by
    their names; the pictures themselves are not needed.

    Raises:
        DataError: there is no such file, or it is not what it should be.
    """
    jsons = [file for file in tree.files.values() if file.suffix.lower() == ".json"]
    chosen = [file for file in jsons if PurePosixPath(file.name).name.startswith("instances_")] or jsons
    contents = {file: content for file in chosen if _is_coco(content := read_json(file))}
    if not contents:
        raise DataError("the sources hold no JSON file with 'images', 'annotations' and 'categories'.")
    categories: dict[int, str] = {}
    for file, content in contents.items():
        for item in content["categories"]:
            number, name = take(item, "id", int, file.where), take(item, "name", str, file.where)
            if categories.setdefault(number, name) != name:
                raise DataError(f"{file.where} calls category {number} '{name}', another file '{categories[number]}'.")
    names = Names(options, [categories[number] for number in sorted(categories)], next(iter(contents)).where)
    found: list[Annotated] = []
    for file, content in contents.items():
        by_image: dict[int, list[Any]] = defaultdict(list)
        for item in content["annotations"]:
            by_image[take(item, "image_id", int, file.where)].append(item)
        for item in sorted(content["images"], key=lambda item: take(item, "file_name", str, file.where)):
            name, annotations = item["file_name"], by_image.get(take(item, "id", int, file.where), [])
            where = f"{file.where}, {name}"
            size = size_of(item, "height", "width", where)
            draw = partial(_draw, annotations, size, categories, names, options.min_pixels, where)
            found.append(Annotated(file, name, split_of(file.name), size, not annotations, draw))
    return names, found


def _read_instances(tree: Tree, options: Options) -> Foreign:
    names, found = read_annotations(tree, options)
    foreign = Foreign(names.classes, [], names.notes)
    records = []
    for item in found:
        image = _picture(tree, item.file, item.file_name, item.split)
        if image is None or not is_picture(image.name):
            reason = "its picture is missing, is found twice, or is of an unknown kind"
            foreign.skipped.append(Skipped(item.file_name, reason))
            continue
        records.append(Record(PurePosixPath(item.file_name).stem, item.split, image, image.suffix, item.draw))
    if empty := sum(item.empty for item in found):
        foreign.notes.append(f"{empty:,} pictures have no annotation: all of them is unlabelled")
    foreign.records = records
    return foreign


def _is_coco(content: Any) -> bool:
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def _picture(tree: Tree, file: File, name: str, split: str) -> File | None:
    """COCO's names are without folder; the folder is called like the split: ``val2017/``."""
    found = tree.beside(file, name)
    if found is None:
        same_split = [f for f in tree.ending(PurePosixPath(name).name) if split_of(f.name) == split]
        found = same_split[0] if len(same_split) == 1 else None
    return found


def _draw(
    annotations: list[Any],
    declared: Size,
    categories: dict[int, str],
    names: Names,
    min_pixels: int,
    where: str,
    size: Size,
) -> Pixels:
    label = names.canvas(declared, size, where)
    drawn = np.zeros(label.shape, np.uint8)
    for item in sorted(annotations, key=lambda item: not item.get("iscrowd")):  # sorted keeps the order otherwise
        number = take(item, "category_id", int, where)
        if number not in categories:
            raise DataError(f"{where}: an annotation is of category {number}, which is not listed.")
        value, segmentation = names.label(categories[number]), item.get("segmentation")
        region = np.zeros(label.shape, np.uint8)
        if isinstance(segmentation, list):
            for part in segmentation:
                fill_polygon(region, points_of(part, where, least=3), 1)
        else:
            mask = coco_mask(segmentation, where)
            if mask.shape != label.shape:
                raise DataError(f"{where}: a mask is {mask.shape[0]}x{mask.shape[1]}, its picture another size.")
            region[mask] = 1
        label[region > 0] = value
        if value not in {names.unlabelled, IGNORE}:
            drawn |= region
    if min_pixels and int(drawn.sum()) < min_pixels:
        raise DataError(f"only {int(drawn.sum())} annotated pixels, fewer than --min_pixels.")
    return label


def _read_stuff(tree: Tree, options: Options) -> Foreign:
    """COCO-Stuff: number n in the map is category n + 1 of labels.txt, 91 things and 91 stuffs, with gaps; 255 is none.
    Categories that no map can hold, such as 'street sign', get no label."""
    names_file = tree.one("labels.txt")
    names = _stuff_names(names_file) if names_file else _STUFF
    used = {number: name for number, name in names.items() if number not in _REMOVED}
    if options.classes is not None:
        table = Names(options, list(used.values()), names_file.where if names_file else "COCO-Stuff")
        classes, notes = table.classes, table.notes
        labels = {number - 1: table.label(name) for number, name in used.items()}
        none = table.unlabelled
    else:
        classes, notes, none = colored(list(used.values()), background=False), [], IGNORE
        labels = {number - 1: label for label, number in enumerate(used)}
    check_count(len(classes), "COCO-Stuff")
    lookup = number_table({**labels, 255: none})
    foreign = Foreign(classes, [], notes)
    maps = [f for f in tree.files.values() if f.suffix == ".png" and not f.stem.endswith("_instanceTrainIds")]
    records = []
    for file in maps:
        split = split_of(file.parent)
        found = [f for f in tree.ending(f"{file.stem}.jpg") if split_of(f.parent) == split]
        if len(found) != 1:
            foreign.skipped.append(Skipped(file.where, "its picture is missing, or is found twice"))
            continue
        records.append(Record(file.stem, split, found[0], ".jpg", partial(_map, file, lookup)))
    foreign.records = records
    return foreign


def _map(file: File, lookup: np.ndarray[Any, np.dtype[np.uint16]], size: Size) -> Pixels:
    return map_numbers(read_numbers(file), lookup, file.where)


def _stuff_names(file: File) -> dict[int, str]:
    """``labels.txt`` of COCO-Stuff: ``1: person``, and 0 is unlabeled."""
    names: dict[int, str] = {}
    for line in file.read().decode("utf-8", "replace").splitlines():
        number, _, name = line.partition(":")
        if number.strip().isdigit() and name.strip() and int(number) > 0:
            names[int(number)] = name.strip()
    if not names:
        raise DataError(f"{file.where} holds no line like '1: person'.")
    return names


_REMOVED = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
"""Ids that COCO never annotated: street sign, hat, shoe, eye glasses, plate, mirror, window, desk, door, blender, hair
brush."""

_THINGS = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, street sign, "
    "stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, hat, "
    "backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, "
    "baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, plate, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, "
    "couch, potted plant, bed, mirror, dining table, window, desk, toilet, door, tv, laptop, mouse, remote, "
    "keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, blender, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush, hair brush"
)
_STUFFS = (
    "banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet, ceiling-other, "
    "ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt, door-stuff, fence, floor- "
    "marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog, food-other, fruit, furniture-other, "
    "grass, gravel, ground-other, hill, house, leaves, light, mat, metal, mirror-stuff, moss, mountain, mud, "
    "napkin, net, paper, pavement, pillow, plant-other, plastic, platform, playingfield, railing, railroad, river, "
    "road, rock, roof, rug, salad, sand, sea, shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, "
    "straw, structural-other, table, tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall- "
    "other, wall-panel, wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood"
)
_STUFF = {number: name.strip() for number, name in enumerate(f"{_THINGS}, {_STUFFS}".split(","), 1)}
