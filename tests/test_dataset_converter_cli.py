"""tools/dataset_converter: the one command, the older names, and downloads from a server in a thread."""

from __future__ import annotations

import hashlib
import io
import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from file_server import FileServer, Served
from PIL import Image

from common import cli
from deeplabv3p.data.convert.formats import FORMATS
from deeplabv3p.weights.manifest import read_manifest

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools" / "dataset_converter"
SIZE = (24, 32)


def load(name: str) -> object:
    return runpy.run_path(str(TOOLS / name))["main"]


@pytest.fixture
def main():
    return load("dataset.py")


def png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def fudan() -> bytes:
    """A small PennFudanPed.zip."""
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, np.uint8)
    mask[4:12, 4:12], mask[4:20, 20:28] = 1, 2
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in (1, 2):
            archive.writestr(f"PennFudanPed/PNGImages/FudanPed0000{number}.png", png(picture))
            archive.writestr(f"PennFudanPed/PedMasks/FudanPed0000{number}_mask.png", png(mask))
        archive.writestr("PennFudanPed/PNGImages/broken.png", png(picture)[:-40])
        archive.writestr("PennFudanPed/PedMasks/broken_mask.png", png(mask))
    return out.getvalue()


def error_of(call, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.exit_code(call)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return code, lines[0]


def test_convert_says_what_it_wrote_and_what_to_do_next(main, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("PennFudanPed.zip").write_bytes(fudan())
    command = ["convert", "penn_fudan", "PennFudanPed.zip", "--output", "set", "--class_name", "pedestrian"]
    main(command)
    out = capsys.readouterr().out
    assert "written: set, 2 classes, 2 in all.txt" in out
    assert "left out: PennFudanPed.zip:PennFudanPed/PNGImages/broken.png: " in out
    assert "truncated PNG" in out
    assert "  1 pedestrian  25.00 %, in 2 pictures" in out
    following = out.splitlines()[-1]
    assert following == (
        "next: python train.py --dataset_path set --dataset_file set/all.txt --classes_path set/classes.txt "
        "--ignore_index 255"
    )
    main(command)
    assert "nothing to do" in capsys.readouterr().out
    code, error = error_of(lambda: main([*command[:-2]]), capsys)
    assert code == 3
    assert "--overwrite" in error


def test_the_next_command_is_understood_by_train(main, tmp_path, capsys, monkeypatch):
    """What is printed opens as a dataset with the very flags."""
    monkeypatch.chdir(tmp_path)
    Path("PennFudanPed.zip").write_bytes(fudan())
    main(["convert", "penn_fudan", "PennFudanPed.zip", "--output", "my set"])
    import shlex

    from common import recipe, train_flags
    from common.training import open_datasets

    words = shlex.split(capsys.readouterr().out.splitlines()[-1])[3:]
    parser = cli.Parser("")
    parser.add_argument("--config")
    train_flags.add(parser)
    train, val = open_datasets(vars(recipe.parse(parser, words)))
    assert len(train) + len(val) == 2


def test_list_and_help(main, capsys):
    main(["list"])
    out = capsys.readouterr().out
    assert [name for name in FORMATS if name not in out] == []
    for name in FORMATS:
        with pytest.raises(SystemExit) as end:
            main(["convert", name, "--help"])
        assert end.value.code == 0
        assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "required"),
        (["convert", "nothing", "x", "--output", "y"], 2, "invalid choice: 'nothing'"),
        (["convert", "labelme", "x"], 2, "--output"),
        (["convert", "labelme", "missing", "--output", "y"], 3, "missing does not exist"),
        (["convert", "labelme", "missing", "--output", "y", "--classes_path", "none.txt"], 3, "class list none.txt"),
        (["convert", "rgb_masks", ".", "--output", "../y"], 2, "class file with colours"),
        (["convert", "labelme", ".", "--output", "y"], 3, "one in the other"),
        (["convert", "labelme", ".", "--output", "../y", "--thickness", "0"], 2, "out of range"),
        (["download", "cityscapes"], 2, "asks for a login"),
        (["download", "labelme"], 2, "your own files"),
        (["download", "penn_fudan", "other.zip"], 2, "no archive 'other.zip'"),
        (["download", "penn_fudan", "--offline"], 3, "offline nothing is downloaded"),
    ],
)
def test_errors_are_one_line(main, tmp_path, capsys, monkeypatch, arguments, code, message):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    got, error = error_of(lambda: main(arguments), capsys)
    assert message in error
    assert got == code
    assert list(tmp_path.rglob("*")) == [tmp_path / "work"]


@pytest.fixture
def served(main, tmp_path, monkeypatch) -> Iterator[FileServer]:
    """The manifest's Penn-Fudan comes from a server of this test."""
    with FileServer({"PennFudanPed.zip": Served(fudan())}) as server:
        folder = tmp_path / "manifest"
        folder.mkdir()
        text = f'["PennFudanPed.zip"]\nurl = "{server.url("PennFudanPed.zip")}"\nlicence = "none"\nsource = "a test"\n'
        (folder / "manifest.toml").write_text(text)
        monkeypatch.setitem(main.__globals__, "MANIFEST_FOLDER", folder)
        monkeypatch.chdir(tmp_path)
        yield server


def test_download_resumes_verifies_and_leads_to_convert(main, served, tmp_path, capsys):
    content = served.files["PennFudanPed.zip"].content
    served.files["PennFudanPed.zip"].break_after = 700
    code, error = error_of(lambda: main(["download", "penn_fudan"]), capsys)
    assert code == 3
    assert "run the command again to go on" in error
    main(["download", "penn_fudan"])
    assert served.asked[-1] == ("PennFudanPed.zip", "bytes=700-")
    assert (tmp_path / "downloads" / "PennFudanPed.zip").read_bytes() == content
    record = (tmp_path / "downloads" / "PennFudanPed.zip.sha256").read_text()
    assert record.split()[0] == hashlib.sha256(content).hexdigest()
    out = capsys.readouterr().out
    assert "no hash is published; its SHA-256 is in PennFudanPed.zip.sha256" in out
    words = out.splitlines()[-1].split()
    assert words[:4] == ["next:", "python", "tools/dataset_converter/dataset.py", "convert"]
    main(words[3:])
    assert "2 in all.txt" in capsys.readouterr().out
    main(["download", "penn_fudan"])
    assert len(served.asked) == 2
    assert "here already" in capsys.readouterr().out


def test_a_download_that_is_not_what_was_published_replaces_nothing(main, served, tmp_path, capsys):
    (tmp_path / "manifest" / "manifest.toml").write_text(
        (tmp_path / "manifest" / "manifest.toml").read_text() + f'md5 = "{"0" * 32}"\n'
    )
    code, error = error_of(lambda: main(["download", "penn_fudan"]), capsys)
    assert code == 3
    assert "is refused" in error
    (tmp_path / "downloads" / "PennFudanPed.zip").write_bytes(b"mine")
    code, error = error_of(lambda: main(["download", "penn_fudan"]), capsys)
    assert code == 3
    assert (tmp_path / "downloads" / "PennFudanPed.zip").read_bytes() == b"mine"


def test_the_manifest_has_every_archive():
    entries = read_manifest(TOOLS)
    assert set(entries) == {name for item in FORMATS.values() for name in item.archives}
    assert all(entry.member is None and entry.model is None for entry in entries.values())


def test_progress_and_interrupts(main, tmp_path, monkeypatch, capsys):
    from deeplabv3p.data.convert import run

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "p.zip").write_bytes(fudan())
    monkeypatch.setattr(run, "write_dataset", interrupt)
    command = ["convert", "penn_fudan", str(tmp_path / "p.zip"), "--output", str(tmp_path / "out")]
    assert cli.exit_code(lambda: main(command)) == cli.INTERRUPTED
    assert not (tmp_path / "out").exists()


# The older names


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


LABELME = (
    '{"imageHeight": 24, "imageWidth": 32, "imagePath": "gone.jpg", "imageData": null, "shapes": ['
    '{"label": "dog", "shape_type": "polygon", "points": [[0, 0], [8, 0], [8, 8], [0, 8]]},'
    '{"label": "cat", "shape_type": "rectangle", "points": [[16, 0], [24, 8]]}]}'
)


def test_labelmes_older_name(tmp_path, capsys):
    write(tmp_path / "json" / "a.json", LABELME)
    out = tmp_path / "png"
    command = ["--json_file_path", str(tmp_path / "json"), "--png_label_path", str(out)]
    load("labelme/json_to_dataset.py")(command)
    label = np.asarray(Image.open(out / "a.png"))
    assert label.shape == SIZE
    assert (label[4, 4], label[4, 20], label[20, 20]) == (12, 8, 0)  # VOC's dog and cat
    load("labelme/json_to_dataset.py")([*command, "--polygon_only"])
    assert np.unique(np.asarray(Image.open(out / "a.png"))).tolist() == [0, 12]
    classes = write(tmp_path / "classes.txt", "background\ndog\n")
    text = ["--classes_path", str(classes)]
    code, error = error_of(lambda: load("labelme/json_to_dataset.py")([*command, *text]), capsys)
    assert code == 3
    assert "'cat'" in error


def test_sbds_older_names(tmp_path, capsys):
    label = np.random.default_rng(0).integers(0, 21, SIZE, np.uint8)
    for folder, variable in (("cls", "GTcls"), ("inst", "GTinst")):
        (tmp_path / folder).mkdir()
        scipy.io.savemat(tmp_path / folder / "2008_000002.mat", {variable: {"Segmentation": label}})
        kind = "semantic" if folder == "cls" else "instance"
        arguments = ["--mat_label_path", str(tmp_path / folder), "--png_label_path", str(tmp_path / f"{folder}_png")]
        load("voc_augment/voc_aug_convert.py")([*arguments, "--label_type", kind])
        np.testing.assert_array_equal(Image.open(tmp_path / f"{folder}_png" / "2008_000002.png"), label)
    write(tmp_path / "voc" / "train.txt", "b\na\n")
    write(tmp_path / "voc" / "val.txt", "v\nw\n")
    sbd = write(tmp_path / "sbd" / "train.txt", "c\na\nv\n")
    merged = tmp_path / "merged.txt"
    arguments = ["--sbd_set_file", str(sbd), "--output_file", str(merged)]
    load("voc_augment/imageset_merge.py")(["--voc_set_file", str(tmp_path / "voc" / "train.txt"), *arguments])
    assert merged.read_text() == "a\nb\nc\n"
    assert "1 pictures of" in capsys.readouterr().out
    load("voc_augment/imageset_merge.py")(["--voc_set_file", str(tmp_path / "voc" / "val.txt"), *arguments])
    assert merged.read_text() == "a\nc\nv\nw\n"
    missing = ["--voc_set_file", str(tmp_path / "none.txt"), *arguments]
    assert error_of(lambda: load("voc_augment/imageset_merge.py")(missing), capsys)[0] == 3


def test_cocos_older_name(tmp_path, capsys):
    square = '"segmentation": [[0, 0, {0}, 0, {0}, {0}, 0, {0}]]'
    for split, number in (("train", 40), ("val", 20)):
        write(
            tmp_path / "annotations" / f"instances_{split}2017.json",
            '{"images": [{"id": 1, "file_name": "000000000001.jpg", "height": 50, "width": 60}], "annotations": ['
            f'{{"image_id": 1, "category_id": 3, {square.format(number)}}}],'
            '"categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "train"}]}',
        )
    classes = write(tmp_path / "classes.txt", "train\ncar\n")
    command = ["--annotation_path", str(tmp_path / "annotations"), "--output_path", str(tmp_path / "out")]
    load("mscoco2017/coco_convert.py")([*command, "--set", "train", "--classes_path", str(classes)])
    assert (tmp_path / "out" / "train.txt").read_text() == "000000000001\n"
    label = np.asarray(Image.open(tmp_path / "out" / "labels" / "000000000001.png"))
    assert (label == 2).sum() == 1600
    assert (tmp_path / "out" / "classes.txt").read_text().split()[::4] == ["background", "train", "car"]
    code, error = error_of(lambda: load("mscoco2017/coco_convert.py")([*command, "--set", "val"]), capsys)
    assert code == 3
    assert "only 400 annotated pixels" in error


def test_camvids_and_grey_maps_older_names(tmp_path):
    colors = np.array([(128, 128, 128), (128, 0, 0), (64, 0, 128)], np.uint8)
    index = np.random.default_rng(0).integers(0, 3, SIZE)
    write(tmp_path / "in" / "a.png", png(colors[index]))
    table = write(tmp_path / "dict.csv", "name,r,g,b\nSky,128, 128,128\nBuilding,128,0,0\nCar,64, 0, 128\n")
    classes = write(tmp_path / "classes.txt", "void\ncar\nsky\n")
    load("camvid/camvid_convert.py")(
        [
            *("--label_path", str(tmp_path / "in"), "--class_dict_path", str(table)),
            *("--classes_path", str(classes), "--output_path", str(tmp_path / "out")),
        ]
    )
    np.testing.assert_array_equal(Image.open(tmp_path / "out" / "a.png"), np.array([2, 255, 1])[index])
    grey = np.arange(24 * 32, dtype=np.int64).reshape(SIZE) % 34
    write(tmp_path / "grey" / "b.png", png(grey.astype(np.uint8)))
    paths = ["--input_path", str(tmp_path / "grey"), "--output_path"]
    load("ade20k/gray_label_convert.py")([*paths, str(tmp_path / "same")])
    with Image.open(tmp_path / "same" / "b.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(picture, grey)
    load("cityscapes/gray_label_convert.py")([*paths, str(tmp_path / "trained")])
    label = np.asarray(Image.open(tmp_path / "trained" / "b.png"))
    assert (label[0, 7], label[1, 1], label[0, 0]) == (0, 18, 255)


@pytest.mark.parametrize("folder", ["voc_augment", "mscoco2017", "ade20k", "camvid", "cityscapes", "cihp_atr"])
def test_the_scripts_that_prepare_datasets(folder, tmp_path):
    """Each asks for what the one command knows, in the right order, from whatever folder it is started in."""
    if shutil.which("sh") is None:
        pytest.skip("needs a shell")
    python = write(tmp_path / "python", '#!/bin/sh\necho "$PWD|$@" >> "$LOG"\n')
    python.chmod(0o755)
    script = TOOLS / folder / "dataset_prepare.sh"
    assert os.access(script, os.X_OK)
    log = tmp_path / "log"
    environment = {**os.environ, "PYTHON": str(python), "LOG": str(log)}
    subprocess.run([str(script)], cwd=tmp_path, env=environment, check=True)
    parser = runpy.run_path(str(TOOLS / "dataset.py"))["_parser"]()
    commands = []
    for line in log.read_text().splitlines():
        where, words = line.split("|")
        assert where == str(ROOT)
        options = parser.parse_args(words.split()[1:])
        commands.append(options.command)
        if options.command == "convert":
            archives = [path.name for path in options.sources]
            known = FORMATS[options.format].archives
            assert not known or set(archives) <= set(known)
            assert all(path.parent == Path("downloads") for path in options.sources)
    downloads = ["download"] if FORMATS[folder.replace("cihp_atr", "cihp")].archives else []
    assert commands == downloads + ["convert"] * (2 if folder == "cihp_atr" else 1)


def test_help_of_all_imports_nothing_heavy():
    code = (
        "import sys, runpy; sys.argv = sys.argv[1:]\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'keras', 'tensorflow', 'matplotlib', 'cv2', 'numpy', 'rich', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    older = sorted(TOOLS.glob("*/*.py"))
    assert len(older) == 7
    for script in (TOOLS / "dataset.py", TOOLS / "camvid" / "camvid_convert.py"):  # the others are made like it
        words = ["convert", "labelme"] if script.name == "dataset.py" else []
        done = subprocess.run(
            [sys.executable, "-c", code, str(script), *words, "--help"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "usage:" in done.stdout
