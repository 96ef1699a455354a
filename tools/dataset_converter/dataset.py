"""Convert other people's datasets and label tools' exports into the layout of train.py; download public ones; make
lists of a folder."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    from common import cli
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None
from deeplabv3p.data.convert.formats import AUTO, FORMATS, Format, Options, find_format
from deeplabv3p.errors import UsageError

if TYPE_CHECKING:
    from deeplabv3p.data.convert.recognise import Recognised
    from deeplabv3p.data.convert.state import Conversion
    from deeplabv3p.data.split import Split

MANIFEST_FOLDER = Path(__file__).parent
SHOWN = 5
"""Skipped files that are printed; dataset.json has all."""

SPLIT = """Divide a dataset's pictures into lists. Pictures of one thing (tiles of a photograph, frames of a video,
augmented copies) stay in one list; rare classes are in all of them where possible. The same command makes the same
lists."""
EPILOG = """`list` says what can be converted, `convert FORMAT --help` what a format takes. Sources are folders or
archives (.zip, .tar, .tar.gz, .tgz) and are only read. Pictures are copied byte for byte, labels are
palette PNGs with 255 for ignored pixels. The same command again does nothing, or goes on where it was cut
off."""


class _Parser(cli.Parser):
    """What argparse makes for a sub-command."""

    def __init__(self, *, prog: str, description: str | None = None, epilog: str | None = None) -> None:
        super().__init__(description, epilog)
        self.prog = prog


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parser().parse_args(argv)
    if options.command == "list":
        print(_listing())
    elif options.command == "download":
        _download(find_format(options.format), options)
    elif options.command == "split":
        _split(options)
    else:
        _convert(AUTO if options.format == AUTO.name else find_format(options.format), options)


def _parser() -> argparse.ArgumentParser:
    parser = cli.Parser(__doc__, EPILOG)
    commands = parser.add_subparsers(
        dest="command", required=True, parser_class=_Parser, metavar="list|download|convert|split"
    )
    commands.add_parser("list", help="list the formats", description="List the formats that can be converted.")
    text = "Download a public dataset's archives: verified, and resumed where a download broke off. Nothing is deleted."
    download = commands.add_parser("download", help="get a public dataset's archives", description=text)
    download.add_argument("format", metavar="FORMAT", choices=tuple(FORMATS), help="a format of the list")
    download.add_argument("files", nargs="*", metavar="FILE", help="which of its archives (default: all)")
    download.add_argument(
        "--folder", type=Path, default=Path("downloads"), metavar="DIR", help="folder for the archives"
    )
    download.add_argument("--offline", action="store_true", help="only verify what is there")
    text = "Convert a dataset. Without network; the sources are only read."
    convert = commands.add_parser("convert", help="write a dataset for train.py", description=text)
    formats = convert.add_subparsers(dest="format", required=True, parser_class=_Parser, metavar="FORMAT")
    for item in (AUTO, *FORMATS.values()):
        text = f"{item.summary}. Source: {item.source}."
        one = formats.add_parser(item.name, help=item.summary, description=text)
        one.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="folders or archives")
        one.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the new dataset")
        one.add_argument("--link", action="store_true", help="make hard links of pictures instead of copies")
        one.add_argument("--overwrite", action="store_true", help="convert again where DIR holds another conversion")
        for name in item.options:
            flag, settings = _FLAGS[name]
            if "default" not in settings and "action" not in settings:
                default = item.order if name == "order" and item is not AUTO else getattr(Options, name)
                settings = {**settings, "default": default}
            one.add_argument(flag, **settings)
    _add_split(commands.add_parser("split", help="write train.txt, val.txt and test.txt", description=SPLIT))
    return parser


def _add_split(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="dataset: images/ and labels/, images/ and masks/, or VOC's")
    add("--ratio", default="0.8:0.1:0.1", metavar="A:B[:C]", help="shares of train, val and test; two: no test.txt")
    group_help = (
        "what stays on one side: auto, by names (tiles, frames, augmented copies); none, each picture by itself; or a "
        "regular expression: names with the same text in its groups"
    )
    add("--group", default="auto", metavar="auto|none|REGEX", help=group_help)
    add("--seed", type=cli.integer(0), default=0, metavar="N", help="another seed, another division")
    add("--overwrite", action="store_true", help="replace lists that are there")


_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "classes": (
        "--classes_path",
        {"type": Path, "default": None, "metavar": "FILE", "help": "class list (default: the source's own classes)"},
    ),
    "others": (
        "--others",
        {
            "choices": ("error", "unlabelled", "ignore"),
            "help": "what becomes of annotations that the class list does not name",
        },
    ),
    "unlabelled": (
        "--unlabelled",
        {"choices": ("background", "ignore"), "help": "what pixels without annotation are: label 0, or ignored"},
    ),
    "thickness": (
        "--thickness",
        {"type": cli.integer(1, 255), "metavar": "N", "help": "pixels across a line or a point"},
    ),
    "order": (
        "--order",
        {
            "choices": ("area", "file"),
            "help": "which shapes lie on top: the smaller, or those that come later in the file",
        },
    ),
    "polygon_only": ("--polygon_only", {"action": "store_true", "help": "leave out all shapes but polygons"}),
    "boxes": ("--boxes", {"action": "store_true", "help": "fill boxes, too"}),
    "min_pixels": (
        "--min_pixels",
        {"type": cli.integer(0), "metavar": "N", "help": "leave out pictures with fewer annotated pixels"},
    ),
    "annotation": (
        "--annotation",
        {"choices": ("instances", "stuff"), "help": "the instances' JSON, or the label maps of COCO-Stuff"},
    ),
    "class_number": (
        "--class_number",
        {"type": int, "choices": (11, 12), "help": "the 11 classes, or 12 with Void as the last"},
    ),
    "void_width": (
        "--void_width",
        {
            "type": cli.integer(0, 32),
            "metavar": "N",
            "help": "ignore N pixels on each side of SBD's boundaries; VOC's own label maps have 2 to 3",
        },
    ),
    "images": ("--images", {"metavar": "NAME", "help": "name of the folders of pictures"}),
    "labels": ("--labels", {"metavar": "NAME", "help": "name of the folders of masks"}),
    "label_suffix": (
        "--label_suffix",
        {
            "type": cli.any_text,
            "default": None,
            "metavar": "TEXT",
            "help": "what a mask's name has behind the picture's (default: the format's)",
        },
    ),
    "attribute": (
        "--attribute",
        {
            "default": None,
            "metavar": "NAME",
            "help": "which attribute of a region is its class (default: the likely one)",
        },
    ),
    "class_name": ("--class_name", {"metavar": "NAME", "help": "name of the class of all instances"}),
}


def _listing() -> str:
    width = max(len(name) for name in FORMATS)
    lines = [f"{AUTO.name:{width}}  {AUTO.summary}"]
    for item in FORMATS.values():
        lines += [f"{item.name:{width}}  {item.summary}", f"{'':{width}}  from {item.source}"]
        if item.archives:
            lines.append(f"{'':{width}}  download gets {', '.join(item.archives)}")
    return "\n".join(lines)


def _download(chosen: Format, options: argparse.Namespace) -> None:
    from common import pretrained
    from common.console import ConsoleProgress
    from common.runs import check_output_folder
    from deeplabv3p.weights.manifest import fetch, find_entry

    if not chosen.archives:
        raise UsageError(f"{chosen.by_hand}")
    unknown = [name for name in options.files if name not in chosen.archives]
    if unknown:
        raise UsageError(f"{chosen.name} has no archive '{unknown[0]}'. It has {', '.join(chosen.archives)}.")
    folder = check_output_folder(options.folder)
    for name in options.files or chosen.archives:
        entry = find_entry(name, MANIFEST_FOLDER)
        print(f"{name}: {entry.source}; {entry.licence}", flush=True)
        with ConsoleProgress(f"download {name}", "bytes") as progress:
            fetched = fetch(name, MANIFEST_FOLDER, into=folder, offline=options.offline, progress=progress)
        state = "downloaded" if fetched.downloaded else "here already"
        known = "verified" if entry.sha256 or entry.md5 else f"no hash is published; its SHA-256 is in {name}.sha256"
        print(f"{state}, {known}: {pretrained.shown(fetched.path)}")
    paths = shlex.join(str(folder / name) for name in chosen.archives if (folder / name).is_file())
    print(f"next: python tools/dataset_converter/dataset.py convert {chosen.name} {paths} --output {chosen.name}")


def _convert(chosen: Format, options: argparse.Namespace) -> None:
    from common.console import ConsoleProgress
    from common.runs import check_output_folder
    from deeplabv3p.data.classes import load_classes
    from deeplabv3p.data.convert.run import convert

    wanted = {name: getattr(options, _FLAGS[name][0].removeprefix("--")) for name in chosen.options}
    if wanted.get("classes") is not None:
        wanted["classes"] = load_classes(wanted["classes"])
    check_output_folder(options.output)
    with ConsoleProgress(f"convert {chosen.name}", "pictures") as progress:
        result = convert(
            chosen.name,
            options.sources,
            options.output,
            Options(**wanted),
            announce=lambda found: print("\n".join(plan(found, options.sources, options.output)), flush=True),
            link=options.link,
            overwrite=options.overwrite,
            checking=lambda done, total, info=None: progress(0, 0, {"compared": f"{100 * done / total:.0f} %"}),
            unpacking=lambda done, total, info=None: progress(0, 0, {"unpacked": f"{100 * done / total:.0f} %"}),
            progress=progress,
        )
    print("\n".join(summary(result)))


def _split(options: argparse.Namespace) -> None:
    from common.classes import resolve
    from common.console import ConsoleProgress
    from deeplabv3p.data.split import check_lists, parse_ratio, split_folder, write_lists

    ratio = parse_ratio(options.ratio)
    check_lists(options.folder, len(ratio), overwrite=options.overwrite)
    with ConsoleProgress("look for classes", "label maps") as progress:
        found = split_folder(options.folder, ratio, group=options.group, seed=options.seed, progress=progress)
    print("\n".join(split_lines(found)))
    paths = write_lists(found, overwrite=options.overwrite)
    lists = ", ".join(f"{path} ({len(names):,})" for path, names in zip(paths, found.lists.values(), strict=True))
    print(f"written: {lists}")
    command = ["python", "train.py", "--dataset_path", options.folder, "--dataset_file", paths[0]]
    command += ["--val_dataset_file", paths[1]]
    classes = resolve(None, options.folder)
    command += [] if classes is None else ["--classes_path", classes]
    print(f"next: {shlex.join(map(str, command))}")


def split_lines(found: Split) -> list[str]:
    """How a dataset was divided, in lines for people."""
    from deeplabv3p.data.doctor.inventory import shown

    grouping = found.grouping
    pictures, groups = len(grouping.keys), len(grouping.groups)
    example = ", ".join(shown(name) for name in grouping.example())
    lines = [f"{pictures:,} pictures in {groups:,} groups by name ({example}, …)"]
    if grouping.is_plain:
        lines = [f"{pictures:,} pictures, each by itself: no groups by name"]
    if grouping.unmatched:
        lines.append(f"note: --group does not match {grouping.unmatched:,} of the names; each of them is by itself")
    if grouping.series is not None:
        lines.append(
            f"note: {grouping.series_count:,} names are one series ({shown(grouping.series)}, …), taken one by one. If "
            "they are frames of one video, neighbours are in different lists: --group '(.*)[0-9][0-9]$' keeps hundreds "
            "together"
        )
    lines += [f"left out: {reason}" for reason in found.left_out]
    if found.unread:
        lines.append(f"warning: {found.unread:,} label maps cannot be read: tools/dataset_converter/doctor.py says why")
    return lines


def plan(found: Recognised, sources: Sequence[Path], output: Path) -> list[str]:
    """What a source was recognised as, and what is going to be done, in lines for people."""
    chosen = find_format(found.format or "")
    command = ["python", "tools/dataset_converter/dataset.py", "convert", chosen.name, *sources, "--output", output]
    flags = ", ".join(_FLAGS[name][0] for name in chosen.options)
    top = {"area": "the smaller shapes", "file": "the later shapes of a file"}[chosen.order]
    lines = [f"found: {found.name} ({found.evidence})", f"this does: {shlex.join(map(str, command))}"]
    if "order" in chosen.options:
        lines.append(f"on top lie {top} (--order)")
    if "boxes" in chosen.options:
        lines.append("boxes are left out (--boxes fills them)")
    return [*lines, f"flags that it takes: {flags}"] if flags else lines


def summary(result: Conversion) -> list[str]:
    """What was written, in lines for people, and the command that trains on it."""
    from deeplabv3p.data.convert.foreign import ALL
    from deeplabv3p.data.convert.state import CLASSES, STATE

    if result.reused:
        lines = [f"{result.root} holds this conversion already, complete: nothing to do"]
    else:
        counts = ", ".join(f"{count:,} in {split}.txt" for split, count in result.splits.items())
        lines = [f"written: {result.root}, {len(result.classes)} classes, {counts}"]
    if result.resumed:
        lines.append(f"{result.resumed:,} of them were done by a conversion that was cut off")
    lines += [f"warning: {warning}" for warning in result.warnings]
    lines += [f"note: {note}" for note in result.notes]
    lines += [f"left out: {item.file}: {item.reason}" for item in result.skipped[:SHOWN]]
    if len(result.skipped) > SHOWN:
        lines.append(f"left out: {len(result.skipped) - SHOWN:,} more files, all in {result.root / STATE}")
    total = sum(result.pixels) + result.ignored_pixels
    lines.append(f"pixels: {100 * result.ignored_pixels / total:.1f} % ignored; of the classes")
    width = max(len(item.name) for item in result.classes)
    lines += [
        f"  {label:3} {item.name:{width}} {100 * pixels / total:6.2f} %, in {pictures:,} pictures"
        for label, (item, pixels, pictures) in enumerate(
            zip(result.classes, result.pixels, result.pictures, strict=True)
        )
    ]
    root = result.root
    train = "train" if "train" in result.splits else ALL
    why = _why_split(result)
    if why is not None:
        again = ["--overwrite"] if set(result.splits) & {"train", "val", "test"} else []
        command = ["python", "tools/dataset_converter/dataset.py", "split", root, *again]
        return [*lines, f"note: {why}", f"next: {shlex.join(map(str, command))}"]
    command = ["python", "train.py", "--dataset_path", root, "--dataset_file", root / f"{train}.txt"]
    if "val" in result.splits and train != "val":
        command += ["--val_dataset_file", root / "val.txt"]
    command += ["--classes_path", root / CLASSES, "--ignore_index", "255"]
    return [*lines, f"next: {shlex.join(map(str, command))}"]


def _why_split(result: Conversion) -> str | None:
    """Why nobody should train on the lists of a conversion; None: they are as a training needs them."""
    from deeplabv3p.data.convert.foreign import ALL
    from deeplabv3p.data.dataset import read_list
    from deeplabv3p.data.groups import group_names

    splits = result.splits
    total = sum(splits.values())
    if set(splits) == {ALL}:  # train.py divides it picture by picture
        grouping = group_names(read_list(result.root / f"{ALL}.txt"))
        if grouping.is_plain or len(grouping.groups) < 3:
            return None
        example = ", ".join(grouping.example())
        return f"by their names pictures are parts of one thing ({example}, …): split keeps these in one list"
    if "train" not in splits:
        return f"no list is for training: the source names {' and '.join(splits)} only"
    # A source that has few lists says little about its other pictures; a train list that is a rest is none.
    if splits["train"] < splits.get(ALL, 0) or 4 * splits["train"] < total:
        return f"train.txt names {splits['train']:,} of {total:,} pictures"
    return None


if __name__ == "__main__":
    cli.run(main)
