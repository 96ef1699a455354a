"""HTML galleries: pictures with layers over them, to be filtered by class and text in the browser.

A page is one file with its pictures inside; nothing is loaded from elsewhere, all text is escaped, and the only script
that may run is the page's own, which is named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

import deeplabv3p
from common.page import STYLE, Legend
from deeplabv3p import files, visualize
from deeplabv3p.pixels import IGNORE
from deeplabv3p.spec import ClassInfo

PAGE_BYTES = 25_000_000
"""About the size of a page; what does not fit goes on the next one."""

Pixels = npt.NDArray[np.uint8]

_JPEG_QUALITY = 82
# Width by height of a card's picture; what is narrower or wider gets bars, or its text would be a word a line.
_NARROWEST, _WIDEST = 0.6, 4.0
_WRONG, _OUTLINE = (229, 57, 53), (255, 0, 110)


@dataclass(frozen=True)
class Card:
    """A picture of a gallery.

    Args:
        title: its name.
        text: a line under it; title and text are searched.
        picture: a JPEG file.
        layers: PNG files that lie over it, by name; the reader chooses one. The same names on every card.
        outline: a PNG file that always lies on top, or None.
        classes: the labels that the filter finds it by.
        size_hw: (height, width) of the picture, for the shape of the card.
    """

    title: str
    text: str
    picture: bytes
    layers: Mapping[str, bytes]
    classes: Collection[int]
    outline: bytes | None = None
    size_hw: tuple[int, int] = (3, 4)
    html: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "html", _card_html(self))


def write_gallery(
    path: str | os.PathLike[str],
    title: str,
    note: str,
    classes: Sequence[ClassInfo],
    cards: Sequence[Card],
    *,
    page_bytes: int = PAGE_BYTES,
) -> list[Path]:
    """Write the cards in their order to ``path`` and, where they do not fit, to ``<stem>_2.html``, ``<stem>_3.html``, …
    which link to each other.

    Args:
        path: the first page.
        title: of all pages.
        note: a paragraph above the pictures.
        classes: for the legend and the filter; label i is ``classes[i]``.
        cards: the pictures.
        page_bytes: about the size of a page; a page has at least one card.

    Returns:
        The pages.

    Raises:
        DataError: the folder cannot be written.
    """
    first = Path(path)
    pages = list(_split(cards, page_bytes)) or [[]]
    paths = [first, *(first.with_name(f"{first.stem}_{number}.html") for number in range(2, len(pages) + 1))]
    for number, (own, page) in enumerate(zip(paths, pages, strict=True)):
        files.write_text(own, _page_html(title, note, classes, page, _links(paths, number)))
    return paths


def fit(size_hw: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) of a thumbnail whose longer side is ``side`` pixels, or less where the picture is smaller."""
    height, width = size_hw
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def thumbnail(image: Pixels, size_hw: tuple[int, int]) -> bytes:
    """A picture, uint8 [H, W, 3] RGB, as a JPEG file of that (height, width)."""
    small = cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return visualize.encode_jpeg(np.asarray(small, np.uint8), _JPEG_QUALITY)


def label_layer(label: Pixels, classes: Sequence[ClassInfo], size_hw: tuple[int, int]) -> bytes:
    """A label map, uint8 [H, W], in its classes' colours as a PNG file of that (height, width). Ignored pixels and
    classes whose colour is black, such as a background, are transparent, as in :func:`visualize.overlay`."""
    colors = visualize.screen_palette(classes)
    opaque = np.asarray(colors.any(axis=1), np.bool_)
    opaque[IGNORE] = False
    return _palette_png(label, colors, opaque, size_hw)


def error_layer(truth: Pixels, prediction: Pixels, size_hw: tuple[int, int]) -> bytes:
    """Where a prediction is wrong, in red; the rest is transparent, ignored pixels light."""
    state = np.where(truth == IGNORE, 2, truth != prediction).astype(np.uint8)
    colors = np.zeros((256, 3), np.uint8)
    colors[1:3] = _WRONG, visualize.IGNORE_COLOR
    return _palette_png(state, colors, np.arange(256) > 0, size_hw)


def outline_layer(mask: npt.NDArray[np.bool_], size_hw: tuple[int, int]) -> bytes:
    """The outline of a mask [H, W], two pixels wide at the size asked for; the rest is transparent."""
    small = cv2.resize(mask.astype(np.uint8), size_hw[::-1], interpolation=cv2.INTER_NEAREST)
    # Drawn outside the region, so that it hides none of it.
    line = cv2.dilate(small, np.ones((5, 5), np.uint8)) - small
    colors = np.zeros((256, 3), np.uint8)
    colors[1] = _OUTLINE
    return _palette_png(np.asarray(line, np.uint8), colors, np.arange(256) > 0, size_hw)


def _palette_png(values: Pixels, colors: Pixels, opaque: npt.NDArray[np.bool_], size_hw: tuple[int, int]) -> bytes:
    small = cv2.resize(values, size_hw[::-1], interpolation=cv2.INTER_NEAREST)
    picture = Image.fromarray(np.asarray(small, np.uint8))
    picture.putpalette(colors.tobytes())
    data = io.BytesIO()
    picture.save(data, format="PNG", transparency=bytes(np.where(opaque, 255, 0).astype(np.uint8)))
    return data.getvalue()


def _card_html(card: Card) -> str:
    layers = "".join(
        f'<img class="layer" data-layer="{escape(name)}" src="{_data(png)}" alt="">'
        for name, png in card.layers.items()
    )
    outline = f'<img class="outline" src="{_data(card.outline)}" alt="">' if card.outline else ""
    picture = f'<img src="{_data(card.picture)}" alt="{escape(card.title)}">'
    labels = " ".join(str(label) for label in sorted(card.classes))
    height, width = card.size_hw
    ratio = min(max(width / height, _NARROWEST), _WIDEST)
    return (
        f'<article data-classes=" {labels} " style="--ratio:{ratio:.3f}">'
        f'<div class="stack">{picture}{layers}{outline}</div>'
        f"<h3>{escape(card.title)}</h3><p>{escape(card.text)}</p></article>\n"
    )


def _data(file: bytes) -> str:
    kind = "png" if file.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"


def _split(cards: Sequence[Card], page_bytes: int) -> Iterator[list[Card]]:
    page: list[Card] = []
    size = 0
    for card in cards:
        if page and size + len(card.html) > page_bytes:
            yield page
            page, size = [], 0
        page.append(card)
        size += len(card.html)
    if page:
        yield page


def _links(paths: Sequence[Path], own: int) -> str:
    if len(paths) == 1:
        return ""
    links = (
        f"<b>{number}</b>" if number == own + 1 else f'<a href="{escape(path.name)}">{number}</a>'
        for number, path in enumerate(paths, 1)
    )
    return f"<nav>page {' '.join(links)}</nav>"


def _page_html(title: str, note: str, classes: Sequence[ClassInfo], cards: Sequence[Card], links: str) -> str:
    held = {label for card in cards for label in card.classes}
    choices = "".join(f'<option value="{label}">{escape(classes[label].name)}</option>' for label in sorted(held))
    layers = list(cards[0].layers) if cards else []
    chosen = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in layers)
    return _PAGE.format(
        title=escape(title),
        note=escape(note),
        style=STYLE + _GALLERY_STYLE,
        script=_SCRIPT,
        hash=base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode(),
        legend=Legend(classes).html(),
        choices=choices,
        layers=chosen,
        links=links,
        cards="".join(card.html for card in cards),
        footer=escape(f"deeplabv3p {deeplabv3p.__version__}"),
    )


_SCRIPT = """
"use strict";
const cards = Array.from(document.querySelectorAll("article"));
const at = (id) => document.getElementById(id);
const texts = cards.map((card) => card.textContent.toLowerCase());
function filter() {
  const words = at("text").value.toLowerCase().split(/\\s+/);
  const label = at("class").value;
  let shown = 0;
  cards.forEach((card, i) => {
    const fits = words.every((word) => texts[i].includes(word));
    card.hidden = !(fits && (label === "" || card.dataset.classes.includes(" " + label + " ")));
    if (!card.hidden) shown += 1;
  });
  at("shown").textContent = shown + " of " + cards.length + " shown";
}
function layer() {
  const chosen = at("layer").value;
  document.querySelectorAll(".layer").forEach((image) => { image.hidden = image.dataset.layer !== chosen; });
}
at("text").addEventListener("input", filter);
at("class").addEventListener("input", filter);
at("layer").addEventListener("input", layer);
at("opacity").addEventListener("input", () => {
  document.documentElement.style.setProperty("--opacity", at("opacity").value / 100);
});
cards.forEach((card) => card.querySelector(".stack").addEventListener("click", () => card.classList.toggle("large")));
filter();
layer();
"""

_GALLERY_STYLE = """
main { max-width: 1600px; }
:root { --opacity: .55; }
.controls { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; gap: 8px 20px; align-items: center; }
.controls > * { margin: 0; }
.controls input, .controls select { font: inherit; color: inherit; background: var(--back); padding: 3px 6px;
  border: 1px solid var(--line); border-radius: 6px; vertical-align: middle; }
/* Rows of pictures of one height, each as wide as it asks for: tall ones leave no holes beside them. */
.cards { display: flex; flex-wrap: wrap; gap: 16px; }
.cards::after { content: ""; flex: 1e6 1 0; }
article { box-sizing: content-box; flex: var(--ratio) 1 calc(var(--ratio) * 190px); background: var(--card);
  border: 1px solid var(--line); border-radius: 12px; padding: 10px; max-width: calc(100% - 22px);
  content-visibility: auto; contain-intrinsic-size: auto 280px; }
article.large { flex-basis: 100%; }
[hidden] { display: none !important; }
.stack { position: relative; cursor: zoom-in; aspect-ratio: var(--ratio); background: var(--back);
  border-radius: 4px; overflow: hidden; }
.large .stack { cursor: zoom-out; max-height: 90vh; margin: 0 auto; max-width: 100%; }
.stack img { width: 100%; height: 100%; object-fit: contain; image-rendering: auto; background: none;
  border-radius: 0; }
.stack .layer, .stack .outline { position: absolute; inset: 0; height: 100%; image-rendering: pixelated; }
.stack .layer { opacity: var(--opacity); }
h3 { font-size: .9rem; margin: 8px 0 0; }
article p { margin: 0; color: var(--soft); font-size: .8rem; }
/* The text asks for no width: it would make the card of a tall picture wider than its neighbours allow. */
article h3, article p { contain: inline-size; }
article:not(.large) p { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
nav { font-size: 1rem; } nav a { color: var(--accent); }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{hash}'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
<section><p>{note}</p>
{legend}
{links}
</section>
<section class="controls">
<label>find <input id="text" type="search" placeholder="name or text"></label>
<label>class <select id="class"><option value="">all</option>{choices}</select></label>
<label>layer <select id="layer">{layers}<option value="">none</option></select></label>
<label>opacity <input id="opacity" type="range" min="0" max="100" value="55"></label>
<span id="shown"></span>
</section>
<div class="cards">
{cards}</div>
<footer>{links}{footer}</footer>
</main>
<script>{script}</script>
</body>
</html>
"""
