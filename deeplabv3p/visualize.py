"""Label maps as pictures: colours, overlays, legends, comparisons and palette PNGs.

Files of labels have the classes' own colours; what is looked at, such as overlays and legends, those of
:func:`deeplabv3p.colors.on_screen`, which can be told apart.
Pictures are uint8 [H, W, 3] RGB, label maps uint8 [H, W] with 0 to K - 1 and IGNORE.
"""

from __future__ import annotations

import functools
import os
import unicodedata
from collections.abc import Collection, Sequence

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from deeplabv3p import colors, files
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

Pixels = npt.NDArray[np.uint8]
Path = str | os.PathLike[str]

IGNORE_COLOR = colors.IGNORE_COLOR

_WRONG = (229, 57, 53)
_TEXT, _HERSHEY = (31, 41, 55), 1 / 33  # scale of Hershey's letters for a pixel of size


def palette(classes: Sequence[ClassInfo]) -> Pixels:
    """The colour of every label value, uint8 [256, 3] RGB: classes, black where there is none, IGNORE_COLOR."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = [item.color for item in classes]
    table[IGNORE] = IGNORE_COLOR
    return table


def colorize(label: Pixels, classes: Sequence[ClassInfo]) -> Pixels:
    """The label map in its classes' own colours, uint8 [H, W, 3] RGB."""
    return _look_up(label, palette(classes))


def screen_palette(classes: Sequence[ClassInfo]) -> Pixels:
    """The same for the screen, where colours that are hard to tell apart are replaced."""
    return palette(colors.on_screen(classes))


def shown(label: Pixels, classes: Sequence[ClassInfo]) -> Pixels:
    """The label map in the colours of the screen, uint8 [H, W, 3] RGB."""
    return _look_up(label, screen_palette(classes))


def overlay(image: Pixels, label: Pixels, classes: Sequence[ClassInfo], alpha: float = 0.5) -> Pixels:
    """The picture tinted with the classes' colours on the screen, which make up ``alpha`` (0 to 1) of the result.

    Ignored pixels and classes whose colour is black, such as a background, keep the picture as it is.
    """
    return tint(image, label, screen_palette(classes), alpha)


def tint(image: Pixels, label: Pixels, table: Pixels, alpha: float) -> Pixels:
    """The same with the colour of each label from ``table``, uint8 [256, 3] RGB."""
    keep = np.where(table.any(axis=1), 0, 255).astype(np.uint8)
    keep[IGNORE] = 255
    result = cv2.addWeighted(image, 1 - alpha, _look_up(label, table), alpha, 0)
    return np.asarray(cv2.copyTo(image, cv2.LUT(label, keep), result), np.uint8)


def legend(classes: Sequence[ClassInfo], present: Collection[int] | None = None) -> Pixels:
    """A picture that names the colours on the screen, in label order; ``present`` limits it to those labels. A name
    whose letters OpenCV does not have is ``class`` and its number."""
    named = [
        (item.color, item.name if _can_write(item.name) else f"class {index}")
        for index, item in enumerate(colors.on_screen(classes))
        if present is None or index in present
    ]
    row, pad = 26, 10
    columns = max(1, -(-len(named) // 24))
    lines = -(-len(named) // columns)
    width = 40 + max((_text_width(name, 15) for _, name in named), default=0)
    picture = np.full((2 * pad + max(lines, 1) * row, 2 * pad + columns * width, 3), 255, np.uint8)
    for place, (color, name) in enumerate(named):
        left, top = pad + place // lines * width, pad + place % lines * row
        cv2.rectangle(picture, (left, top + 4), (left + 22, top + 21), color, cv2.FILLED)
        cv2.rectangle(picture, (left, top + 4), (left + 22, top + 21), (120, 120, 120), 1)
        write_text(picture, name, (left + 30, top + 18), 15)
    return picture


def error_map(image: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """Where the prediction is wrong: red on a faded grey picture; ignored pixels in IGNORE_COLOR."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    result = cv2.cvtColor(cv2.addWeighted(grey, 0.45, np.full_like(grey, 255), 0.4, 0), cv2.COLOR_GRAY2RGB)
    result[truth == IGNORE] = IGNORE_COLOR
    result[(truth != IGNORE) & (truth != prediction)] = _WRONG
    return np.asarray(result, np.uint8)


def side_by_side(images: Sequence[Pixels], titles: Sequence[str] | None = None, height: int | None = None) -> Pixels:
    """Pictures in a row, each under its title, scaled to ``height`` pixels (none: that of the tallest)."""
    height = height or max(image.shape[0] for image in images)
    gap, bar = 6, 22 if titles else 0
    columns: list[Pixels] = []
    for index, image in enumerate(images):
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        left = gap if index else 0
        column = np.full((bar + height, left + width, 3), 255, np.uint8)
        rule = cv2.INTER_AREA if height < image.shape[0] else cv2.INTER_LINEAR
        column[bar:, left:] = cv2.resize(image, (width, height), interpolation=rule)
        if titles:
            write_text(column, titles[index], (left + 1, 16), 14)
        columns.append(column)
    return np.concatenate(columns, axis=1)


def comparison(
    image: Pixels, truth: Pixels, prediction: Pixels, classes: Sequence[ClassInfo], height: int | None = None
) -> Pixels:
    """The picture, truth and prediction laid over it, and the errors, side by side with titles; ``height`` as in
    :func:`side_by_side`."""
    panels = [image, overlay(image, truth, classes, 0.65), overlay(image, prediction, classes, 0.65)]
    panels.append(error_map(image, truth, prediction))
    return side_by_side(panels, ["picture", "truth", "prediction", "errors"], height)


def save_label_png(path: Path, label: Pixels, classes: Sequence[ClassInfo]) -> None:
    """Write a label map as an 8-bit palette PNG, atomically: its values are the labels, IGNORE is 255.

    Raises:
        DataError: the file cannot be written.
    """
    picture = Image.fromarray(label)
    picture.putpalette(palette(classes).tobytes())
    with files.atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")


def save_image(path: Path, image: Pixels) -> None:
    """Write a picture, atomically; the suffix chooses the format (.jpg with quality 92, otherwise .png).

    Raises:
        DataError: the file cannot be written.
    """
    jpeg = os.fspath(path).lower().endswith((".jpg", ".jpeg"))
    files.write_bytes(path, encode_jpeg(image, 92) if jpeg else _encode(".png", image, []))


def encode_jpeg(image: Pixels, quality: int = 88) -> bytes:
    """The picture as a JPEG file; ``quality`` from 0 to 100."""
    return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])


def _look_up(label: Pixels, table: Pixels) -> Pixels:
    # Five times faster than table[label].
    return np.asarray(cv2.LUT(cv2.merge([label, label, label]), table[None]), np.uint8)


def _encode(suffix: str, image: Pixels, options: list[int]) -> bytes:
    return bytes(cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)[1])


def write_text(picture: Pixels, text: str, left_baseline: tuple[int, int], size: int) -> None:
    """Write dark text of ``size`` pixels into a picture. OpenCV 4 has no fonts but Hershey's strokes."""
    if hasattr(cv2, "FontFace"):
        cv2.putText(picture, text, left_baseline, _TEXT, cv2.FontFace("sans"), size)
    else:
        cv2.putText(picture, text, left_baseline, cv2.FONT_HERSHEY_SIMPLEX, size * _HERSHEY, _TEXT, 1, cv2.LINE_AA)


def _text_width(text: str, size: int) -> int:
    if hasattr(cv2, "FontFace"):
        return int(cv2.getTextSize((4096, 64), text, (0, 32), cv2.FontFace("sans"), size)[2])
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size * _HERSHEY, 1)[0][0])


def _can_write(text: str) -> bool:
    return all(_has_letter(letter) for letter in set(text))


@functools.cache
def _has_letter(letter: str) -> bool:
    """Whether OpenCV draws a letter as itself. For those that it lacks it draws a question mark, and it writes from
    left to right alone."""
    if letter.isascii():
        return True
    if not hasattr(cv2, "FontFace") or unicodedata.bidirectional(letter) in {"R", "AL"}:
        return False
    drawn = []
    for text in (letter, "?"):
        picture = np.full((40, 60, 3), 255, np.uint8)
        write_text(picture, text, (10, 30), 24)
        drawn.append(picture)
    return not np.array_equal(drawn[0], drawn[1])
