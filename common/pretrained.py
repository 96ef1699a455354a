"""Trained models in the weights folder: which is the best that is here, and how to get one that is not."""

from __future__ import annotations

import dataclasses
import math
import shlex
from pathlib import Path

from common.console import ConsoleProgress
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.models.registry import ModelName
from deeplabv3p.runtime.artifact import find_spec
from deeplabv3p.spec import ModelSpec
from deeplabv3p.weights.manifest import Entry, Fetched, fetch, find_entry, local_file, read_manifest

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS_FOLDER = ROOT / "weights"
DOWNLOAD = "python tools/model_converter/download_weights.py"
IMPORT = "python tools/model_converter/import_weights.py"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained model that is here. ``facts`` tells its network, classes and score. ``bare`` is the entry of weights
    without a spec, which says what they belong to; None for a model that knows itself."""

    path: Path
    facts: str
    bare: Entry | None = None

    def __str__(self) -> str:
        return f"{shown(self.path)}: {self.facts}"


def best_available(name: ModelName | None) -> Pretrained:
    """The best trained model in the weights folder: the manifest's defaults in their order, then any ready model.

    Args:
        name: the network it must be; None for any.

    Raises:
        UsageError: no trained weights of that network are known.
        DataError: there is none here, and then the message says how to get it; or what is here is damaged.
    """
    entries = [entry for entry in read_manifest(WEIGHTS_FOLDER).values() if entry.model is not None]
    entries = [entry for entry in entries if (entry.default if name is None else entry.model == str(name))]
    entries.sort(key=lambda entry: entry.default or math.inf)
    for entry in entries:
        found = _of_entry(entry)
        if found is not None:
            return found
    for path in sorted(WEIGHTS_FOLDER.glob("[!.]*.keras")):
        spec = find_spec(path)
        if spec is not None and spec.task == "segmentation" and (name is None or spec.model.name == str(name)):
            return Pretrained(path, _facts(spec) + _others(entries))
    if not entries:
        raise UsageError(f"no trained weights of '{name}' are known. Pass --weights_path FILE, or train it.")
    missing = "no model is given" if name is None else f"no weights of '{name}' are given"
    flag = "--model_path" if name is None else "--weights_path"
    get = f"`{DOWNLOAD} {entries[0].short_name}` ({entries[0].score}; --list shows others)"
    raise DataError(f"{missing}, and {shown(WEIGHTS_FOLDER)} has none. Run {get}, or pass {flag} FILE.")


def _of_entry(entry: Entry) -> Pretrained | None:
    """The ready model of an entry if it was imported, else its file; None where neither is here."""
    ready = None if entry.imported is None else WEIGHTS_FOLDER / entry.imported
    path = ready if ready is not None and ready.is_file() else local_file(entry, WEIGHTS_FOLDER)
    if path is None:
        return None
    spec = find_spec(path)
    if spec is not None:
        return Pretrained(path, _facts(spec, entry.score))
    return Pretrained(path, f"{entry.model}, classes of {entry.classes}, {entry.score}", entry)


def _facts(spec: ModelSpec, published: str | None = None) -> str:
    """Network, data, classes and score of a model that knows itself; the published score where it says none."""
    data, measured = spec.provenance.dataset, spec.provenance.miou
    # A score on another list than that of the run's validation is told with the list before its protocol.
    scored_on, colon, _ = spec.provenance.protocol.partition(": ")
    score = published if measured is None else f"mIoU {measured:.4f} on {scored_on if colon else 'its validation list'}"
    trained = f"trained on {data}" if data else ""
    names = [item.name for item in spec.classes[:3]] + ["…"] * (spec.num_classes > 3)
    classes = f"{spec.num_classes} classes ({', '.join(names)})"
    return ", ".join(filter(None, (spec.model.name, trained, classes, score)))


def _others(entries: list[Entry]) -> str:
    """How to get the first of the models that are known and not here."""
    if not entries:
        return ""
    classes = Path(entries[0].classes or "").stem.removesuffix("_classes")
    return f". For the classes of {classes}: {DOWNLOAD} {entries[0].short_name}"


def how_to_get(path: Path) -> str:
    """A sentence that tells how to download a file that is not there, with a space before; empty where nobody knows."""
    try:
        entry = find_entry(path.name, WEIGHTS_FOLDER)
    except DataError:
        return ""
    folder = "" if path.parent.resolve() == WEIGHTS_FOLDER else f" --folder {shlex.quote(str(path.parent))}"
    return f" Run `{DOWNLOAD} {entry.short_name or entry.name}{folder}`."


def terms_of_file(path: str | Path) -> str:
    """What a file may be used for: as its own spec says, else as the manifest says of a file of that name; empty where
    neither knows.

    Raises:
        DataError: its spec is wrong.
    """
    path = Path(path)
    spec = find_spec(path) if path.is_file() else None
    if spec is not None and spec.provenance.terms:
        return spec.provenance.terms
    try:
        entries = read_manifest(WEIGHTS_FOLDER)
    except DataError:  # it is looked at in passing
        return ""
    return next((entry.terms for entry in entries.values() if path.name in (entry.name, entry.product)), "")


def with_terms(spec: ModelSpec, path: str | Path) -> ModelSpec:
    """The spec, with the terms of the weights' file in it where they are known and it says none."""
    terms = spec.provenance.terms or terms_of_file(path)
    return spec.replace(provenance={"terms": terms})


def terms_lines(spec: ModelSpec) -> list[str]:
    """The line that says what a model may be used for; none where nobody knows."""
    return [f"terms of use: {spec.provenance.terms}"] if spec.provenance.terms else []


def use_command(entry: Entry, path: Path) -> str:
    """The command that segments with the bare weights of a whole model."""
    stride = f" --output_stride {entry.output_stride}" if entry.output_stride else ""
    size = f" --model_input_shape {entry.size_hw[0]}x{entry.size_hw[1]}" if entry.size_hw else ""
    return (
        f"python deeplab.py --model_type {entry.model} --weights_path {_quoted(path)} "
        f"--classes_path {entry.classes}{stride}{size} --image PICTURE"
    )


def import_command(entry: Entry, path: Path) -> str:
    """The command that makes a ready model of a file in another format."""
    target = WEIGHTS_FOLDER / str(entry.imported)
    return f"{IMPORT} {_quoted(path)} --model_type {entry.model} --output {_quoted(target)}"


def fetch_weights(name: str, *, offline: bool, into: Path | None = None) -> Fetched:
    """Get a file of the manifest (see :func:`deeplabv3p.weights.manifest.fetch`), with progress on the console where
    something is downloaded, and a line if its SHA-256 was not known before.

    Raises:
        DataError: as ``fetch``.
    """
    folder = into or WEIGHTS_FOLDER
    if offline or local_file(find_entry(name, WEIGHTS_FOLDER), folder, WEIGHTS_FOLDER) is not None:
        fetched = fetch(name, WEIGHTS_FOLDER, into=folder, offline=offline)
    else:
        with ConsoleProgress("download", "MB") as progress:
            fetched = fetch(
                name,
                WEIGHTS_FOLDER,
                into=folder,
                progress=lambda done, total, info=None: progress(done // 1_000_000, total // 1_000_000),
            )
    if fetched.recorded:
        print(f"{fetched.path.name}: its SHA-256 was not known and is recorded now: {fetched.sha256}", flush=True)
    return fetched


def shown(path: Path) -> str:
    """A path as a user would type it: relative to where the command runs, if it is in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _quoted(path: Path) -> str:
    return shlex.quote(shown(path))
