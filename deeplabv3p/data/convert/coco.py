"""COCO: instances as JSON, drawn into one label map, and COCO-Stuff's label maps.

Category ids have gaps; labels are the categories in the order of their ids, behind the background. The format has no
order of depth: smaller instances lie on larger ones, and crowds (``iscrowd``), whose regions are coarse, below all
others. The polygons of one instance are its parts, each filled.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from deeplabv3p import documents
from deeplabv3p.data.convert.foreign import (
    Foreign,
    Names,
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
from deeplabv3p.data.convert.maps import Pixels, map_numbers, number_table, read_numbers
from deeplabv3p.data.convert.paint import Shape, draw
from deeplabv3p.data.convert.raster import NOWHERE, Box, Canvas, around, coco_mask, fill_polygon, paint_mask, points_of
from deeplabv3p.data.convert.tally import Drawn, Tally
from deeplabv3p.data.convert.tree import File, Tree, not_one
from deeplabv3p.errors import DataError
from deeplabv3p.pixels import IGNORE

NO_OUTLINE = "boxes without an outline ('segmentation' is empty)"
_TOO_FEW = "polygons of fewer than 3 points"
_MOST = 0.9
_NO_PICTURE = "annotations of pictures that the file does not list"


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
    draw: Callable[[Size], Drawn]


def read_annotations(tree: Tree, options: Options) -> tuple[Names, list[Annotated], dict[str, Tally], int]:
    """All pictures that the JSON files of COCO's form annotate, those called ``instances_*`` if there are some, by
    their names; what cannot be drawn, by split, and the number of annotations that can. The pictures are not needed.

    Raises:
        DataError: there is no such file, or it is not what it should be.
    """
    jsons = tree.documents(".json")
    chosen = [file for file in jsons if PurePosixPath(file.name).name.startswith("instances_")] or jsons
    contents = {file: content for file in chosen if _is_coco(content := read_json(file))}
    if not contents:
        raise DataError("the sources hold no JSON file with 'images', 'annotations' and 'categories'.")
    categories = _categories(contents)
    drawable: dict[File, dict[int, list[Any]]] = {}
    dropped, counts, boxed = dict[str, Tally](), Counter[int](), Counter[int]()
    for file, content in contents.items():
        drawable[file] = _by_image(file, content, dropped.setdefault(split_of(file.name), Tally()), counts, boxed)
    boxes, outlines = _upright_boxes(drawable)
    nothing = {number for number in boxed if not counts[number] and number in categories}
    parents = _parents(contents) - set(counts)
    listed = [categories[number] for number in sorted(categories) if number not in nothing | parents]
    names = Names(options, listed, next(iter(contents)).where)
    names.notes[:0] = _about_categories(categories, nothing, parents)
    if outlines and boxes > _MOST * outlines:
        names.notes.append(f"{boxes:,} of {outlines:,} outlines are upright boxes: is this a dataset of boxes?")
    found: list[Annotated] = []
    for file, content in contents.items():
        for item in sorted(content["images"], key=lambda item: take(item, "file_name", str, file.where)):
            name, annotations = item["file_name"], drawable[file].get(item["id"], [])
            where = f"{file.where}, {name}"
            size = size_of(item, "height", "width", where)
            draws = partial(_draw, annotations, size, categories, names, options, where)
            found.append(Annotated(file, name, split_of(file.name), size, not annotations, draws))
    return names, found, dropped, counts.total()


def _categories(contents: dict[File, Any]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for file, content in contents.items():
        for item in content["categories"]:
            number, name = take(item, "id", int, file.where), take(item, "name", str, file.where)
            if categories.setdefault(number, name) != name:
                raise DataError(f"{file.where} calls category {number} '{name}', another file '{categories[number]}'.")
    return categories


def _by_image(
    file: File, content: Any, tally: Tally, counts: Counter[int], boxed: Counter[int]
) -> dict[int, list[Any]]:
    """The annotations that have an outline, by picture; ``counts`` them by category, and in ``boxed`` the others."""
    pictures = Counter(take(item, "id", int, file.where) for item in content["images"])
    twice = next((number for number, count in pictures.items() if count > 1), None)
    if twice is not None:
        raise DataError(
            f"{file.where} has two pictures with the id {twice}: which annotations are whose cannot be told."
        )
    by_image: dict[int, list[Any]] = defaultdict(list)
    for item in content["annotations"]:
        number, category = take(item, "image_id", int, file.where), take(item, "category_id", int, file.where)
        if number not in pictures:
            tally.dropped[_NO_PICTURE] += 1
        elif reason := _useless(item.get("segmentation")):
            tally.dropped[reason] += 1
            boxed[category] += 1
        else:
            by_image[number].append(item)
            counts[category] += 1
    return by_image


def _upright_boxes(drawable: dict[File, dict[int, list[Any]]]) -> tuple[int, int]:
    """How many annotations are a box, drawn by its four corners, of how many: tools for boxes export them so."""
    boxes = total = 0
    for items in (item for by_image in drawable.values() for item in by_image.values()):
        for item in items:
            total += 1
            parts = item["segmentation"]
            corners = parts[0] if isinstance(parts, list) and len(parts) == 1 else None
            if isinstance(corners, list) and len(corners) in {8, 10}:
                boxes += len({str(x) for x in corners[::2]}) == 2 and len({str(y) for y in corners[1::2]}) == 2
    return boxes, total


def _useless(segmentation: Any) -> str | None:
    """Why nothing can be drawn of a segmentation; None where something can, or where drawing it will tell."""
    if not segmentation or (isinstance(segmentation, list) and not any(segmentation)):
        return NO_OUTLINE
    if isinstance(segmentation, list) and not any(_parts(segmentation)):
        return _TOO_FEW
    return None


def _parts(segmentation: list[Any]) -> list[Any]:
    """The polygons of at least three points: tools that trace masks also write single points and pairs."""
    flat = all(isinstance(number, (int, float)) for number in segmentation)  # one polygon without its list
    parts = [segmentation] if flat else segmentation
    return [part for part in parts if not isinstance(part, list) or len(part) > 5 or len(part) % 2]


def _parents(contents: dict[File, Any]) -> set[int]:
    """Categories that are what others are kinds of, as Roboflow lists them."""
    items = [item for content in contents.values() for item in content["categories"]]
    kinds = [(item["name"], item.get("supercategory")) for item in items]
    above = {kind for name, kind in kinds if isinstance(kind, str) and kind != name}
    return {item["id"] for item in items if item["name"] in above}


def _about_categories(categories: dict[int, str], nothing: set[int], parents: set[int]) -> list[str]:
    notes = []
    same: dict[str, list[int]] = defaultdict(list)
    for number in sorted(categories):
        same[categories[number]].append(number)
    for name, numbers in same.items():
        if len(numbers) > 1:
            notes.append(f"the categories {', '.join(map(str, numbers))} are all called '{name}': they are one class")
    if nothing:
        shown = ", ".join(f"'{categories[number]}'" for number in sorted(nothing))
        notes.append(f"no classes, because none of their annotations has an outline: {shown}")
    if parents:
        shown = ", ".join(f"'{categories[number]}'" for number in sorted(parents))
        notes.append(f"no classes, because they only stand above others and have no annotation: {shown}")
    return notes


def _read_instances(tree: Tree, options: Options) -> Foreign:
    names, found, dropped, drawable = read_annotations(tree, options)
    tally = Tally()
    for some in dropped.values():
        tally.add(some)
    foreign = Foreign(names.classes, [], names.notes, dropped=tally.dropped, drawable=drawable)
    records = []
    for item in found:
        try:
            image = _picture(tree, item.file, item.file_name, item.split)
        except DataError as error:
            foreign.skipped.append(Skipped(item.file_name, str(error)))
            continue
        name = PurePosixPath(item.file_name).stem
        records.append(Record(name, item.split, image, image.suffix, item.draw, item.file.where))
    if empty := sum(item.empty for item in found):
        foreign.notes.append(f"{empty:,} pictures have no annotation that can be drawn: all of them is unlabelled")
    foreign.records = records
    return foreign


def _is_coco(content: Any) -> bool:
    keys = ("images", "annotations", "categories")
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in keys)


def _picture(tree: Tree, file: File, name: str, split: str) -> File:
    """COCO's names are without folder; the folder is called like the split: ``val2017/``."""
    try:
        return tree.picture(file, name)
    except DataError:
        same_split = [f for f in tree.ending(PurePosixPath(name).name) if split_of(f.name) == split]
        if len(same_split) != 1 or not is_picture(same_split[0].name):
            raise
        return same_split[0]


def _draw(
    annotations: list[Any],
    declared: Size,
    categories: dict[int, str],
    names: Names,
    options: Options,
    where: str,
    size: Size,
) -> Drawn:
    shapes = []
    for item in annotations:
        number = take(item, "category_id", int, where)
        if number not in categories:
            raise DataError(f"{where}: an annotation is of category {number}, which is not listed.")
        paint = partial(_paint, item["segmentation"], where)
        shapes.append(Shape(categories[number], paint, -1.0 if item.get("iscrowd") else 0.0))
    drawn = draw(shapes, names, options.order or "area", declared, size, where)
    if options.min_pixels:
        pixels = int(np.count_nonzero((drawn.label != names.unlabelled) & (drawn.label != IGNORE)))
        if pixels < options.min_pixels:
            raise DataError(f"only {pixels} annotated pixels, fewer than --min_pixels.")
    return drawn


def _paint(segmentation: Any, where: str, canvas: Canvas, value: int) -> Box:
    if isinstance(segmentation, list):
        touched = NOWHERE
        for part in _parts(segmentation):
            touched = around(touched, fill_polygon(canvas, points_of(part, where, least=3), value))
        return touched
    mask = coco_mask(segmentation, where)
    if mask.shape != canvas.shape:
        raise DataError(f"{where}: a mask is {mask.shape[0]}x{mask.shape[1]}, its picture another size.")
    return paint_mask(canvas, mask, 0, 0, value, where)


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
            foreign.skipped.append(Skipped(file.where, not_one(f"{file.stem}.jpg", found)))
            continue
        records.append(Record(file.stem, split, found[0], ".jpg", partial(_map, file, lookup), file.where))
    foreign.records = records
    return foreign


def _map(file: File, lookup: np.ndarray[Any, np.dtype[np.uint16]], size: Size) -> Pixels:
    return map_numbers(read_numbers(file), lookup, file.where)


def _stuff_names(file: File) -> dict[int, str]:
    """``labels.txt`` of COCO-Stuff: ``1: person``, and 0 is unlabeled."""
    names: dict[int, str] = {}
    for line in file.read().decode("utf-8", "replace").splitlines():
        number, _, name = line.partition(":")
        label = documents.whole_number(number.strip())
        if label and name.strip():
            names[label] = name.strip()
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
