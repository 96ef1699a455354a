"""The command deeplabSegment against deeplab.py: one file and picture, the same mask; and mistakes in one line."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from deeplabv3p import visualize
from deeplabv3p.data.classes import load_classes
from deeplabv3p.data.dataset import open_dataset
from deeplabv3p.data.decode import read_image
from deeplabv3p.evaluation.score import evaluate
from deeplabv3p.inference import InferenceOptions, predict, predict_scores
from deeplabv3p.pixels import prepare
from deeplabv3p.runtime import Runtime
from deeplabv3p.runtime.artifact import load_spec, open_artifact
from deeplabv3p.spec import ModelSpec, Window, sidecar_path

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", ROOT / "inference/cpp/build/host"))
PROGRAM = BUILD / "deeplabSegment"
pytestmark = pytest.mark.skipif(
    not PROGRAM.exists(), reason=f"{PROGRAM} is not built (DEEPLAB_DEVICE_BUILD names a build folder)"
)

sys.path.append(str(ROOT / "tests/runtime"))  # the tiny model

SIZE = (64, 96)
CLASSES = 5
# Name → format and options of the export. A file's engine is that of its extension.
MODELS = {
    "m.tflite": ("tflite", {}),
    "int8.tflite": ("tflite", {"precision": "int8", "io_dtype": "int8"}),
    "m.xml": ("openvino", {}),
    "m.onnx": ("onnx", {}),
    "m.mnn": ("mnn", {}),
    "int8.mnn": ("mnn", {"precision": "int8"}),
}
ODD_SIZES = [(1, 1), (1, 97), (63, 2), (64, 96), (127, 191), (240, 320), (333, 251), (480, 37)]


def run(*arguments: object, code: int = 0, **options) -> subprocess.CompletedProcess[str]:
    """Run the command; its exit code must be ``code``, and an error one line."""
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}"
    if code:
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert lines, done.stderr
    return done


def engines() -> str:
    """The engines that were built in, as -h names them."""
    text = subprocess.run([PROGRAM, "-h"], capture_output=True, text=True, check=True).stdout
    return text.split("--engine NAME")[1].splitlines()[0]


def mask(path: Path) -> np.ndarray:
    """The labels of a mask, as any reader of palette PNGs sees them."""
    with Image.open(path) as picture:
        assert picture.mode == "P"
        return np.asarray(picture)


def draw(size_hw: tuple[int, int], seed: int) -> np.ndarray:
    """A picture of large blots and noise: the tiny model sees every class in it."""
    rng = np.random.default_rng(seed)
    blots = rng.integers(0, 256, (3, 4, 3)).astype(np.uint8)
    picture = cv2.resize(blots, size_hw[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int32)
    return np.clip(picture + rng.integers(-40, 41, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The tiny model in every format whose packages are here, and pictures of odd sizes."""
    pytest.importorskip("ai_edge_litert")
    from tiny_model import make_model, make_spec

    from deeplabv3p.export.export import export
    from deeplabv3p.export.formats import ExportOptions

    folder = tmp_path_factory.mktemp("runner")
    model, spec = make_model(SIZE), make_spec(SIZE)
    batches = [np.stack([prepare(draw(SIZE, seed), spec.input)[0]]) for seed in range(4)]
    # A random network prefers a class. Without that it tells pictures apart.
    logits = np.concatenate([np.asarray(model(batch, training=False)) for batch in batches])
    kernel, bias = model.get_layer("logits").get_weights()
    model.get_layer("logits").set_weights([kernel, bias - logits.mean(axis=(0, 1, 2))])
    for name, (kind, options) in MODELS.items():
        export(model, spec, folder / name, kind, ExportOptions(**options), lambda: iter(batches))
    pictures = folder / "pictures"
    pictures.mkdir()
    for seed, size in enumerate(ODD_SIZES):
        Image.fromarray(draw(size, seed)).save(pictures / f"{size[0]}x{size[1]}.png")
    return folder


@pytest.fixture(scope="module")
def opened(folder):
    """Opens a model once, with one thread, as the command is told to."""
    made: dict[str, Runtime] = {}

    def get(name: str) -> Runtime:
        if name not in made:
            made[name] = open_artifact(str(folder / name), threads=1)
        return made[name]

    yield get
    for runtime in made.values():
        runtime.close()


@pytest.fixture(scope="module")
def model(folder) -> Path:
    return folder / "m.tflite"


@pytest.fixture(scope="module")
def picture(folder) -> Path:
    return folder / "pictures" / "240x320.png"


@pytest.mark.parametrize("name", MODELS)
def test_the_mask_is_that_of_python(name, folder, opened, tmp_path):
    if name.rpartition(".")[2].replace("xml", "openvino") not in engines():
        pytest.skip(f"the engine of {name} is not built in: {engines()}")
    done = run("-m", folder / name, "-i", folder / "pictures", "--output", tmp_path, "-t", 1, "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]  # and nothing of what engines print
    assert len(lines) == len(ODD_SIZES)
    seen = set()
    for path in sorted((folder / "pictures").iterdir()):
        want = predict(opened(name), read_image(path))
        np.testing.assert_array_equal(mask(tmp_path / path.name), want, path.name)
        seen |= set(np.unique(want).tolist())
    assert len(seen) > 2, "the model must tell pictures apart"


def test_a_jpeg_gives_the_mask_of_the_same_pixels(model, opened, tmp_path):
    path = tmp_path / "photo.jpg"
    Image.fromarray(draw((241, 333), 5)).save(path, quality=90)
    run("-m", model, "-i", path, "-k", tmp_path / "mask.png", "-t", 1)
    differing = mask(tmp_path / "mask.png") != predict(opened("m.tflite"), read_image(path))
    assert differing.mean() <= 1e-3, "two versions of libjpeg may differ by a level here and there"


def test_windows(folder, opened, tmp_path, picture):
    run("-m", folder / "m.tflite", "-i", picture, "-k", tmp_path / "m.png", "--window", "64x96:40x56", "-t", 1)
    want = predict(opened("m.tflite"), read_image(picture), InferenceOptions(window=Window(SIZE, (40, 56))))
    np.testing.assert_array_equal(mask(tmp_path / "m.png"), want)
    run("-m", folder / "m.tflite", "-i", picture, "--window", "32x32", code=2)


def test_overlay_and_legend(model, opened, picture, tmp_path):
    run("-m", model, "-i", picture, "-k", tmp_path / "m.png", "--overlay", "--legend")
    image, classes = read_image(picture), opened("m.tflite").spec.classes
    want = visualize.tint(image, mask(tmp_path / "m.png"), visualize.palette(classes), 0.5)
    np.testing.assert_array_equal(read_image(tmp_path / "m_overlay.png"), want)
    assert read_image(tmp_path / "m_legend.png").shape[1] > 40
    with Image.open(tmp_path / "m.png") as png:
        np.testing.assert_array_equal(np.array(png.getpalette("RGB")).reshape(-1, 3)[:CLASSES],
                                      visualize.palette(classes)[:CLASSES])  # fmt: skip


def test_confidence_is_the_probability_of_the_label(model, opened, picture, tmp_path):
    run("-m", model, "-i", picture, "-k", tmp_path / "m.png", "--confidence", "-t", 1)
    want = predict_scores(opened("m.tflite"), read_image(picture)).max(axis=2)
    got = read_image(tmp_path / "m_confidence.png")
    assert len(np.unique(got)) > 10, "it must not be the same everywhere"
    # Half a level of rounding, and exp of two libraries.
    assert np.abs(got[..., 0] / 255 - want).max() <= 0.5 / 255 + 1e-5
    run("-m", model, "-i", picture, "--confidence", "--window", "64x96", code=2)


def test_names_with_blanks_and_other_letters_and_a_picture_that_is_broken(model, folder, tmp_path):
    pictures = tmp_path / "Bilder für später"
    pictures.mkdir()
    shutil.copy(folder / "pictures" / "64x96.png", pictures / "straße 1.png")
    Image.fromarray(draw((20, 30), 1)).save(pictures / "straße 1.jpg")
    (pictures / "broken.png").write_bytes((pictures / "straße 1.png").read_bytes()[:200])
    done = run("-m", model, "-i", pictures, "--output", tmp_path / "out", code=3)
    assert "broken.png" in done.stderr
    assert "1 of 3 pictures could not be read" in done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"straße 1.png", "straße 1.png.png"}


def test_lists(model, folder, tmp_path):
    (tmp_path / "list.txt").write_text("64x96\n\n240x320.png\n")
    run("-m", model, "-i", folder / "pictures", "--list", tmp_path / "list.txt", "--output", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"64x96.png", "240x320.png"}
    (tmp_path / "list.txt").write_text("64x96\nnot there\n")
    done = run("-m", model, "-i", folder / "pictures", "--list", tmp_path / "list.txt", code=3)
    assert "not there" in done.stderr


def test_eval_inference_sh(model, folder, tmp_path):
    (tmp_path / "list.txt").write_text("64x96\n240x320\n")
    (tmp_path / "classes.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    script = ROOT / "inference/cpp/eval_inference.sh"
    environment = os.environ | {"DEEPLAB_SEGMENT": str(PROGRAM)}
    command = [script, model, folder / "pictures", tmp_path / "list.txt", tmp_path / "classes.txt", tmp_path / "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "classes overridden" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_json_and_percentiles(model, picture, tmp_path):
    done = run("-m", model, "-i", picture, "-k", tmp_path / "m.png", "--json", "-c", 5, "-w", 1)
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert (found["height"], found["width"], found["runs"]) == (240, 320, 5)
    assert sum(found["areas"].values()) == 240 * 320
    assert set(found["milliseconds"]) == {"whole", "prepare", "network", "labels"}
    assert 0 < found["milliseconds"]["whole"]["p50"] <= found["milliseconds"]["whole"]["p90"]
    assert found["peak_mib"] > 1
    text = run("-m", model, "-i", picture, "-k", tmp_path / "m.png", "-c", 5).stdout
    assert "p90" in text
    assert "5 runs" in text


def test_frames(model, opened, tmp_path):
    frames = [draw((50, 70), seed) for seed in range(3)]
    data = b"".join(frame[..., ::-1].tobytes() for frame in frames)
    command = [PROGRAM, "-m", model, "--frames", "50x70:bgr", "-t", "1"]
    done = subprocess.run(command, input=data, capture_output=True)
    assert done.returncode == 0, done.stderr
    got = np.frombuffer(done.stdout, np.uint8).reshape(3, 50, 70)
    np.testing.assert_array_equal(got, [predict(opened("m.tflite"), frame) for frame in frames])
    cut = subprocess.run(command, input=data[:-7], capture_output=True)
    assert cut.returncode == 3
    assert b"cut off" in cut.stderr
    assert len(cut.stdout) == 2 * 50 * 70


def test_the_mask_at_the_size_of_the_input(model, opened, picture, tmp_path):
    run("-m", model, "-i", picture, "-k", tmp_path / "m.png", "-p", 0, "-t", 1)
    small = cv2.resize(read_image(picture), SIZE[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    np.testing.assert_array_equal(mask(tmp_path / "m.png"), predict(opened("m.tflite"), small))


@pytest.mark.parametrize("resize", ["pad", "fit"])
def test_a_model_that_pads_says_what_to_do_instead(resize, model, picture, tmp_path):
    spec = load_spec(model).replace(input={"resize": resize})
    spec.save(tmp_path / "other.json")
    done = run("-m", model, "--spec", tmp_path / "other.json", "-i", picture, "-p", 0, code=2)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]  # LiteRT's own
    assert len(lines) == 1
    assert "Leave out -p 0" in lines[0]


@pytest.mark.parametrize("size", ["65536x65536", "16385x1:grey", "1x1048576", "99999999999x1", "0x4", "-1x4"])
def test_frames_that_nobody_has_are_refused_at_once(size, model):
    started = time.monotonic()
    done = run("-m", model, "--frames", size, code=2)
    assert "--frames takes a number from 1 to 16384" in done.stderr
    assert time.monotonic() - started < 10


def test_scores_are_those_of_eval(model, opened, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    names = []
    for seed in range(4):
        names.append(f"picture {seed}")
        Image.fromarray(draw((40 + seed, 60), seed)).save(tmp_path / "images" / f"picture {seed}.png")
        label = np.random.default_rng(seed).integers(0, CLASSES - 1, (40 + seed, 60)).astype(np.uint8)
        label[:5] = 255
        Image.fromarray(label).save(tmp_path / "labels" / f"picture {seed}.png")
    (tmp_path / "list.txt").write_text("\n".join(names))
    (tmp_path / "classes.txt").write_text("".join(f"class {i} {i} 0 0\n" for i in range(CLASSES)))
    dataset = open_dataset(tmp_path, "list.txt", load_classes(tmp_path / "classes.txt"), 255)
    want = evaluate(opened("m.tflite"), dataset).scores
    folders = ("-i", tmp_path / "images", "--labels", tmp_path / "labels", "--list", tmp_path / "list.txt")
    done = run("eval", "-m", model, *folders, "--json", "-t", 1)
    found = json.loads(done.stdout)
    for name in ("miou", "miou_in_truth", "pa", "mpa", "fwiou"):
        assert found[name] == pytest.approx(getattr(want, name), abs=1e-12)
    for name in ("classes_counted", "classes_in_truth"):
        assert found[name] == getattr(want, name)
    assert found["pixels"] == want.total
    ours = np.array([np.nan if value is None else value for value in found["iou"].values()])
    np.testing.assert_allclose(ours, want.iou, rtol=0, atol=1e-12)
    assert "mIoU" in run("eval", "-m", model, *folders, "--output", tmp_path / "out").stdout
    assert len(list((tmp_path / "out").iterdir())) == 4
    done = run("eval", "-m", model, *folders, "--ignore_index", "none", code=3)
    assert "holds the label 255" in done.stderr


def test_an_ignored_class_has_no_iou(model, opened, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(draw((40, 60), 1)).save(tmp_path / "images" / "a.png")
    label = np.random.default_rng(1).integers(0, CLASSES, (40, 60)).astype(np.uint8)
    Image.fromarray(label).save(tmp_path / "labels" / "a.png")
    (tmp_path / "list.txt").write_text("a")
    (tmp_path / "classes.txt").write_text("".join(f"class {i} {i} 0 0\n" for i in range(CLASSES)))
    engine = opened("m.tflite")
    predicted = int(np.bincount(predict(engine, draw((40, 60), 1)).ravel()).argmax())
    dataset = open_dataset(tmp_path, "list.txt", load_classes(tmp_path / "classes.txt"), predicted)
    want = evaluate(engine, dataset).scores
    folders = ("-i", tmp_path / "images", "--labels", tmp_path / "labels", "--list", tmp_path / "list.txt")
    flags = ("eval", "-m", model, *folders, "-t", 1, "--ignore_index", predicted)
    found = json.loads(run(*flags, "--json").stdout)
    assert list(found["iou"].values())[predicted] is None
    assert found["miou"] == pytest.approx(want.miou, abs=1e-12)
    assert "ignored" in run(*flags).stdout


def test_a_model_without_a_spec_is_assumed_and_flags_override(model, picture, tmp_path):
    bare = tmp_path / "bare.tflite"
    shutil.copy(model, bare)
    (tmp_path / "classes.txt").write_text("".join(f"thing {i}\n" for i in range(CLASSES)))
    spec = ModelSpec.load(sidecar_path(model))
    mean, std = (",".join(map(repr, values)) for values in (spec.input.mean, spec.input.std))
    done = run(
        "-m", bare, "-i", picture, "-l", tmp_path / "classes.txt", "-b", mean, "-s", std, "-k", tmp_path / "a.png"
    )
    assert "spec assumed" in done.stdout
    assert "mean overridden" in done.stdout
    assert "thing" in done.stdout
    if spec.input.resize == "stretch":
        run("-m", model, "-i", picture, "-k", tmp_path / "b.png")
        np.testing.assert_array_equal(mask(tmp_path / "a.png"), mask(tmp_path / "b.png"))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "-m"),
        (["-m", "MODEL"], 2, "-i"),
        (["-m", "none.tflite", "-i", "PICTURE"], 3, "none.tflite"),
        (["-m", "PICTURE", "-i", "PICTURE"], 2, "PICTURE"),
        (["-m", "TEXT.tflite", "-i", "PICTURE"], 3, "TEXT.tflite"),
        (["-m", "MODEL", "-i", "none.png"], 3, "none.png"),
        (["-m", "MODEL", "-i", "TEXT.tflite"], 3, "TEXT.tflite"),
        (["-m", "MODEL", "-i", "EMPTY"], 3, "EMPTY"),
        (["-m", "MODEL", "-i", "PICTURE", "-t", "many"], 2, "many"),
        (["-m", "MODEL", "-i", "PICTURE", "--engine", "caffe"], 2, "caffe"),
        (["-m", "MODEL", "-i", "PICTURE", "--spec", "none.json"], 3, "none.json"),
        (["-m", "MODEL", "-i", "PICTURE", "--spec", "TEXT.tflite"], 3, "TEXT.tflite"),
        (["-m", "MODEL", "-i", "PICTURE", "-l", "ONE.txt"], 2, "1 classes"),
        (["-m", "MODEL", "-i", "PICTURE", "-k", "TEXT.tflite/m.png"], 3, "TEXT.tflite/m.png"),
        (["-m", "MODEL", "-i", "PICTURE", "-s", "0"], 2, "above 0"),
        (["-m", "MODEL", "--frames", "4x4"], 3, "no frame"),
    ],
)
def test_mistakes_are_one_line_with_their_exit_code(arguments, code, words, model, picture, tmp_path):
    (tmp_path / "TEXT.tflite").write_text("not a model")
    shutil.copy(sidecar_path(model), sidecar_path(tmp_path / "TEXT.tflite"))
    (tmp_path / "ONE.txt").write_text("one\n")
    (tmp_path / "EMPTY").mkdir()
    places = {"MODEL": str(model), "PICTURE": str(picture)}
    given = [places.get(word, word) for word in arguments]
    done = run(*given, code=code, cwd=tmp_path, stdin=subprocess.DEVNULL)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert places.get(words, words) in errors[0]
    assert not list(tmp_path.glob("*.png"))


def test_the_c_interface(model, opened, picture):
    library = ctypes.CDLL(str(BUILD / "libdeeplab.so"))
    library.deeplab_error.restype = library.deeplab_class_name.restype = ctypes.c_char_p
    library.deeplab_class_name.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    library.deeplab_close.argtypes = [ctypes.c_void_p]
    segment = library.deeplab_segment
    segment.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int32, ctypes.c_ssize_t,
                        ctypes.c_int32, ctypes.c_char_p]  # fmt: skip
    segmenter = ctypes.c_void_p()
    assert library.deeplab_open(os.fsencode(model), None, ctypes.byref(segmenter)) == 0, library.deeplab_error()
    image = read_image(picture)
    labels = ctypes.create_string_buffer(image.shape[0] * image.shape[1])
    assert segment(segmenter, image.tobytes(), *image.shape[:2], 0, 0, labels) == 0, library.deeplab_error()
    got = np.frombuffer(labels.raw, np.uint8).reshape(image.shape[:2])
    np.testing.assert_array_equal(got, predict(opened("m.tflite"), image))
    assert library.deeplab_class_name(segmenter, 1) == b"class 1"
    assert segment(segmenter, image.tobytes(), 0, 5, 0, 0, labels) == 3
    assert b"empty" in library.deeplab_error() or b"picture" in library.deeplab_error()
    library.deeplab_close(segmenter)


def test_help_names_every_flag_and_engine():
    text = run("-h").stdout
    for flag in "milbstcwkpfvh":
        assert f"-{flag}" in text
    assert "tflite" in engines()
