"""Kinds of picture files by their suffixes: those that folders are searched for, and those that are left aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Pictures are looked for under these, in upper and lower case."""

_OTHERS = frozenset(
    f".{name}"
    for name in (
        *("avif", "bpg", "cur", "dcm", "dib", "dpx", "emf", "eps", "exr", "fit", "fits", "fts", "gif", "hdr", "heic"),
        *("heics", "heif", "hif", "icns", "ico", "j2c", "j2k", "jfi", "jfif", "jif", "jng", "jp2", "jpc", "jpe", "jpf"),
        *("jpm", "jpx", "jxl", "jxr", "mng", "mpo", "pam", "pbm", "pcx", "pfm", "pgm", "pic", "pict", "pnm", "ppm"),
        *("psb", "psd", "qoi", "ras", "sgi", "svg", "svs", "tga", "wdp", "wmf", "xbm", "xcf", "xpm"),
        # of cameras
        *("3fr", "arw", "cr2", "cr3", "dng", "erf", "kdc", "mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw"),
        *("rw2", "rwl", "sr2", "srf", "srw", "x3f"),
    )
)


def is_other_kind(path: Path) -> bool:
    """Whether a file is a picture, by its suffix, of a kind that folders are not searched for."""
    return path.suffix.lower() in _OTHERS


def kinds_text(paths: Iterable[Path]) -> str:
    """``3 files of kinds that are not read: .heic 2, .gif 1``; "" without files."""
    counts = Counter(path.suffix.lower() or "(no suffix)" for path in paths)
    total = sum(counts.values())
    if not total:
        return ""
    files = "1 file of a kind that is" if total == 1 else f"{total:,} files of kinds that are"
    return f"{files} not read: {', '.join(f'{suffix} {count:,}' for suffix, count in counts.most_common())}"
