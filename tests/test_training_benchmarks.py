"""The benchmarks of training: their tables, rows that fail, and recipes that go on where they were interrupted."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path

import pytest

from benchmarks import batch_norm, newcomer, option_cost, options, recipes, tables
from common import cli
from deeplabv3p.errors import DivergedError, UsageError
from deeplabv3p.evaluation import isolation


def figures(median: float, peak: int) -> dict:
    times = {"median": median, "mean": median, "min": median, "max": median, "steps": 3}
    return {"step_s": times, "peak_mib": peak, "data_wait": 0.012, "epoch_end_s": 0.1}


def test_a_row_that_fails_says_why_and_the_table_goes_on():
    def measure(flags: list[str]) -> dict:
        if "focal" in flags:
            raise UsageError("there is no loss 'focal'.")
        if "sgd" in flags:
            raise isolation.CrashError("the process crashed with SIGKILL")
        return figures(2.0 if flags else 1.0, 1500 if flags else 1000)

    rows = list(options.measure_rows(["plain", "focal", "sgd", "ema", "plain"], measure))
    text = options.table(rows)
    assert [row["name"] for row in rows] == ["plain", "focal", "sgd", "ema", "plain"]
    assert "| `--loss focal` | failed: there is no loss 'focal'. |" in text
    assert "failed: the process crashed with SIGKILL" in text
    assert "| `--average_type ema` | 2.000 | 2.000 | 2.00 | 1,500 | +500 | 1.2% |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1, "every line has every cell"


def test_every_row_of_options_is_a_command_line_that_train_takes():
    parser = cli.Parser(None)
    option_cost.train_flags.add(parser)
    plain = vars(parser.parse_args([]))
    for name, (group, flags) in options.ROWS.items():
        if group == options.ENVIRONMENT:
            assert re.fullmatch(r"[A-Z_]+=\S+", flags), name
            continue
        differs = vars(parser.parse_args(flags.split())) != plain
        assert differs or name in ("plain", "adam"), f"{name} changes nothing"  # adam is train.py's default


def test_a_row_may_set_a_variable_for_its_process(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    names = ("TF_ENABLE_ONEDNN_OPTS", "GLIBC_TUNABLES")
    seen = []

    def measure(flags: list[str]) -> dict:
        seen.append((flags, [os.environ.get(name) for name in names]))
        return figures(1.0, 1000)

    rows = list(options.measure_rows(["no_onednn", "huge_pages", "plain"], measure))
    assert seen == [([], ["0", None]), ([], ["1", "glibc.malloc.hugetlb=1"]), ([], ["1", None])]
    assert "`TF_ENABLE_ONEDNN_OPTS=0`" in options.table(rows)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ([[0, 5, 6], [10, 11, 13, 14], [20]], [1, 2, 1]),  # the second epoch, without what lies between the two
        ([[0, 5, 6, 8], [10], []], [2]),  # stopped early: the first one without its warm-up
        ([[0, 5, 6], [], []], None),
    ],
)
def test_steps_are_timed_when_they_are_warm(ends, expected):
    times = option_cost.step_times([[float(end) for end in epoch] for epoch in ends])
    assert (times and (times["steps"], times["mean"])) == (expected and (len(expected), sum(expected) / len(expected)))


class Machine:
    """Stands for train.py and eval.py: writes what a run leaves, and is interrupted when told."""

    def __init__(self, interrupt_in: str = "", diverge_in: str = "") -> None:
        self.calls: list[list[str]] = []
        self.scored: list[str] = []
        self.interrupt_in, self.diverge_in = interrupt_in, diverge_in

    def train(self, argv: list[str]) -> int:
        self.calls.append(argv)
        if argv[0] == "--resume":
            run = Path(argv[1])
        else:
            run = Path(argv[argv.index("--log_dir") + 1]) / "000"
            run.mkdir(parents=True)
        (run / "state.npz").touch()
        if self.diverge_in == run.parent.name:
            raise DivergedError("the loss is nan at step 3.")
        if self.interrupt_in == run.parent.name:
            return cli.INTERRUPTED
        log = "epoch,step,val_miou,seconds\n1,5,0.3,60\n2,10,0.5,60\n3,15,,60\n4,20,0.4,60\n"
        (run / "training.csv").write_text(log)
        (run / "trained_final.keras").touch()
        return 0

    def score(self, model: Path, dataset: Path, split: str, folder: Path) -> dict:
        self.scored.append(f"{model.parent.parent.name}/{model.stem}/{split}")
        return {"miou": 0.5 if model.stem == "best" else 0.4}


def run_recipes(folder: Path, machine: Machine, *more: str) -> int:
    argv = ["--dataset_path", str(folder / "data"), "--folder", str(folder / "runs"), "--epochs", "4"]
    argv += ["--output", str(folder / "result.json"), "--recipes", "plain", "weighted", "ema", *more]
    options_: argparse.Namespace = recipes._parse(argv)
    settings = recipes._settings(options_)
    rows = recipes._start_rows(options_, settings)
    return recipes.run_recipes(options_, settings, rows, machine.train, machine.score)


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_recipes_go_on_where_they_were_interrupted(tmp_path):
    first = Machine(interrupt_in="weighted")
    assert run_recipes(tmp_path, first, "--alpha", "0.35") == cli.INTERRUPTED
    assert [row["recipe"] for row in result(tmp_path)["rows"]] == ["plain"], "what is done is written"
    assert "--weighted_type" in first.calls[1]
    assert first.calls[0][-4:-2] == ["--alpha", "0.35"], "unknown flags go to train.py"

    second = Machine()
    assert run_recipes(tmp_path, second, "--alpha", "0.35", "--resume") == 0
    assert second.calls[0] == ["--resume", str(tmp_path / "runs" / "weighted" / "000")]
    assert len(second.calls) == 2, "plain is not trained again"
    assert second.scored[:2] == ["weighted/best/val", "weighted/best/test"]
    row = result(tmp_path)["rows"][1]
    assert (row["best_epoch"], row["epochs"], row["steps"], row["seconds"]) == (2, 4, 20, 240)
    assert str(tmp_path) not in (tmp_path / "result.json").read_text(), "a result tells nobody's folders"

    third = Machine()
    assert run_recipes(tmp_path, third, "--alpha", "0.35", "--resume") == 0
    assert not third.calls


def test_a_run_that_was_trained_but_not_scored_is_scored(tmp_path):
    class Killed(Machine):
        def score(self, *arguments) -> dict:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_recipes(tmp_path, Killed())
    after = Machine()
    assert run_recipes(tmp_path, after, "--resume") == 0
    assert [Path(call[call.index("--log_dir") + 1]).name for call in after.calls] == ["weighted", "ema"]
    assert "plain/last/test" in after.scored


def test_recipes_do_not_overwrite_or_mix_results(tmp_path):
    assert run_recipes(tmp_path, Machine(diverge_in="weighted")) == 0
    assert [row.get("error") for row in result(tmp_path)["rows"]] == [None, "the loss is nan at step 3.", None]
    with pytest.raises(UsageError, match="--resume"):
        run_recipes(tmp_path, Machine())
    with pytest.raises(UsageError, match="other flags"):
        run_recipes(tmp_path, Machine(), "--resume", "--learning_rate", "1")


def test_tables_show_options_recipes_and_gpu(tmp_path):
    run_recipes(tmp_path, Machine(diverge_in="ema"))
    text = tables.MAKERS["recipes"](result(tmp_path))
    assert "| weighted | `--weighted_type balanced` | 2 | 0.5000 | 0.5000 | 0.4000 | 0.4000 | 4 |" in text
    assert "failed: the loss is nan at step 3." in text
    rows = [{"name": "plain", "group": "", "flags": "", **figures(1, 1000)}]
    assert tables.MAKERS["options"]({"rows": rows}) == options.table(rows)
    alone = {"images_per_s": 200.0, "utilisation": 0.4, "device": "NVIDIA H200", "peak_mib": 9000}
    row = {"model": "resnet50", "images_per_s": 100.0, "utilisation": 0.2, "data_wait": 0.1, "val_miou": 0.7}
    row |= {"test": {"miou": 0.6}, "step_alone": alone}
    text = tables.MAKERS["gpu/camvid"]({"rows": [row, {"model": "unet", "error": "train.py ended"}]})
    assert "| `resnet50` | NVIDIA H200 | 100 | 20.0% | 10.0% | 200 | 40.0% | 9,000 | 0.7000 | 0.6000 |" in text
    assert "| `unet` | failed: train.py ended |" in text


def test_a_newcomer_trains_with_default_flags_on_evenly_spaced_pictures(tmp_path, capsys):
    """What was measured before is not trained again."""
    (tmp_path / "train.txt").write_text("".join(f"p{index}\n" for index in range(8)))
    seen: list[list[str]] = []

    def train(argv: list[str]) -> int:
        seen.append(argv)
        run = Path(argv[argv.index("--log_dir") + 1]) / "000"
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"options": {"batch_size": 2}}))
        log = "epoch,step,train_miou,val_miou,seconds\n1,5,0.2,0.11,60\n2,10,0.5,0.31,60\n3,15,0.6,0.3,30\n"
        (run / "training.csv").write_text(log)
        return 0

    base = ["--dataset_path", str(tmp_path), "--ignore_index", "11", "--folder", str(tmp_path / "runs")]
    argv = [*base, "--output", str(tmp_path / "out.json"), "--counts", "4", "8"]
    assert newcomer.main([*argv[:-1], "--offline"], train) == 0
    assert newcomer.main([*argv, "--offline"], train) == 0
    assert len(seen) == 2
    assert (tmp_path / "runs" / "train4.txt").read_text().split() == ["p0", "p2", "p4", "p6"]
    given = {flag for flag in seen[0] if flag.startswith("--")}
    assert given == {
        *("--dataset_path", "--dataset_file", "--val_dataset_file", "--classes_path", "--ignore_index"),
        *("--backbone_weights", "--log_dir", "--offline"),
    }
    assert "| 4 | 2 | 15 | 2 | 0.600 | 0.310 | 2 | 0.300 |" in capsys.readouterr().out


def test_the_gap_of_batch_norms_is_a_row_a_run(tmp_path):
    row = {"run": "000", "model": "mobilenetv2", "training_pictures": 40, "steps": 100, "list": "val.txt"}
    text = batch_norm.table([row | {"as_saved": 0.38, "reestimated": 0.37}])
    assert "| 000 | `mobilenetv2` | 40 | 100 | val.txt | 0.3800 | 0.3700 | +0.0100 |" in text
    assert cli.exit_code(lambda: batch_norm.main([str(tmp_path)])) == 3
