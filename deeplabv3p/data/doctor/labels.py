"""What the values in the label maps say: masks of 0 and 255, colours, JPEG, numbers that are off by one or no class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deeplabv3p.data.classes import VOID_COLOR, ClassList
from deeplabv3p.data.doctor.findings import Box, Example, Finding, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory
from deeplabv3p.data.doctor.readings import read_findings
from deeplabv3p.data.doctor.record import TINY, LabelFacts, Record, pack
from deeplabv3p.data.palettes import BY_ITSELF, Reading

REPAIRABLE_UNSURE = 0.05
"""A map that is not exact is repaired if at most this share of its pixels is far from every class colour."""
SMEARED_VALUES = 8  # so many wrong numbers in one map are no slip: the map is smeared
OFTEN = 0.1
"""Share of the maps that hold the number behind the last class where the numbering is meant so."""
MOSTLY = 0.5
"""Share of ignored pixels from which on it is worth a warning."""
_STEP, _MOST_STEPS = 8, 32  # greys closer than this are numbers; more of them are a picture
_LOSSLESS = ("BMP", "TIFF", "GIF")
_SHOWN = 4  # values in a message


@dataclass(frozen=True)
class Meaning:
    """What numbers mean: the classes, if known, the ignored number of the files, if any, and whether the values of
    palette and grey maps are numbers at all. ``steps``: the class that each grey stands for, where greys were stored in
    place of numbers."""

    class_list: ClassList | None
    ignore_index: int | None
    reading: Reading = BY_ITSELF
    steps: tuple[tuple[int, int], ...] = ()

    @property
    def count(self) -> int | None:
        """Number of classes."""
        return None if self.class_list is None else len(self.class_list.classes)

    def wrong(self, counts: dict[int, int]) -> list[int]:
        """Numbers that are neither a class nor ignored, ascending."""
        count = self.count
        return [] if count is None else sorted(v for v in counts if v >= count and v != self.ignore_index)

    @property
    def colors(self) -> set[int]:
        """The colours that are read in maps, packed; none where the class list has none."""
        if self.class_list is None or not self.class_list.explicit_colors:
            return set()
        void = {pack(VOID_COLOR)} if self.ignore_index is not None else set()
        return {pack(item.color) for item in self.class_list.classes} | void

    @property
    def text(self) -> str:
        """``the classes are 0 to 10 and 255 is ignored``."""
        ignored = "nothing is ignored" if self.ignore_index is None else f"{self.ignore_index} is ignored"
        return ignored if self.count is None else f"the classes are 0 to {self.count - 1} and {ignored}"


def numbers_of(label: LabelFacts) -> dict[int, int] | None:
    """Pixels of each number in a map of numbers, stored with one channel or three equal ones; None for colours."""
    if label.stored == "colors":
        return {code & 255: count for code, count in label.counts.items()} if label.grey else None
    return label.counts if label.stored == "numbers" else None


def classify(records: Sequence[Record], meaning: Meaning) -> dict[int, str]:
    """The kind of finding that each label map which cannot be used is of, by the index of its pair."""
    kinds: dict[int, str] = {}
    for record in records:
        if record.label_error is not None:
            kinds[record.index] = "damaged_label"
        elif record.label is not None and (kind := _kind_of(record.label, meaning)):
            kinds[record.index] = kind
    # What the numbers mean together: only maps that are sound by themselves have a say.
    numbers = {
        record.index: found
        for record in records
        if record.label
        and (kinds.get(record.index) or record.label.stored) in ("numbers", "grey_as_rgb")
        and (found := numbers_of(record.label))
    }
    # A bit says black or white. It is a mask where nothing speaks against it.
    bits = [record.index for record in records if kinds.get(record.index) == "ambiguous_depth" and _is_mask(record)]
    together = _together([set(found) for found in numbers.values()] + [{0, 255}] * bool(bits), meaning)
    if together == "mask_0_255":
        kinds |= {index: together for index, found in numbers.items() if 255 in found}
        return kinds | dict.fromkeys(bits, together)
    if together == "grey_steps":
        return kinds | {index: together for index, found in numbers.items() if set(found) != {0}}
    for index, found in numbers.items():
        wrong = meaning.wrong(found)
        if together == "off_by_one" and wrong:
            kinds[index] = together
        elif wrong:
            kinds[index] = "smeared_label" if len(wrong) >= SMEARED_VALUES else "unknown_values"
    if "smeared_label" in kinds.values():  # among those, a few wrong numbers have the same cause
        unsure = {record.index for record in records if record.label and record.label.unsure is not None}
        kinds |= {
            index: "smeared_label" for index, kind in kinds.items() if kind == "unknown_values" and index in unsure
        }
    return kinds


def _is_mask(record: Record) -> bool:
    content = record.label.content if record.label else None
    return content is not None and content.kind == "grey" and set(content.shown) <= {0, 255}


def _kind_of(label: LabelFacts, meaning: Meaning) -> str | None:
    """What is wrong with one map whatever the others hold."""
    if label.format != "PNG":
        return "jpeg_label" if label.format == "JPEG" else "label_format"
    if label.stored == "bits":
        return "ambiguous_depth"
    if label.stored == "colors":
        return _kind_of_colors(label, meaning)
    smeared = len(meaning.wrong(label.counts)) >= SMEARED_VALUES and label.unsure is not None
    return "smeared_label" if smeared else None


def _kind_of_colors(label: LabelFacts, meaning: Meaning) -> str | None:
    known = meaning.colors
    if known:
        unknown = label.distinct - len(known & set(label.counts))
        return None if not unknown else "unknown_colors" if unknown < SMEARED_VALUES else "smeared_label"
    if not label.grey:
        return "rgb_label"
    smeared = label.distinct > SMEARED_VALUES + (meaning.count or 255)
    return "smeared_label" if smeared else "grey_as_rgb"


def grey_steps(records: Sequence[Record], meaning: Meaning) -> tuple[tuple[int, int], ...]:
    """(grey, class) where all maps together hold evenly spaced greys, as many as there are classes; else none.

    Masks of 0 and 255 are not meant. The ignored number may stand beside the greys."""
    used: set[int] = set()
    for record in records:
        if record.label and record.label.stored == "numbers":
            used |= set(record.label.counts)
    count = meaning.count
    if not used or 0 not in used or used <= {0, 255} or max(used) > 255:
        return ()
    if count is not None and not meaning.wrong(dict.fromkeys(used, 1)):
        return ()
    rest = used - {meaning.ignore_index}
    found = {
        tuple((grey, place) for place, grey in enumerate(sorted(greys)))
        for greys in (used, rest)
        if _is_even(sorted(greys)) and (len(greys) == count if count else len(greys) <= _MOST_STEPS)
    }
    if count and not found and _are_on_grid(used, count):
        found = {tuple((grey, round(grey * (count - 1) / 255)) for grey in sorted(used))}
    return found.pop() if len(found) == 1 else ()


def _is_even(greys: Sequence[int]) -> bool:
    step = greys[-1] / max(len(greys) - 1, 1)
    return len(greys) > 1 and step >= _STEP and all(abs(grey - place * step) <= 1 for place, grey in enumerate(greys))


def _are_on_grid(greys: set[int], count: int) -> bool:
    """Whether the greys are some of ``count`` that go evenly from black to white."""
    step = 255 / max(count - 1, 1)
    places = {round(grey / step) for grey in greys}
    near = all(abs(grey - round(grey / step) * step) <= 1 for grey in greys)
    return step >= _STEP and near and 1 < len(greys) == len(places)


def _together(values: Sequence[set[int]], meaning: Meaning) -> str | None:
    """Masks of 0 and 255, or numbers that start at 1."""
    used: set[int] = set().union(*values)
    if used <= {0, 255} and 255 in used and (meaning.count or 2) < 256:
        return "mask_0_255"
    if meaning.steps and used <= {grey for grey, _ in meaning.steps} | {meaning.ignore_index}:
        return "grey_steps"
    count = meaning.count
    if count is None:
        return None
    classes = used - {meaning.ignore_index}
    if not classes or max(classes) != count:
        return None
    # A number that few maps hold is a slip, unless the numbers start at 1.
    often = sum(count in found for found in values) >= OFTEN * len(values)
    return "off_by_one" if often or 0 not in used else None


def label_findings(
    records: Sequence[Record], kinds: dict[int, str], inventory: Inventory, meaning: Meaning
) -> list[Finding]:
    """One finding for each kind of :func:`classify`, and those of what is read but is not as it should be."""
    by_index = {record.index: record for record in records}
    groups: dict[str, list[Record]] = {}
    for index, kind in sorted(kinds.items()):
        groups.setdefault(kind, []).append(by_index[index])
    maps = len(records)
    found = []
    for kind, members in groups.items():
        found.append(
            finding(
                kind,
                f"{len(members):,} of {plural(maps, 'label map')}: {_message(kind, members, records, meaning)}",
                [_file(inventory, record) for record in members],
                fixable=sum(is_fixable(kind, record, meaning) for record in members),
                examples=[_example(inventory, record, record.label.wrong) for record in members if record.label],
            )
        )
    sound = [record for record in records if record.label and record.index not in kinds]
    return (
        found
        + _milder(sound, inventory, meaning)
        + _tiny([r for r in records if kinds.get(r.index) != "smeared_label"], inventory)
    )


def is_fixable(kind: str, record: Record, meaning: Meaning) -> bool:
    """Whether a label map can be written anew without guessing."""
    label = record.label
    if label is None:
        return False
    if kind in ("jpeg_label", "smeared_label"):
        # Numbers that are near no class must have somewhere to go.
        sure = label.unsure is not None and label.unsure <= REPAIRABLE_UNSURE
        return sure and (label.unsure == 0 or (meaning.ignore_index is not None and meaning.ignore_index < 256))
    numbers = numbers_of(label)
    if kind in ("mask_0_255", "grey_steps"):
        return meaning.count in (2, None) if kind == "mask_0_255" else meaning.count is not None
    if kind == "grey_as_rgb":
        return meaning.count is not None and numbers is not None and not meaning.wrong(numbers)
    if kind == "label_format":
        sound = numbers is not None and not meaning.wrong(numbers)
        return label.format in _LOSSLESS and meaning.count is not None and sound
    return kind == "rgb_read" and (meaning.ignore_index is None or meaning.ignore_index < 256)


_MESSAGES = {  # what follows "N of M label maps:"
    "jpeg_label": "JPEG, whose values are not exact.",
    "label_format": "{formats}, where PNG is needed.",
    "ambiguous_depth": "not 8 bits a channel.",
    "mask_0_255": "black and white (0 and 255, or 1 bit), and no map holds anything else; {meaning}.",
    "grey_steps": "greys in even steps, {greys}; {meaning}.",
    "grey_as_rgb": "numbers as three equal channels, which are read as colours.",
    "rgb_label": "colours, and no class has one: {colors}.",
    "unknown_colors": "colours of no class: {colors}.",
    "smeared_label": "up to {distinct:,} different values, most of them of no class.",
    "unknown_values": "numbers that are no class: {values}; {meaning}.",
    "damaged_label": "unreadable. {error}",
}


def _message(kind: str, members: Sequence[Record], records: Sequence[Record], meaning: Meaning) -> str:
    if kind == "off_by_one":
        return _off_by_one(records, meaning)
    labels = [record.label for record in members if record.label]
    return _MESSAGES[kind].format(
        formats=" and ".join(sorted({label.format for label in labels})),
        meaning=meaning.text,
        colors=_colors(labels, meaning) if kind in ("rgb_label", "unknown_colors") else "",
        distinct=max((label.distinct for label in labels), default=0),
        values=_wrong_values(labels, meaning) if kind == "unknown_values" else "",
        error=members[0].label_error,
        greys=", ".join(
            f"{grey}" + (f" (class {label})" if meaning.count else "") for grey, label in meaning.steps[:8]
        ),
    )


def _off_by_one(records: Sequence[Record], meaning: Meaning) -> str:
    count = meaning.count or 0
    used = {value for record in records if record.label for value in numbers_of(record.label) or ()}
    text = f"the number {count}, but {meaning.text}"
    if 0 not in used and meaning.ignore_index != 0:
        return f"{text}; no map holds 0, so the numbers seem to start at 1: subtract 1 from all."
    if meaning.ignore_index == 0:
        return f"{text}; number 0 is line 1 of the class list also where it is ignored: add a first line for it."
    lacking = f"{text}: the class list lacks a line (often the background, as line 1)"
    pixels = Counter[int]()
    for record in records:
        pixels.update(numbers_of(record.label) or {} if record.label else {})
    if 2 * pixels[count] > pixels.total():  # whatever most pixels have is not "no label"
        return f"{lacking}; {100 * pixels[count] / pixels.total():.0f} % of all pixels have this number."
    return f"{lacking}, or {count} means 'no label' (--ignore_index {count})."


def _wrong_values(labels: Iterable[LabelFacts], meaning: Meaning) -> str:
    totals = Counter[int]()
    for label in labels:
        numbers = numbers_of(label) or {}
        totals.update({value: numbers[value] for value in meaning.wrong(numbers)})
    parts = [f"{value} ({pixels:,} pixels)" for value, pixels in totals.most_common(_SHOWN)]
    more = len(totals) - len(parts)
    return ", ".join(parts) + (f" and {more} more" if more > 0 else "")


def _colors(labels: Iterable[LabelFacts], meaning: Meaning) -> str:
    known = meaning.colors
    totals = Counter[int]()
    for label in labels:
        totals.update({code: pixels for code, pixels in label.counts.items() if code not in known})
    parts = [f"({code >> 16}, {code >> 8 & 255}, {code & 255})" for code, _ in totals.most_common(_SHOWN)]
    more = len(totals) - len(parts)
    return ", ".join(parts) + (f" and {more:,} more" if more > 0 else "")


def _milder(sound: Sequence[Record], inventory: Inventory, meaning: Meaning) -> list[Finding]:
    """Of maps that can be read: colours, doubtful masks, ignored pixels, tiny regions."""
    found = []
    colored = [record for record in sound if record.label and record.label.stored == "colors"]
    one_channel = [r for r in colored if r.label and r.label.content and r.label.content.kind != "colors"]
    found += read_findings(one_channel, len(sound), inventory)
    colored = [record for record in colored if record not in one_channel]
    if colored:
        message = f"{len(colored):,} of {plural(len(sound), 'label map')}: colours, read by the class list."
        files = [_file(inventory, record) for record in colored]
        fixable = sum(is_fixable("rgb_read", record, meaning) for record in colored)
        found.append(finding("rgb_read", message, files, fixable=fixable))
    labels = [(record, numbers) for record in sound if record.label and (numbers := numbers_of(record.label))]
    if meaning.count == 2 and meaning.ignore_index == 255:
        doubtful = [record for record, numbers in labels if 255 in numbers and 1 not in numbers]
        if doubtful and any(1 in numbers for _, numbers in labels):
            message = f"{len(doubtful):,} of {plural(len(sound), 'label map')}: 255 and no 1, where others hold 1."
            files = [_file(inventory, record) for record in doubtful]
            shown = [_example(inventory, record) for record in doubtful]
            found.append(finding("some_masks_0_255", message, files, examples=shown))
    return found + _ignored(sound, inventory, meaning)


def _ignored(sound: Sequence[Record], inventory: Inventory, meaning: Meaning) -> list[Finding]:
    shares = [
        (record, ignored_pixels(record.label, meaning), _pixels(record.label)) for record in sound if record.label
    ]
    ignored, total = sum(part for _, part, _ in shares), sum(whole for _, _, whole in shares)
    found = []
    if ignored > total * MOSTLY:
        found.append(finding("mostly_ignored", f"{100 * ignored / total:.1f} % of all pixels are ignored."))
    empty = [record for record, part, whole in shares if part == whole]
    if empty:
        message = f"{len(empty):,} of {plural(len(sound), 'label map')}: nothing but ignored pixels."
        files = [_file(inventory, record) for record in empty]
        shown = [_example(inventory, record) for record in empty]
        found.append(finding("all_ignored", message, files, examples=shown))
    return found


def ignored_pixels(label: LabelFacts | None, meaning: Meaning) -> int:
    """Pixels of a readable map that count for nothing."""
    if label is None or meaning.ignore_index is None:
        return 0
    numbers = numbers_of(label) if label.stored == "numbers" else None
    if numbers is not None:
        return numbers.get(meaning.ignore_index, 0)
    colors = {pack(VOID_COLOR)}
    if meaning.class_list is not None and meaning.ignore_index < len(meaning.class_list.classes):
        colors.add(pack(meaning.class_list.classes[meaning.ignore_index].color))
    return sum(label.counts.get(code, 0) for code in colors)


def _pixels(label: LabelFacts | None) -> int:
    return 0 if label is None else label.size_hw[0] * label.size_hw[1]


def _tiny(records: Sequence[Record], inventory: Inventory) -> list[Finding]:
    having = [record for record in records if record.label and record.label.one_pixel + record.label.tiny]
    if not having:
        return []
    labels = [record.label for record in having if record.label]
    one, tiny = sum(label.one_pixel for label in labels), sum(label.tiny for label in labels)
    message = (
        f"{plural(one, 'region')} of one pixel and {tiny:,} of 2 to {TINY} pixels in {len(having):,} of "
        f"{plural(len(records), 'label map')}."
    )
    worst = sorted(having, key=lambda r: -(r.label.one_pixel + r.label.tiny) if r.label else 0)
    files = [_file(inventory, record) for record in worst]
    shown = [_example(inventory, record, record.label.spot) for record in worst[:4] if record.label]
    return [finding("tiny_regions", message, files, examples=shown)]


def _file(inventory: Inventory, record: Record) -> str:
    path = inventory.pairs[record.index].label
    return inventory.relative(path) if path else ""


def _example(inventory: Inventory, record: Record, box: Box | None = None) -> Example:
    pair = inventory.pairs[record.index]
    pictures = (pair.image,) if pair.image and record.picture else ()
    labels = (pair.label,) if pair.label and record.label else ()
    return Example(pictures, labels, box)
