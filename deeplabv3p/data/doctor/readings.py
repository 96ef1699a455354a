"""Which palette and grey label maps are read by their colours, decided with all maps of a dataset in view."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from deeplabv3p.data.classes import VOID_COLOR, ClassList
from deeplabv3p.data.doctor.findings import Example, Finding, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory
from deeplabv3p.data.doctor.record import LabelFacts, Record, pack
from deeplabv3p.data.palettes import BY_ITSELF, Reading, UnclearMapsError, decide, read_by_color

_NO_CLASSES = ClassList((), explicit_colors=False)


def decided(
    records: Sequence[Record], class_list: ClassList | None, ignore_index: int | None, inventory: Inventory
) -> tuple[Reading, tuple[Record, ...], list[Finding]]:
    """How maps are read, as training would; the records, with colours in place of numbers where those are meant; and
    what cannot be read for certain."""
    classes = class_list or _NO_CLASSES
    contents = [record.label.content for record in records if record.label and record.label.content]
    found: list[Finding] = []
    try:
        reading = decide(contents, classes, ignore_index)
    except UnclearMapsError as error:
        return BY_ITSELF, tuple(records), [_unclear(error, records, inventory)]
    judged = []
    for record in records:
        label, content = record.label, record.label.content if record.label else None
        if label is None or content is None or content.kind == "colors" or not content.shown:
            judged.append(record)
            continue
        try:
            by_color = read_by_color(content, classes, ignore_index, reading)
        except UnclearMapsError as error:
            by_color = False
            found.append(_unclear(error, records, inventory))
        judged.append(replace(record, label=_in_colors(label, classes, ignore_index)) if by_color else record)
    return reading, tuple(judged), found[:1]


def read_findings(records: Sequence[Record], total: int, inventory: Inventory) -> list[Finding]:
    """The maps without three channels that are read by colour."""
    if not records:
        return []
    files = [inventory.relative(path) for record in records if (path := inventory.pairs[record.index].label)]
    message = (
        f"{len(records):,} of {plural(total, 'label map')}: read by their colours, because their numbers are not "
        "those of the class list."
    )
    return [finding("palette_read", message, files, fixable=len(files))]


def _in_colors(label: LabelFacts, class_list: ClassList, ignore_index: int | None) -> LabelFacts:
    """The facts of a map as if it had been stored in colours."""
    assert label.content is not None
    counts = Counter[int]()
    of_classes = {item.color for item in class_list.classes}
    for number, pixels in label.counts.items():
        color = label.content.shown.get(number) or (0, 0, 0)
        ignored = number == ignore_index and color not in of_classes
        counts[pack(VOID_COLOR if ignored else color)] += pixels
    return replace(label, stored="colors", counts=dict(counts), distinct=len(counts), grey=False)


def _unclear(error: UnclearMapsError, records: Sequence[Record], inventory: Inventory) -> Finding:
    by_name = {record.label.content.name: record for record in records if record.label and record.label.content}
    members = [by_name[name] for name in error.files if name in by_name]
    pairs = [inventory.pairs[record.index] for record in members]
    labels = [pair.label for pair in pairs if pair.label]
    message = str(error)
    for path in labels:
        message = message.replace(str(path), inventory.relative(path))
    shown = [Example((pair.image,) if pair.image else (), (pair.label,) if pair.label else ()) for pair in pairs]
    return finding("palettes_unclear", message, [inventory.relative(path) for path in labels], examples=shown)
