"""deeplab.py without a model file: the best one in the weights folder, or the command that gets one."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import toy_model
from PIL import Image

import deeplab
from common import pretrained
from deeplabv3p.data.classes import ClassList
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.models.factory import build_model
from deeplabv3p.runtime import keras_engine
from deeplabv3p.runtime.artifact import load_spec, open_artifact, parse_artifact

NET = "mobilenetv2_lite:alpha=0.35,width=16"
VOC = "configs/voc_classes.txt"
MANIFEST = f"""
["archive.tar.gz"]
url = "https://example.org/archive.tar.gz"
licence = "MIT"
source = "a test"
member = "graph.h5"
short_name = "second"
model = "{NET}"
classes = "{VOC}"
score = "mIoU 0.2"
imported = "second.keras"
default = 2

["net.weights.h5"]
url = "https://example.org/net.weights.h5"
licence = "MIT"
source = "a test"
trained_on = "pictures of a test (for tests)"
short_name = "first"
model = "{NET}"
classes = "{VOC}"
size_hw = [64, 96]
output_stride = 32
score = "mIoU 0.1, as somebody published it"
default = 1

["backbone.h5"]
url = "https://example.org/backbone.h5"
licence = "MIT"
source = "a test"
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of NET for VOC's classes, without a spec."""
    keras_engine.import_keras().utils.set_random_seed(1)
    path = tmp_path_factory.mktemp("bare") / "net.weights.h5"
    build_model(NET, num_classes=21, size_hw=(64, 64)).save_weights(path)
    return path


@pytest.fixture(scope="module")
def colors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model.save(tmp_path_factory.mktemp("models") / "colors.keras")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder, and a picture a.png where the command runs."""
    path = tmp_path / "weights"
    path.mkdir()
    (path / "manifest.toml").write_text(MANIFEST)
    monkeypatch.setattr(pretrained, "WEIGHTS_FOLDER", path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(toy_model.halves()).save("a.png")
    return path


def used(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    """What the command says that it uses to segment a.png."""
    deeplab.main(["--image", "a.png", *flags])
    assert np.array(Image.open("result/a_label.png")).shape == (64, 96)
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("using "))


@pytest.mark.parametrize(
    ("flags", "missing"), [([], "no model is given"), (["--model_type", NET], f"no weights of '{NET}' are given")]
)
def test_nothing_here_tells_the_command_that_gets_the_best(flags: list[str], missing: str, folder: Path) -> None:
    with pytest.raises(DataError) as error:
        deeplab.main(["--image", "a.png", *flags])
    assert f"{missing}, and weights has none" in str(error.value)
    assert "`python tools/model_converter/download_weights.py first` (mIoU 0.1, as somebody" in str(error.value)
    assert "\n" not in str(error.value)
    assert not Path("result").exists()


def test_the_command_that_is_told_knows_the_name() -> None:
    """With the project's own manifest, whatever is in its weights folder."""
    from deeplabv3p.weights.manifest import find_entry, read_manifest

    entries = [entry for entry in read_manifest(pretrained.WEIGHTS_FOLDER).values() if entry.default == 1]
    assert len(entries) == 1
    assert find_entry(str(entries[0].short_name), pretrained.WEIGHTS_FOLDER) == entries[0]
    assert Path(pretrained.ROOT, pretrained.DOWNLOAD.split()[1]).is_file()
    assert Path(pretrained.ROOT, pretrained.IMPORT.split()[1]).is_file()


def test_a_network_without_known_weights_is_told(folder: Path) -> None:
    with pytest.raises(UsageError, match="no trained weights of 'unet' are known"):
        deeplab.main(["--image", "a.png", "--model_type", "unet"])


def test_bare_weights_get_classes_size_and_stride_from_the_manifest(
    folder: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(bare, folder)
    flags = ["--dump_model", "--output_model_file", "dump.keras"]
    deeplab.main(flags)
    said = capsys.readouterr().out
    assert f"using weights/net.weights.h5: {NET}, classes of {VOC}, mIoU 0.1, as somebody" in said
    assert "terms of use: MIT; trained on pictures of a test (for tests)\n" in said
    spec = load_spec("dump.keras")
    assert spec.provenance.terms == "MIT; trained on pictures of a test (for tests)"
    assert (spec.model.name, spec.model.output_stride, spec.input.size_hw) == (NET, 32, (64, 96))
    assert [spec.classes[0].name, spec.classes[20].name] == ["background", "tvmonitor"]
    deeplab.main([*flags, "--model_type", NET, "--model_input_shape", "64x64", "--output_stride", "16"])
    spec = load_spec("dump.keras")
    assert (spec.model.output_stride, spec.input.size_hw) == (16, (64, 64))
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.toml", "net.weights.h5"], "only looked at"


def test_the_network_may_be_told_by_flags(folder: Path, bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(bare, folder)
    used(capsys, "--model_type", "mobilenetv2_lite", "--alpha", "0.35", "--head_width", "16")
    with pytest.raises(UsageError, match=r"no trained weights of 'mobilenetv2_lite:alpha=0\.35' are known"):
        deeplab.main(["--image", "a.png", "--model_type", "mobilenetv2_lite", "--alpha", "0.35"])


def test_the_order_is_that_of_the_manifest_and_then_any_ready_model(
    folder: Path, bare: Path, colors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / ".a.tmp.keras").write_text("half-written")
    shutil.copy(colors, folder / "a.keras")  # its spec is inside
    assert used(capsys).startswith("using weights/a.keras: colors, 3 classes")
    shutil.copy(bare, folder / "archive.h5")  # taken out of the archive, not imported
    assert used(capsys).startswith("using weights/archive.h5: mobilenetv2_lite")
    shutil.copy(colors, folder / "second.keras")
    assert used(capsys) == "using weights/second.keras: colors, 3 classes (dark, red, blue), mIoU 0.2"
    shutil.copy(bare, folder)
    assert used(capsys).startswith("using weights/net.weights.h5: mobilenetv2_lite")


@pytest.mark.parametrize(("before", "where"), [("", "its validation list"), ("camvid/test.txt: ", "camvid/test.txt")])
def test_a_score_is_told_with_the_list_it_is_of(
    folder: Path, colors: Path, capsys: pytest.CaptureFixture[str], before: str, where: str
) -> None:
    provenance = {"protocol": f"{before}colors, single scale, no flip", "miou": 0.25}
    spec = load_spec(colors).replace(provenance=provenance)
    keras_engine.save_model(keras_engine.load_model(colors), spec, folder / "a.keras")
    assert f"mIoU 0.2500 on {where}" in used(capsys)


def test_a_file_that_is_not_what_was_recorded_is_refused(folder: Path, bare: Path) -> None:
    shutil.copy(bare, folder)
    (folder / "net.weights.h5.sha256").write_text(f"{'0' * 64}  net.weights.h5\n")
    with pytest.raises(DataError, match="has changed"):
        deeplab.main(["--image", "a.png"])


def test_known_weights_that_are_not_there_are_told_how_to_get(folder: Path) -> None:
    flags = ["--image", "a.png", "--model_type", NET, "--classes_path", "c.txt", "--weights_path"]
    for path, command in (
        (folder / "net.weights.h5", r"download_weights\.py first`"),
        (folder.parent / "my" / "backbone.h5", rf"download_weights\.py backbone\.h5 --folder {folder.parent / 'my'}`"),
    ):
        with pytest.raises(DataError, match=f"does not exist. Run `python .*{command}"):
            deeplab.main([*flags, str(path)])


def test_the_shipped_model_is_what_its_readme_says(deeplab_data: Path) -> None:
    """A fresh clone segments street scenes without being told a model. Nine test pictures show that it is that
    model; the exact score is measured in benchmarks/."""
    shipped = pretrained.WEIGHTS_FOLDER / "camvid_mobilenetv2.keras"
    spec = load_spec(shipped)
    assert (spec.model.name, spec.num_classes, spec.provenance.dataset) == (
        "mobilenetv2",
        11,
        "camvid/train.txt and camvid/val.txt",
    )
    assert spec.provenance.protocol.startswith("camvid/test.txt: mobilenetv2 os16, 480x640")
    assert "not for commercial use" in spec.provenance.terms
    camvid = deeplab_data / "camvid"
    names = (camvid / "test.txt").read_text().split()[::26]
    classes = ClassList(spec.classes, explicit_colors=False)
    dataset = open_dataset(camvid, camvid / "test.txt", classes, spec.ignore_index)
    chosen = dataclasses.replace(dataset, samples=tuple(s for s in dataset.samples if s.name in names))
    with contextlib.closing(open_artifact(parse_artifact(str(shipped)), spec=spec)) as runtime:
        scores = evaluate(runtime, chosen).scores
    assert len(chosen) == 9
    assert scores.miou > 0.6
