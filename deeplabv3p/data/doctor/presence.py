"""Whether there is something to learn: classes that occur, and classes that do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from deeplabv3p.data.doctor.findings import Finding, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory
from deeplabv3p.data.doctor.labels import Meaning
from deeplabv3p.data.doctor.record import Record
from deeplabv3p.data.doctor.splits import class_pixels, is_training


def presence_findings(
    records: Sequence[Record], kinds: Mapping[int, str], inventory: Inventory, meaning: Meaning, *, named: bool
) -> list[Finding]:
    """Findings of a dataset from which nothing can be learned. ``named``: the first list is the one to train on."""
    if meaning.class_list is None or not records:
        return []
    names = [item.name for item in meaning.class_list.classes]
    if len(names) == 1:
        masks = any(record.label and 255 in record.label.counts for record in records)
        return [finding("one_class_list", one_class_text(names[0], masks=masks), names)]
    readable = [record for record in records if record.label and record.index not in kinds]
    if len(readable) < len(records):  # nothing can be said about classes in maps that cannot be read
        return []
    lists = inventory.lists
    training = [item for place, item in enumerate(lists) if (place == 0 if named else is_training(item))]
    members = {index for item in training for index in item.members}
    chosen = [record for record in readable if record.index in members] or readable
    where = " and ".join(item.name for item in training) or "the dataset"
    present = set().union(*(class_pixels(record.label, meaning) for record in chosen if record.label))
    files = [inventory.relative(path) for record in chosen if (path := inventory.pairs[record.index].label)]
    if not present:
        message = f"{plural(len(chosen), 'label map')} of {where}: nothing but ignored pixels."
        return [finding("nothing_labelled", message, files)]
    if len(present) == 1:
        return [finding("one_class_only", only_text(names[present.pop()], len(chosen), where), files)]
    return []


def one_class_text(name: str, *, masks: bool) -> str:
    """What is wrong with a class list of one line. ``masks``: the label maps hold 255, too."""
    text = f"the class list has one class, '{name}', so every pixel is right whatever the pictures show"
    hint = "write two lines, the background first"
    return f"{text}: {hint}; the maps hold 255, which is then class 1." if masks else f"{text}: {hint}."


def only_text(name: str, maps: int, where: str) -> str:
    """What is wrong with label maps of one class."""
    return f"{plural(maps, 'label map')} of {where}: nothing but '{name}', so there is nothing to tell apart."
