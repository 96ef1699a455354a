"""The whole road on pictures that the project draws itself: train, evaluate, segment unseen pictures, report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

try:
    import deeplab
    import eval as evaluation
    import train
    from common import cli
    from common.runs import latest_run
except ModuleNotFoundError as error:
    raise SystemExit(f"error: this Python has no '{error.name}': activate the project's environment first.") from None

ROOT = Path(__file__).resolve().parents[1]
TRAIN, VAL, TEST = 960, 100, 16  # pictures
SIZE_HW = (96, 128)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    parser = cli.Parser(__doc__ or "", "Takes a few minutes on 2 cores. The last line names the report and the score.")
    parser.add_argument("--folder", type=Path, default=Path("demo"), metavar="DIR", help="folder for data and runs")
    parser.add_argument("--seed", type=cli.integer(0), default=1, metavar="N", help="seed of the pictures")
    options = parser.parse_args(argv)

    import json

    from deeplabv3p.data.shapes import generate

    shapes, runs = options.folder / "shapes", options.folder / "logs"
    print(f"drawing {TRAIN + VAL + TEST} pictures with exact labels: {shapes}", flush=True)
    generate(shapes, train=TRAIN, val=VAL, test=TEST, size_hw=SIZE_HW, seed=options.seed)
    data = ["--dataset_path", str(shapes)]

    code = train.main(
        [
            *("--config", str(ROOT / "configs" / "demo.toml"), "--log_dir", str(runs), *data),
            *("--dataset_file", str(shapes / "train.txt"), "--val_dataset_file", str(shapes / "val.txt")),
            *("--classes_path", str(shapes / "classes.txt")),
        ]
    )
    if code:
        return code
    run = latest_run(runs)
    model = ["--model_path", str(run / "best.keras")]
    print("\nevaluating the best checkpoint", flush=True)
    evaluation.main([*model, *data, "--dataset_file", str(shapes / "val.txt"), "--output_path", str(run / "report")])
    print("\nsegmenting pictures it has not seen", flush=True)
    unseen = [str(shapes / "images" / f"{name}.jpg") for name in (shapes / "test.txt").read_text().split()]
    deeplab.main([*model, "--image", *unseen, "--output", str(run / "segmented")])

    miou = json.loads((run / "report" / "scores.json").read_text(encoding="utf-8"))["miou"]
    print(f"\nrun folder {run}, segmented pictures in {run / 'segmented'}")
    print(f"report {run / 'report' / 'report.html'}, validation mIoU {miou:.4f}")
    return 0


if __name__ == "__main__":
    cli.run(main)
