"""tools/dataset_converter: stats, browse and label_errors on a small dataset, with names that are no good names."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import toy_model
from PIL import Image

from common import cli
from deeplabv3p.data.balance import balanced_weights
from deeplabv3p.errors import DataError, UsageError
from tools.dataset_converter import browse, label_errors, stats

DATA = ["--dataset_path", "data", "--dataset_file", "val.txt", "--classes_path", "data/classes.txt"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Red, blue and dark are its classes; at stride 4, for pictures of 32x48."""
    return toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras")


@pytest.fixture(autouse=True)
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pictures, red and blue. The first row is ignored; the border lies elsewhere in the second, and in the third
    a part of the red is labelled blue."""
    folder = tmp_path / "data"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for index, name in enumerate(("p 0", "zwölf", "<b>bold<b> & co")):
        label = np.full((64, 96), 2, np.uint8)
        label[:, :48] = 1
        if index == 1:
            label[:, 40:48] = 2
        if index == 2:
            label[20:40, 8:24] = 2
        label[0] = 255
        Image.fromarray(toy_model.halves()).save(folder / "images" / f"{name}.png")
        Image.fromarray(label).save(folder / "labels" / f"{name}.png")
    (folder / "val.txt").write_text("p 0\nzwölf\n<b>bold<b> & co\n", encoding="utf-8")
    (folder / "classes.txt").write_text("dark 0 0 0\nred 200 0 0\nblue 0 0 200\n")
    monkeypatch.chdir(tmp_path)
    return folder


def refused(main: object, *flags: str) -> int:
    return cli.exit_code(lambda: main([*flags]))  # type: ignore[operator]


def titles(path: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", Path(path).read_text(encoding="utf-8"))


def test_stats_are_printed_and_written(capsys):
    stats.main(DATA)
    found = json.loads(Path("stats/stats.json").read_text(encoding="utf-8"))
    pixels = [0, 3 * 63 * 48 - 63 * 8 - 20 * 16, 3 * 63 * 48 + 63 * 8 + 20 * 16]
    assert [row["pixels"] for row in found["classes"]] == pixels
    assert [row["pixel_share"] for row in found["classes"]] == [number / (3 * 63 * 96) for number in pixels]
    assert [row["picture_share"] for row in found["classes"]] == [0, 1, 1]
    assert [row["balanced_weight"] for row in found["classes"]] == balanced_weights(np.array(pixels)).tolist()
    assert [row["pieces"] for row in found["classes"]] == [0, 3, 4]
    assert found["classes"][0]["piece_side_p50"] is None
    assert found["classes"][1]["piece_side_p50"] == pytest.approx((63 * 48 - 320) ** 0.5, abs=0.01)
    assert found["together"] == [[0, 0, 0], [0, 3, 3], [0, 3, 3]]
    assert found["sizes"] == [{"height": 64, "width": 96, "pictures": 3}]
    assert found["ignored_pixels"] == 3 * 96
    with Path("stats/classes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pixels"] for row in rows] == [str(number) for number in pixels]
    assert rows[0]["piece_side_p50"] == ""
    together = Path("stats/together.csv").read_text().splitlines()
    assert together == ["class,dark,red,blue", "dark,0,0,0", "red,0,3,3", "blue,0,3,3"]
    for chart in ("class_shares.png", "piece_sizes.png", "together.png"):
        assert min(Image.open(Path("stats") / chart).size) > 150
    assert Path("stats/report.html").read_text(encoding="utf-8").count("data:image/png") == 3
    out = capsys.readouterr().out
    assert "3 pictures of 64x96; 1.56 % of all pixels are ignored" in out
    assert "without a single pixel: dark" in out
    assert f"{100 * pixels[1] / (3 * 63 * 96):.3f}" in out


def test_stats_of_many_sizes_and_of_nothing_but_ignored_pixels(dataset, capsys):
    for size in range(5):
        name = f"s{size}"
        Image.fromarray(np.zeros((8, 8 + size, 3), np.uint8)).save(dataset / "images" / f"{name}.png")
        Image.fromarray(np.full((8, 8 + size), 255, np.uint8)).save(dataset / "labels" / f"{name}.png")
    (dataset / "val.txt").write_text("s0\ns1\ns2\ns3\ns4\n")
    stats.main([*DATA, "--output_path", "new/folder"])
    out = capsys.readouterr().out
    assert "5 sizes, sides 8 to 12 px: 8x8 (1), 8x9 (1), 8x10 (1) and 2 more; 100.00 % of all" in out
    assert json.loads(Path("new/folder/stats.json").read_text())["classes"][0]["pixel_share"] is None


def test_a_damaged_label_map_leaves_nothing_behind(dataset, capsys):
    path = dataset / "labels" / "zwölf.png"
    path.write_bytes(path.read_bytes()[:50])
    for main in (stats.main, browse.main):
        assert refused(main, *DATA, "--output_path", "out") == DataError.exit_code
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert "zwölf.png" in error
        assert not Path("out").exists()


def test_browse_without_a_model(capsys):
    browse.main(DATA)
    assert titles("browse/gallery.html") == ["p 0", "zwölf", "&lt;b&gt;bold&lt;b&gt; &amp; co"]
    page = Path("browse/gallery.html").read_text(encoding="utf-8")
    assert "<b>bold" not in page
    assert '<option value="prediction">' not in page
    assert page.count('data-classes=" 1 2 "') == 3
    assert Image.open("browse/contact_sheet.png").size[0] > 700
    assert "gallery: browse/gallery.html" in capsys.readouterr().out
    browse.main([*DATA, "--limit", "2", "--side", "64", "--output_path", "small"])
    assert titles("small/gallery.html") == ["p 0", "zwölf"]
    assert "2 of 3 pictures are shown, in the order of the list" in capsys.readouterr().out
    assert Path("small/gallery.html").stat().st_size < Path("browse/gallery.html").stat().st_size


def test_browse_shows_the_worst_first(model, tmp_path, capsys):
    browse.main([*DATA, "--model_path", str(model), "--output_path", "by_model"])
    by_model = titles("by_model/gallery.html")
    assert [title[:3] for title in by_model] == ["zwö", "&lt", "p 0"], "504 pixels wrong, then 320, then hardly any"
    for name in ("p 0", "zwölf", "<b>bold<b> & co"):
        Path("predictions").mkdir(exist_ok=True)
        label = np.full((64, 96), 2, np.uint8)
        label[:, :48] = 1
        Image.fromarray(label).save(f"predictions/{name}_label.png")
    browse.main([*DATA, "--predictions", "predictions", "--limit", "2", "--output_path", "by_files"])
    assert titles("by_files/gallery.html") == by_model[:2]
    page = Path("by_files/gallery.html").read_text(encoding="utf-8")
    assert f"{100 * 504 / (63 * 96):.1f} % of the pixels wrong" in page
    assert '<option value="errors">' in page
    browse.main([*DATA, "--predictions", "predictions", "--order", "list", "--output_path", "listed"])
    assert titles("listed/gallery.html")[0] == "p 0"
    assert "2 of 3 pictures are shown, the largest share of wrong pixels first" in capsys.readouterr().out


def test_browse_refuses_what_does_not_fit(model, dataset, capsys):
    assert refused(browse.main, *DATA, "--order", "wrong") == UsageError.exit_code
    assert "--order wrong needs --predictions or --model_path" in capsys.readouterr().err
    assert refused(browse.main, *DATA, "--predictions", "x", "--model_path", "y") == UsageError.exit_code
    assert refused(browse.main, *DATA, "--predictions", "nowhere") == DataError.exit_code
    assert refused(browse.main, *DATA, "--output_path", "data/val.txt") == DataError.exit_code
    (dataset / "classes.txt").write_text("black\nred\nblue\n")
    assert refused(browse.main, *DATA, "--model_path", str(model)) == UsageError.exit_code
    assert "calls class 0 'black', the model calls it 'dark'" in capsys.readouterr().err
    assert not Path("browse").exists()


def test_label_errors_are_ranked_and_shown(model, capsys):
    label_errors.main(["--model_path", str(model), *DATA[:4], "--min_pixels", "100"])
    found = json.loads(Path("label_errors/label_errors.json").read_text(encoding="utf-8"))
    rows = found["regions"]
    assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    by_name = {row["name"]: row for row in rows[:2]}
    strip, patch = by_name["zwölf"], by_name["<b>bold<b> & co"]
    assert (patch["labelled"], patch["suggested"]) == ("blue", "red")
    assert (patch["top"], patch["left"], patch["bottom"], patch["right"], patch["pixels"]) == (20, 8, 40, 24, 320)
    assert (strip["labelled"], strip["suggested"]) == ("blue", "red")
    assert strip["top"] == 1, "the first row is ignored"
    assert found["protocol"].startswith("colors, 32x48 stretch")
    with Path("label_errors/label_errors.csv").open(encoding="utf-8") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row["name"] for row in rows]
    assert titles("label_errors/label_errors.html")[0] == "1. blue → red?"
    out = capsys.readouterr().out
    assert "blue, perhaps red; 320 pixels at row 20, column 8" in out

    label_errors.main(["--model_path", str(model), *DATA[:4], "--top", "1", "--output_path", "one"])
    assert len(titles("one/label_errors.html")) == 1


def test_no_label_error_is_a_result_too(model, capsys):
    label_errors.main(["--model_path", str(model), *DATA[:4], "--min_pixels", "5000"])
    assert "no region is doubted" in capsys.readouterr().out
    assert json.loads(Path("label_errors/label_errors.json").read_text())["regions"] == []
    assert Path("label_errors/label_errors.csv").read_text().startswith("rank,name,labelled,suggested,score")
    assert titles("label_errors/label_errors.html") == []


def test_label_errors_refuse_what_does_not_fit(model, tmp_path, capsys):
    assert refused(label_errors.main, "--model_path", "no.keras", *DATA) == DataError.exit_code
    (tmp_path / "data/classes.txt").write_text("dark\nred\n")
    assert refused(label_errors.main, "--model_path", str(model), *DATA) == UsageError.exit_code
    assert "names 2 classes, the model has 3" in capsys.readouterr().err
    assert not Path("label_errors").exists()


def test_the_smallest_region_is_that_of_the_library():
    from deeplabv3p.evaluation.label_errors import MIN_PIXELS

    assert label_errors._MIN_PIXELS == MIN_PIXELS
