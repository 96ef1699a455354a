"""dataset_prepare.sh of each folder on small archives, then the reference's own commands on what it wrote."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from built_sets import SIZE, encode, photo, regions, to_tar, to_zip
from test_published import camvid_sources, coco_sources, voc

ROOT = Path(__file__).parents[3]
TOOLS = Path("tools") / "dataset_converter"

# What people run after it, as the README of the model set has it, and the defaults of train.py.
REFERENCE = "--dataset_path=VOC2012/ --dataset_file=VOC2012/ImageSets/Segmentation/train.txt"
VALIDATED = f"{REFERENCE} --val_dataset_file=VOC2012/ImageSets/Segmentation/val.txt"
OWN = "--dataset_path={0} --dataset_file={0}/{1}.txt --classes_path={0}/classes.txt"


def archives(folder: str, root: Path) -> None:
    """What `download` would have brought into downloads/."""
    there = root / "downloads"
    there.mkdir()
    if folder == "voc_augment":
        first, second, _ = voc(root)
        to_tar(there / "VOCtrainval_11-May-2012.tar", first)
        to_tar(there / "benchmark.tgz", second, "w:gz")
    elif folder == "mscoco2017":
        coco_sources(there)
    elif folder == "camvid":
        camvid_sources(there)
    elif folder == "ade20k":
        rows = "".join(f"{n}\t0.1\t1\t1\tthing {n}\n" for n in range(1, 151))
        base = "ADEChallengeData2016"
        content: dict[str, bytes | str] = {f"{base}/objectInfo150.txt": rows}
        for seed, (part, name) in enumerate(
            (("training", "ADE_train_1"), ("training", "ADE_train_2"), ("validation", "v"))
        ):
            content[f"{base}/images/{part}/{name}.jpg"] = encode(photo(seed), ".jpg")
            content[f"{base}/annotations/{part}/{name}.png"] = encode(regions(150, seed=seed))
        to_zip(there / "ADEChallengeData2016.zip", content)
    elif folder == "cityscapes":
        images, labels = {}, {}
        for seed, split in enumerate(("train", "val")):
            images[f"leftImg8bit/{split}/c/c_{seed}_leftImg8bit.png"] = encode(photo(seed))
            labels[f"gtFine/{split}/c/c_{seed}_gtFine_labelIds.png"] = encode(regions(34, seed=seed))
        to_zip(there / "leftImg8bit_trainvaltest.zip", images)
        to_zip(there / "gtFine_trainvaltest.zip", labels)
    else:
        content = {}
        for part, maps in (("Training", "Category_ids"), ("Validation", "Category_ids")):
            content[f"x/{part}/Images/{part}.jpg"] = encode(photo(1), ".jpg")
            content[f"x/{part}/{maps}/{part}.png"] = encode(regions(20))
        content |= {"humanparsing/JPEGImages/1.jpg": encode(photo(2), ".jpg")}
        content |= {"humanparsing/SegmentationClassAug/1.png": encode(regions(18))}
        to_zip(there / "instance-level-human-parsing.zip", content)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the scripts, in which `download` does nothing and everything else is the project's own."""
    if shutil.which("sh") is None:
        pytest.skip("needs a shell")
    shutil.copytree(ROOT / TOOLS, tmp_path / TOOLS, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = download ] && exit 0\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return tmp_path


CHAINS = [
    ("voc_augment", f"{VALIDATED} --classes_path=configs/voc_classes.txt", (4, 2)),
    ("voc_augment", "", (5, 1)),  # the defaults of train.py: ImageSets/Segmentation/trainval.txt
    ("mscoco2017", OWN.format("mscoco2017", "val") + " --val_dataset_file mscoco2017/val.txt", None),
    ("camvid", OWN.format("CamVid", "train") + " --val_dataset_file CamVid/val.txt", (3, 1)),
    (
        "ade20k",
        OWN.format("ADEChallengeData2016", "train") + " --val_dataset_file ADEChallengeData2016/val.txt",
        (2, 1),
    ),
    ("cityscapes", OWN.format("Cityscapes", "train") + " --val_dataset_file Cityscapes/val.txt", (1, 1)),
    ("cihp_atr", OWN.format("CIHP", "train") + " --val_dataset_file CIHP/val.txt", (1, 1)),
]


@pytest.mark.parametrize(
    ("folder", "flags", "counts"), CHAINS, ids=[f"{n}:{chain[0]}" for n, chain in enumerate(CHAINS)]
)
def test_prepare_and_then_train_with_the_references_command(project, folder, flags, counts):
    """One chain: the script, then the flags that the reference trains with open what it wrote, pixel for pixel."""
    from common import cli, recipe, train_flags
    from common.training import open_datasets

    archives(folder, project)
    script = project / TOOLS / folder / "dataset_prepare.sh"
    if folder == "mscoco2017":  # its pictures have fewer than 1000 annotated pixels here
        script.write_text(script.read_text().replace("--min_pixels 1000", "--min_pixels 1"))
    environment = {**os.environ, "PYTHON": str(project / "python")}
    done = subprocess.run([script], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    only_val = "1 in val.txt" in done.stdout and "in train.txt" not in done.stdout
    following = "python tools/dataset_converter/dataset.py split" if only_val else "python train.py"
    assert f"next: {following}" in done.stdout
    parser = cli.Parser("")
    parser.add_argument("--config")
    train_flags.add(parser)
    train, val = open_datasets(vars(recipe.parse(parser, shlex.split(flags))))
    assert counts is None or (len(train), len(val)) == counts
    for dataset in (train, val):
        for index in range(len(dataset)):
            image, label = dataset.load(index)
            assert image.shape[:2] == label.shape == SIZE
    again = subprocess.run([script], cwd=project, env=environment, capture_output=True, text=True)
    assert "nothing to do" in again.stdout


def test_vocs_lists_come_back(project):
    """A list that people's commands ask for and that is gone is written again."""
    archives("voc_augment", project)
    script = project / TOOLS / "voc_augment" / "dataset_prepare.sh"
    environment = {**os.environ, "PYTHON": str(project / "python")}
    subprocess.run([script], cwd=project, env=environment, check=True, capture_output=True)
    lists = project / "VOC2012" / "ImageSets" / "Segmentation"
    assert sorted(path.name for path in lists.iterdir()) == ["train.txt", "trainval.txt", "val.txt"]
    train, val, both = ((lists / f"{name}.txt").read_text().split() for name in ("train", "val", "trainval"))
    assert both == [*train, *val]
    assert train == (project / "VOC2012" / "train.txt").read_text().split()
    shutil.rmtree(lists)
    subprocess.run([script], cwd=project, env=environment, check=True, capture_output=True)
    assert (lists / "trainval.txt").is_file()


@pytest.mark.slow
def test_the_references_training_runs_after_prepare(project):
    """The seed's chain as it stands, but shorter: prepare, train."""
    archives("voc_augment", project)
    environment = {**os.environ, "PYTHON": str(project / "python")}
    script = project / TOOLS / "voc_augment" / "dataset_prepare.sh"
    subprocess.run([script], cwd=project, env=environment, check=True, capture_output=True)
    flags = (
        f"--model_type=mobilenetv2_lite --output_stride=16 {VALIDATED} --batch_size=2 --freeze_level=1 "
        "--transfer_epoch=0 --total_epoch=1 --eval_online --eval_epoch_interval=1 --save_eval_checkpoint "
        "--weighted_type=adaptive --model_input_shape=64x64 --backbone_weights=none --threads=1"
    )
    command = [sys.executable, ROOT / "train.py", *shlex.split(flags)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SCRIPTS = sorted(path.relative_to(ROOT) for path in [*(ROOT / "tools").rglob("*.py"), *ROOT.glob("*.py")])


@pytest.mark.parametrize("script", SCRIPTS, ids=map(str, SCRIPTS))
def test_outside_of_its_environment_a_command_says_so(script, tmp_path):
    """No traceback from a Python that has neither the project nor its packages."""
    command = [sys.executable, "-S", "-E", ROOT / script, "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    if script.parts[0] == "tools":
        assert done.returncode == 1
        assert done.stderr.startswith("error: this Python has no '")
        assert "activate the project's environment" in done.stderr


def test_a_package_that_is_missing_is_one_line(capsys):
    from common import cli

    def missing() -> None:
        import no_such_package_at_all  # noqa: F401

    assert cli.exit_code(missing) == 5
    assert "the package no_such_package_at_all is not installed for" in capsys.readouterr().err

    def ours() -> None:
        import deeplabv3p.no_such_module  # noqa: F401

    with pytest.raises(ModuleNotFoundError):
        cli.exit_code(ours)
