"""One self-contained HTML page from sections of blocks: no scripts, nothing loaded from elsewhere, all text escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Protocol

from deeplabv3p.colors import on_screen
from deeplabv3p.spec import ClassInfo


class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """The block as HTML, its text escaped."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str

    def html(self) -> str:
        """The paragraph as HTML."""
        return f"<p>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Tiles:
    """Figures that catch the eye: (value, what it is)."""

    items: tuple[tuple[str, str], ...]

    def html(self) -> str:
        """The tiles as HTML."""
        tiles = (f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for value, name in self.items)
        return f'<div class="tiles">{"".join(tiles)}</div>'


@dataclass(frozen=True)
class Facts:
    """Names and their values, one a line."""

    items: tuple[tuple[str, str], ...]

    def html(self) -> str:
        """The list as HTML."""
        return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(value)}</dd>' for name, value in self.items)}</dl>"


@dataclass(frozen=True)
class Table:
    """Rows under a header. The first column holds names (a class comes with its colour), the others numbers."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | ClassInfo, ...], ...]

    def html(self) -> str:
        """The table as HTML."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in self.rows)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


@dataclass(frozen=True)
class Legend:
    """The colours of classes on the screen, in a row."""

    classes: Sequence[ClassInfo]

    def html(self) -> str:
        """The row as HTML."""
        items = "".join(f"<span>{_cell(item)}</span>" for item in on_screen(self.classes))
        return f'<p class="legend">{items}</p>'


@dataclass(frozen=True)
class Figure:
    """A PNG or JPEG file, embedded, with a caption. ``wide`` figures that do not fit a phone scroll sideways."""

    data: bytes
    caption: str
    wide: bool = False

    def html(self) -> str:
        """The image and its caption as HTML."""
        kind = "png" if self.data.startswith(b"\x89PNG") else "jpeg"
        source = f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"
        wide = ' class="wide"' if self.wide else ""
        image = f'<img src="{source}" alt="{escape(self.caption)}"{wide}>'
        return f'<figure><div class="scroll">{image}</div><figcaption>{escape(self.caption)}</figcaption></figure>'


def render(title: str, sections: Sequence[Section], footer: str = "") -> str:
    """The whole page as HTML text."""
    parts = []
    for section in sections:
        blocks = "\n".join(block.html() for block in section.blocks)
        parts.append(f"<section>\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>")
    return _PAGE.format(style=STYLE, title=escape(title), body="\n".join(parts), footer=escape(footer))


def _cell(value: str | ClassInfo) -> str:
    if isinstance(value, str):
        return escape(value)
    red, green, blue = value.color
    return f'<i style="background:rgb({red},{green},{blue})"></i>{escape(value.name)}'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
<footer>{footer}</footer>
</main>
</body>
</html>
"""

STYLE = """
:root { --ink: #1f2937; --soft: #6b7280; --line: #e5e7eb; --card: #ffffff; --back: #f6f7f9; --accent: #2563eb; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e7eb; --soft: #9ca3af; --line: #30363d; --card: #171b21; --back: #0d1117; --accent: #60a5fa; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", sans-serif; overflow-wrap: anywhere; }
main { max-width: 1080px; margin: 0 auto; padding: 24px 16px 48px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 20px; }
h2 { font-size: 1.1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 20px;
  margin-bottom: 16px; }
section > * { margin: 0; }
section > * + * { margin-top: 16px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 16px; }
.tiles b { display: block; font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles div:first-child b { color: var(--accent); }
.tiles span { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 12px 7px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; font-size: .875rem; }
th:first-child, td:first-child { text-align: left; }
td:first-child { white-space: normal; min-width: 8.5em; }
tbody tr:last-child td { border-bottom: 0; }
i { display: inline-block; width: 14px; height: 14px; border-radius: 4px; margin-right: 8px; vertical-align: -2px;
  border: 1px solid rgb(127 127 127 / .5); }
.legend span { display: inline-block; margin-right: 18px; }
dl { display: grid; grid-template-columns: minmax(110px, max-content) 1fr; gap: 6px 20px; }
dt { color: var(--soft); }
dd { margin: 0; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: 4px; }
img { display: block; max-width: 100%; height: auto; background: #ffffff; border-radius: 6px; }
img.wide { width: 100%; min-width: 640px; }
footer { color: var(--soft); font-size: .875rem; text-align: center; }
@media (max-width: 520px) { section { padding: 16px 14px; } dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; } }
@media print { section { break-inside: avoid; } }
"""
