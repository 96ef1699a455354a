"""Score a model on a dataset, at each picture's own resolution: PA, MPA, mIoU, FWIoU and the IoU of every class."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from common import cli
from common.runs import check_output_folder
from deeplabv3p.errors import UsageError

if TYPE_CHECKING:
    from deeplabv3p.data.dataset import Dataset
    from deeplabv3p.evaluation.score import Evaluation, PictureCallback
    from deeplabv3p.runtime import Runtime
    from deeplabv3p.spec import ModelSpec


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    options = _parse(argv)
    folder = check_output_folder(options.output_path)
    # Only now: these import NumPy and OpenCV, and the engine when the model is opened.
    from common.network import agreed_classes, find_artifact, with_size
    from common.report import write_evaluation
    from deeplabv3p.data.dataset import open_dataset
    from deeplabv3p.evaluation.score import evaluate
    from deeplabv3p.inference import protocol
    from deeplabv3p.runtime.artifact import open_artifact

    artifact, spec = find_artifact(options.model_path)
    spec = with_size(spec, options.model_input_shape, artifact.path)
    class_list = agreed_classes(spec, options.classes_path)
    spec = spec.replace(classes=class_list.classes)
    dataset = open_dataset(options.dataset_path, options.dataset_file, class_list, _ignore_index(options, spec))
    with contextlib.closing(open_artifact(artifact, threads=options.threads, spec=spec)) as runtime:
        print(f"evaluating {artifact.path} on {len(dataset)} pictures of {dataset.source}")
        print(f"protocol: {protocol(runtime)}", flush=True)
        save = _saver(folder, spec) if options.save_result else None
        with ConsoleProgress("evaluate", "pictures") as progress:
            evaluation = evaluate(runtime, dataset, progress=progress, on_picture=save)
