"""Opens and runs the files that are named on the standard input, in this process, and says what became of each.

A line in: ``runtime<TAB>file<TAB>spec file``. A line out, on the descriptor that is named: JSON with ``outcome``
(ok, or error for a message of ours, or bug for any other exception), ``text``, ``seconds`` and ``megabytes``."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from pathlib import Path

from deeplabv3p.errors import DeeplabError
from deeplabv3p.evaluation.isolation import peak_memory
from deeplabv3p.runtime import probe
from deeplabv3p.runtime.artifact import ArtifactRef, open_unprobed
from deeplabv3p.spec import ModelSpec


def attempt(runtime: str, path: Path, spec_path: Path) -> tuple[str, str]:
    """(outcome, text) of one file."""
    try:
        spec = ModelSpec.load(spec_path)
        opened = open_unprobed(ArtifactRef(path, runtime, None), spec)
        output = opened.run(probe.noise(spec))
        opened.close()
    except DeeplabError as error:
        return "error", str(error)
    except BaseException as error:
        return "bug", "".join(traceback.format_exception(error))
    return "ok", f"{output.dtype} {output.shape}"


def main() -> None:
    """Until the standard input ends."""
    probe.limit_memory()
    with os.fdopen(int(sys.argv[1]), "w", buffering=1) as answers:
        for line in sys.stdin:
            runtime, path, spec_path = line.rstrip("\n").split("\t")
            started = time.perf_counter()
            outcome, text = attempt(runtime, Path(path), Path(spec_path))
            answer = {
                "outcome": outcome,
                "text": text,
                "seconds": time.perf_counter() - started,
                "megabytes": (peak_memory() or 0) >> 20,
            }
            print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
