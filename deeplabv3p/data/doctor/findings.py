"""What can be wrong with a dataset: the kinds, in the order in which they break a training, and a finding of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""``error``: training stops, or learns something else than is meant. ``warning``: it runs, but scores or classes are
not what they seem. ``note``: worth knowing."""

Box = tuple[int, int, int, int]
"""top, left, bottom, right in pixels; bottom and right excluded."""

EXAMPLES = 4  # of a finding


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how bad it is, what it means and what to do, and whether a repair is known at all."""

    severity: Severity
    why: str
    repair: str | None = None


@dataclass(frozen=True)
class Example:
    """Something to look at: pictures and label maps side by side, and where to look."""

    pictures: tuple[Path, ...] = ()
    labels: tuple[Path, ...] = ()
    box: Box | None = None


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    ``kind`` is a key of :data:`KINDS`, ``message`` one sentence with the figures, ``files`` every file (or name in a
    list, or class) that it is about, relative to the dataset, ``count`` how many they are. ``fixable`` is how many of
    them :func:`deeplabv3p.data.doctor.repair` repairs without guessing.
    """

    kind: str
    severity: Severity
    message: str
    files: tuple[str, ...] = ()
    fixable: int = 0
    examples: tuple[Example, ...] = field(default=(), compare=False)

    @property
    def count(self) -> int:
        """How many files, names or classes it is about."""
        return len(self.files)

    @property
    def explanation(self) -> str:
        """Why it matters and what to do."""
        return KINDS[self.kind].why


# The order is the ranking: first what stops training at once, then what spoils it silently, then what spoils scores.
KINDS: dict[str, Kind] = {
    "list_unreadable": Kind("error", "A split list must be UTF-8 text with one name, or 'picture label', a line."),
    "list_empty": Kind("error", "A list without names gives nothing to train on or to score."),
    "unknown_names": Kind(
        "error", "Training stops at a list that names files which are not there.", "the names are taken off the list"
    ),
    "name_spelling": Kind(
        "error",
        "Names are spelled otherwise than their files (upper and lower case, or a suffix). That works on some systems "
        "and stops training on others.",
        "the list gets the files' spelling",
    ),
    "repeated_names": Kind(
        "error", "Training refuses a list that names a picture twice.", "each name stays once, in its first place"
    ),
    "listed_unpaired": Kind(
        "error", "Training stops at a listed picture without a label map.", "the names are taken off the list"
    ),
    "ambiguous_name": Kind(
        "error", "Several files answer to one name (two suffixes, or two spellings of an accent). Remove all but one."
    ),
    "damaged_picture": Kind(
        "error", "Training stops at a picture that cannot be decoded to its end.", "the sample is left out"
    ),
    "damaged_label": Kind(
        "error", "Training stops at a label map that cannot be decoded to its end.", "the sample is left out"
    ),
    "huge": Kind("error", "Decoding this would fill the memory. Scale it down, or cut it.", "the sample is left out"),
    "dark_range": Kind(
        "error",
        "Cameras of 10, 12 or 14 bits store them in files of 16, which are read as almost black pictures unless the "
        "value of white is said: to doctor.py and train.py by --picture_max; the model then knows it. If the pictures "
        "are meant to be that dark, say --picture_max 65535.",
    ),
    "beyond_white": Kind(
        "error", "The pictures have values above what --picture_max says is white, so white is something else."
    ),
    "size_differs": Kind(
        "error",
        "A label map must have its picture's height and width; anything else would label the wrong pixels.",
        "the sample is left out",
    ),
    "exif_label": Kind(
        "error",
        "The camera stored these pictures sideways with a mark (EXIF) that turns them. Training turns them; the label "
        "maps fit the pictures as stored.",
        "the label map is turned, too, without loss",
    ),
    "jpeg_label": Kind(
        "error",
        "JPEG changes values around every edge, so numbers there mean other classes. Export the maps as PNG again.",
        "where nearly all pixels are close to a class colour: those get that class, the others become ignored",
    ),
    "smeared_label": Kind(
        "error",
        "Many in-between values around few frequent ones: the map was once a JPEG, or was scaled with interpolation. "
        "Make it again from its source, with nearest-neighbour scaling.",
        "where nearly all pixels are close to a class colour: those get that class, the others become ignored",
    ),
    "label_format": Kind(
        "error", "Label maps must be PNG.", "the numbers are stored as PNG where the format kept them"
    ),
    "mask_0_255": Kind(
        "error",
        "The maps mark the object by 255, which means 'ignore' here: training would learn that everything is class 0.",
        "255 becomes 1 where there are two classes, or no class list",
    ),
    "rgb_label": Kind(
        "error",
        "Colours say nothing without the class list: give each of its lines a colour (name R G B), or store numbers.",
    ),
    "grey_as_rgb": Kind(
        "error",
        "Class numbers were stored as three equal channels, which reads as colours.",
        "one channel is kept",
    ),
    "palettes_unclear": Kind(
        "error",
        "A palette PNG holds numbers that mean classes, or an optimiser's order of colours. Which of them decides what "
        "is learned, so nothing is guessed.",
    ),
    "grey_steps": Kind(
        "error",
        "The maps hold greys that stand for classes, made for the eye: training needs the numbers 0, 1, 2, …",
        "the greys become class numbers, where there are as many as classes",
    ),
    "one_class_list": Kind(
        "error",
        "A network of one class says that class everywhere and scores 1.0. Background is a class of its own, line 1 of "
        "the list.",
    ),
    "nothing_labelled": Kind("error", "No pixel counts, so nothing can be learned."),
    "one_class_only": Kind(
        "error",
        "A network learns to say that class everywhere and scores 1.0. Were the annotations lost in a conversion, or "
        "does the list name the wrong pictures?",
    ),
    "off_by_one": Kind(
        "error", "The numbers do not start where the class list starts, or the list lacks a line. Number 0 is line 1."
    ),
    "unknown_values": Kind(
        "error",
        "A number that is neither a class nor the ignored one stops training. Correct the maps, the class list or "
        "--ignore_index.",
        "the sample is left out",
    ),
    "unknown_colors": Kind(
        "error",
        "A colour that no line of the class list has stops training. Add it, or correct the map.",
        "the sample is left out",
    ),
    "ambiguous_depth": Kind(
        "error",
        "With fewer than 8 bits (or 16-bit colours) class 1 and 'ignore' cannot be told apart after some tools. Store "
        "8-bit grey or a palette.",
        "the sample is left out",
    ),
    "wrong_suffix": Kind(
        "warning", "The name says another format than the content.", "the file gets the suffix of its content"
    ),
    "unread_kind": Kind(
        "warning",
        "Pictures of kinds that are not read here are as if they were not there. Convert them to JPEG or PNG.",
    ),
    "some_masks_0_255": Kind(
        "warning",
        "Of two classes, these maps hold 0 and 255 but no 1, while others do: 255 may mean class 1 here.",
    ),
    "exif_unclear": Kind(
        "warning",
        "The pictures are turned by EXIF in a way that keeps their size, so the sizes do not tell whether the label "
        "maps are turned, too. Look at an overlay.",
    ),
    "in_two_lists": Kind(
        "warning", "The same picture is in two lists: scores on one of them are scores on known pictures."
    ),
    "copies_across": Kind(
        "warning", "Copies of a picture (perhaps scaled or stored again) are in two lists: scores will be too good."
    ),
    "group_across": Kind(
        "warning",
        "By their names, pictures of one thing (tiles of a photograph, frames of a video, augmented copies) are in two "
        "lists: scores will be too good. dataset.py split makes lists that keep such groups together. Names may "
        "mislead: if these pictures are unrelated, all is well.",
    ),
    "class_not_trained": Kind(
        "warning", "The class occurs where scores are taken but not in the training list: it cannot be learned."
    ),
    "class_empty": Kind(
        "warning", "No label map holds the class. Its IoU stays undefined, its output is never trained."
    ),
    "mostly_ignored": Kind("warning", "More than half of all pixels are ignored: training sees the other half only."),
    "all_ignored": Kind("warning", "Their pictures teach nothing, and are scored on nothing."),
    "case_clash": Kind(
        "warning", "These names differ in upper and lower case alone: on Windows and macOS one overwrites the other."
    ),
    "odd_name": Kind(
        "warning",
        "Names with outer blanks, control characters or bytes that are no UTF-8 cannot be listed or break other tools.",
    ),
    "alike_across": Kind(
        "note",
        "Pictures in two lists look nearly the same, as neighbouring frames of a video do. Scores between the lists "
        "are better than on scenes never seen; splitting by video avoids it.",
    ),
    "copies_within": Kind("note", "Copies within a list count twice."),
    "tiny_regions": Kind(
        "note",
        "Regions of a few pixels are often slips of the pen or of scaling; a network with logits at stride 4 or more "
        "cannot learn them.",
    ),
    "rgb_read": Kind(
        "note", "Colour maps are read by the class list's colours. As numbers they load faster.", "stored as numbers"
    ),
    "palette_read": Kind(
        "note",
        "PNG optimisers store colour maps as palettes in an order of their own, or as grey. Training reads them by "
        "colour, as here; other tools may read the numbers.",
        "stored as numbers",
    ),
    "exif_turned": Kind(
        "note", "Turned by EXIF, with label maps that fit. Tools that ignore EXIF will show them sideways."
    ),
    "unicode_spelling": Kind(
        "note",
        "Accents in these names are stored as two characters. It is handled here; other tools may not find them.",
    ),
    "without_label": Kind("note", "Pictures without a label map, in no list: nothing uses them.", "left out"),
    "without_picture": Kind("note", "Label maps without a picture: nothing uses them.", "left out"),
    "unlisted": Kind("note", "Samples that are in no list were not looked at.", "left out"),
    "no_lists": Kind(
        "note",
        "No split list was found, so every pair of files was looked at. train.py needs a list, "
        "which dataset.py split makes.",
    ),
    "no_classes": Kind(
        "note", "Without a class list (--classes_path, or classes.txt in the dataset) values cannot be judged."
    ),
}


def finding(
    kind: str,
    message: str,
    files: Sequence[str] = (),
    *,
    severity: Severity | None = None,
    fixable: int = 0,
    examples: Sequence[Example] = (),
) -> Finding:
    """A finding of a kind; ``severity`` where it differs from the kind's usual one."""
    return Finding(kind, severity or KINDS[kind].severity, message, tuple(files), fixable, tuple(examples)[:EXAMPLES])


def ranked(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The worst first: by severity, then by the order of :data:`KINDS`, then by count."""
    order = list(KINDS)
    return tuple(
        sorted(findings, key=lambda item: (SEVERITIES.index(item.severity), order.index(item.kind), -item.count))
    )


def plural(count: int, noun: str) -> str:
    """``1 file``, ``1,200 files``; ``class`` and such take -es."""
    many = noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {noun if count == 1 else many}"
