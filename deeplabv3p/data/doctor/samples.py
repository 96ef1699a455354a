"""What pictures, and pictures together with their label maps, say: damage, sizes, EXIF, suffixes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deeplabv3p.data.depth import likely_white, looks_like
from deeplabv3p.data.doctor.findings import Example, Finding, Severity, finding, plural
from deeplabv3p.data.doctor.inventory import Inventory, content_format
from deeplabv3p.data.doctor.record import MAX_PIXELS, Record
from deeplabv3p.data.kinds import IMAGE_SUFFIXES
from deeplabv3p.spec import FULL_RANGE

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
"""The suffixes that fit a format, the usual one first."""
_TURNING = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def fits_unturned(record: Record) -> bool:
    """Whether the label map has the size of the picture as stored, and EXIF swaps that."""
    picture, label = record.picture, record.label
    if picture is None or label is None or picture.orientation not in _TURNING:
        return False
    return label.size_hw == picture.size_hw[::-1] != picture.size_hw


def sizes_differ(record: Record) -> bool:
    """Whether the label map has another size than the picture, and EXIF does not explain it."""
    picture, label = record.picture, record.label
    if picture is None or label is None:
        return False
    return label.size_hw != picture.size_hw and not fits_unturned(record)


def sample_findings(records: Sequence[Record], inventory: Inventory) -> list[Finding]:
    """Findings about single samples that are not about the values of labels."""
    found = []
    total = len(records)

    def add(kind: str, chosen: Sequence[Record], message: str, fixable: int = 0, *, show: bool = True) -> None:
        if chosen:
            files = [_image(inventory, record) for record in chosen]
            shown = [_example(inventory, record) for record in chosen[:4]] if show else []
            count = f"{len(chosen):,} of {plural(total, 'picture')}:"
            found.append(finding(kind, f"{count} {message}", files, fixable=fixable, examples=shown))

    damaged = [record for record in records if record.picture_error is not None and not record.beyond_white]
    if damaged:
        add("damaged_picture", damaged, f"unreadable. {damaged[0].picture_error}", show=False)
    huge = [record for record in records if record.huge]
    add("huge", huge, f"more than {MAX_PIXELS / 1e6:.0f} million pixels, in the picture or its label map.", show=False)
    sizes = [record for record in records if sizes_differ(record)]
    if sizes:
        add("size_differs", sizes, f"label map of another size, as {_sizes(inventory, sizes[0])}.")
    stored = [record for record in records if fits_unturned(record)]
    add("exif_label", stored, "turned by EXIF, where the label map is not.", len(stored))
    turned = [r for r in records if r.picture and r.picture.orientation != 1 and r not in stored and r not in sizes]
    unclear = [record for record in turned if _is_unclear(record)]
    add("exif_unclear", unclear, "turned or mirrored by EXIF without a change of size.")
    clear = [record for record in turned if not _is_unclear(record) and record.label]
    add("exif_turned", clear, "turned by EXIF, and so is the label map.")
    return [*found, *_suffixes(inventory)]


def range_findings(records: Sequence[Record], inventory: Inventory, picture_max: int | None) -> list[Finding]:
    """Findings about the range of pictures of 16 bits; ``picture_max`` is what white is said to be, if anything is."""
    found = []
    beyond = [record for record in records if record.beyond_white]
    if beyond:
        message = f"{len(beyond):,} of {plural(len(records), 'picture')}: {beyond[0].picture_error}"
        found.append(finding("beyond_white", message, [_image(inventory, record) for record in beyond]))
    deep = [record for record in records if record.picture and record.picture.largest is not None]
    largest = [record.picture.largest or 0 for record in deep if record.picture]
    white = likely_white(largest) if picture_max is None else None
    if white is not None:
        files = [_image(inventory, record) for record in deep]
        shown = [_example(inventory, record) for record in deep[:4]]
        found.append(finding("dark_range", f"{looks_like(largest, FULL_RANGE, white)}.", files, examples=shown))
    return found


def _is_unclear(record: Record) -> bool:
    picture = record.picture
    if picture is None or record.label is None:
        return False
    return picture.orientation not in _TURNING or picture.size_hw[0] == picture.size_hw[1]


def _sizes(inventory: Inventory, record: Record) -> str:
    assert record.picture is not None
    assert record.label is not None
    image, label = (f"{height}x{width}" for height, width in (record.picture.size_hw, record.label.size_hw))
    return f"{_image(inventory, record)}: {image} against {label} (height x width)"


def _suffixes(inventory: Inventory) -> list[Finding]:
    """Files whose name says another format than their content. Where training looks for a suffix, it is an error."""
    unseen: list[Path] = []
    misnamed: list[Path] = []
    for index in inventory.listed:
        pair = inventory.pairs[index]
        image, label = pair.image, pair.label
        if image and inventory.layout and not is_seen(image):
            unseen.append(image)
        elif image and right_suffix(image):
            misnamed.append(image)
        if label and right_suffix(label) == ".png":  # other formats are a finding of their own
            (unseen if inventory.layout else misnamed).append(label)
    found = []
    groups: list[tuple[list[Path], Severity, str]] = [
        (unseen, "error", "with a suffix under which training does not look for them"),
        (misnamed, "warning", "with the suffix of another format, read by content"),
    ]
    for files, severity, what in groups:
        if files:
            names = [inventory.relative(path) for path in files]
            fixable = sum(can_rename(path) for path in files)
            message = f"{plural(len(files), 'file')} {what}, as '{names[0]}' ({content_format(files[0])})."
            found.append(finding("wrong_suffix", message, names, severity=severity, fixable=fixable))
    return found


def is_seen(path: Path) -> bool:
    """Whether training looks for pictures of that suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def can_rename(path: Path) -> bool:
    """Whether another suffix is all that a file needs."""
    return right_suffix(path) in IMAGE_SUFFIXES


def right_suffix(path: Path) -> str | None:
    """The suffix that the content asks for, where the file has another; None where it is right or unknown."""
    suffixes = SUFFIXES.get(content_format(path) or "", ())
    return suffixes[0] if suffixes and path.suffix.lower() not in suffixes else None


def _image(inventory: Inventory, record: Record) -> str:
    path = inventory.pairs[record.index].image
    return inventory.relative(path) if path else ""


def _example(inventory: Inventory, record: Record) -> Example:
    pair = inventory.pairs[record.index]
    pictures = (pair.image,) if pair.image and record.picture else ()
    return Example(pictures, (pair.label,) if pair.label and record.label else ())
