"""Specs of files that come without one: from real third-party files, and from made-up facts."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deeplabv3p.data.classes import VOID_COLOR, load_classes
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import predict
from deeplabv3p.runtime.artifact import inspect_artifact, open_artifact, parse_artifact
from deeplabv3p.runtime.facts import FileFacts, TensorFacts
from deeplabv3p.runtime.infer import Given, describe, infer_spec

ROOT = Path(__file__).parents[2]
VOC = ROOT / "configs/voc_classes.txt"
GRAPH = "deeplabv3_mnv2_pascal_trainval/frozen_inference_graph_rebuilt.pb"
PATH = Path("model.tflite")

# What a picture of VOC val shows: an aeroplane, on 15 % of it.
PICTURE, LABEL = "2007_000033", 1


def picture(shape=(1, 65, 97, 3), dtype="float32", **others):
    return TensorFacts("in", shape, dtype, **others)


def scores(shape=(1, 17, 25, 5), **others):
    return TensorFacts("out", shape, "float32", **others)


def facts(source=None, result=None, metadata=None, **others):
    return FileFacts((source or picture(),), (result or scores(),), metadata or {}, **others)


@pytest.mark.parametrize(
    ("name", "says", "assumes"),
    [
        ("tflite/deeplabv3_257_mv_gpu.tflite", "'sub_7' float32 NHWC RGB, 257x257 fit, mean 127.5, std 127.5", "127.5"),
        (
            "tflite/deeplabv3_mnv2_dm05_pascal.tflite",
            "513x513 fit, mean 127.5, std 127.5; output 'ArgMax' labels",
            "127.5",
        ),
        ("tflite/deeplabv3_mnv2_dm05_pascal_quant.tflite", "uint8 (scale 0.0078125, zero point 128)", "as they are"),
        ("tflite/deeplabv3_mnv2_pascal_quant.tflite", "mean 128, std 128; output 'ArgMax' labels of 21", "as they are"),
        (f"{GRAPH}@pb", "'ImageTensor' uint8 NHWC RGB, own size up to 513, mean 0, std 1", "as they are"),
    ],
)
def test_third_party_voc_models_run_with_what_they_say(deeplab_data, name, says, assumes):
    import cv2

    artifact = parse_artifact(deeplab_data / "weights" / name.partition("@")[0])
    spec, notes = infer_spec(artifact.path, inspect_artifact(artifact), load_classes(VOC).classes)
    assert says in describe(spec)
    assert "of 21 classes" in describe(spec)
    assert any(assumes in note for note in notes)
    image = cv2.imread(str(deeplab_data / f"VOC2012/JPEGImages/{PICTURE}.jpg"))[..., ::-1]
    truth = cv2.imread(str(deeplab_data / f"VOC2012/SegmentationClass/{PICTURE}.png"))[..., ::-1]
    plane = (truth == (128, 0, 0)).all(axis=-1)
    labels = predict(open_artifact(artifact, spec=spec), image)
    found = labels == LABEL
    border = (truth == VOID_COLOR).all(axis=-1)
    # The smallest network, at 257x257, reaches 0.79; the largest 0.93.
    assert (found & plane).sum() > 0.75 * ((found | plane) & ~border).sum()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("frozen_inference_graph.pb", "own size up to 513, mean 0, std 1; output 'SemanticPredictions' labels of 2"),
        ("deeplab_nchw.onnx", "float32 NCHW RGB, 513x513 fit, mean 127.5, std 127.5; output 'transpose:0' logits of 2"),
        ("deeplab_aiseg513_dm05_float.tflite", "logits of 2 classes NHWC, stride 1, align_corners"),
    ],
)
def test_portrait_models_find_the_person(deeplab_data, name, says):
    from skimage import data

    artifact = parse_artifact(deeplab_data / "weights/portrait_deeplab" / name)
    if artifact.runtime != "pb":
        pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert"}[artifact.runtime])
    spec, _ = infer_spec(artifact.path, inspect_artifact(artifact))
    assert says in describe(spec)
    labels = predict(open_artifact(artifact, spec=spec), data.astronaut())
    assert labels[150:200, 200:250].mean() > 0.9, "her face"
    assert labels[:60, 350:].mean() < 0.1, "the corner above the shuttle"


def test_a_graph_is_cut_where_the_names_say(deeplab_data):
    artifact = parse_artifact(deeplab_data / "weights" / GRAPH)
    given = Given(input_name="sub_7", output_name="ResizeBilinear_3")
    found = inspect_artifact(artifact, input_name="sub_7", output_name="ResizeBilinear_3")
    spec, notes = infer_spec(artifact.path, found, load_classes(VOC).classes, given)
    assert "'sub_7' float32 NHWC RGB, any size" in describe(spec)
    assert "'ResizeBilinear_3' logits of 21 classes" in describe(spec)
    assert notes == ("mean and std 127.5",)
    with pytest.raises(DataError, match="no operation 'sub_8'"):
        inspect_artifact(artifact, input_name="sub_8")


def test_what_tflite_support_wrote_into_a_classifier_is_read(deeplab_data):
    file = deeplab_data / "weights/tflite/tf2_mobilenet_v2_1.0_224_ptq.tflite"
    found = inspect_artifact(parse_artifact(file))
    assert (found.metadata["mean"], found.metadata["std"]) == ("127.5", "127.5")
    names = found.metadata["classes"].splitlines()
    assert (len(names), names[1]) == (1001, "tench, Tinca tinca")
    with pytest.raises(DataError, match="no segmentation network: its output 'Identity' is 1x1001"):
        infer_spec(file, found)


@pytest.mark.parametrize(
    ("source", "metadata", "mean", "std"),
    [
        (picture(), {}, 127.5, 127.5),
        (picture(), {"mean": "0", "std": "255"}, 0, 255),
        (picture(), {"mean": "0", "std": "0"}, 127.5, 127.5),
        (picture(), {"mean": "one", "std": "2"}, 127.5, 127.5),
        (picture(dtype="uint8"), {}, 0, 1),
        (picture(dtype="uint8", scale=1 / 128, zero_point=128), {}, 128, 128),
        (picture(dtype="int8", scale=1 / 127.5, zero_point=0), {}, 128, 127.5),
        (picture(dtype="int8", scale=1 / 255, zero_point=-128), {}, 0, 255),
        # The quantizer's range is that of mean and std, up to half a step: pixels go in as they are.
        (picture(dtype="uint8", scale=1 / 127.5, zero_point=127), {"mean": "127.5", "std": "127.5"}, 127, 127.5),
        # It is another range: mean and std count.
        (picture(dtype="uint8", scale=1 / 64, zero_point=128), {"mean": "127.5", "std": "127.5"}, 127.5, 127.5),
    ],
)
def test_preprocessing(source, metadata, mean, std):
    spec, _ = infer_spec(PATH, facts(source, metadata=metadata))
    assert spec.input.mean == pytest.approx((mean,) * 3)
    assert spec.input.std == pytest.approx((std,) * 3)


def test_a_quantized_input_gets_the_pixels_themselves():
    from deeplabv3p.pixels import prepare

    image = np.arange(65 * 97 * 3, dtype=np.uint32).astype(np.uint8).reshape(65, 97, 3)
    for source, shift in (
        (picture(dtype="uint8", scale=0.0078125, zero_point=128), 0),
        (picture(dtype="uint8", scale=0.007843137718737125, zero_point=127), 0),
        (picture(dtype="int8", scale=0.0039215688593685627, zero_point=-128), 128),
        (picture(dtype="int8", scale=0.00784313678741455, zero_point=-1), 128),
    ):
        tensor, _ = prepare(image, infer_spec(PATH, facts(source))[0].input)
        np.testing.assert_array_equal(tensor.astype(int) + shift, image)


@pytest.mark.parametrize(
    ("source", "result", "others", "expected"),
    [
        (picture(), scores(), {}, ("NHWC", "NHWC", "logits", 4, 5)),
        (picture((1, 3, 64, 96)), scores((1, 5, 16, 24)), {}, ("NCHW", "NCHW", "logits", 4, 5)),
        (picture((1, 3, 64, 96)), scores((1, 64, 96, 5)), {}, ("NCHW", "NHWC", "logits", 1, 5)),
        (picture((None, None, None, 3)), scores((None, None, None, 5)), {}, ("NHWC", "NHWC", "logits", 1, 5)),
        (picture(), scores(), {"kind": "probabilities"}, ("NHWC", "NHWC", "probabilities", 4, 5)),
        (picture(), scores((1, 65, 97)), {"kind": "labels", "num_classes": 7}, ("NHWC", "NHWC", "labels", 1, 7)),
        (picture(), scores((1, 65, 97, 1)), {"kind": "labels", "num_classes": 7}, ("NHWC", "NHWC", "labels", 1, 7)),
        (picture(), scores((1, 1, 65, 97)), {"kind": "labels", "num_classes": 7}, ("NHWC", "NCHW", "labels", 1, 7)),
    ],
)
def test_layout_stride_and_classes(source, result, others, expected):
    spec, notes = infer_spec(PATH, facts(source, result, **others))
    output = spec.output
    assert (spec.input.layout, output.layout, output.kind, output.stride, spec.num_classes) == expected
    assert "classes without names" in notes


def test_what_is_given_wins():
    given = Given((1, 2, 3), (4, 5, 6), "BGR", "stretch", "probabilities", True)
    spec, notes = infer_spec(PATH, facts(align_corners=False), given=given)
    assert spec == given.apply(spec)
    assert (spec.input.mean, spec.input.std, spec.input.color, spec.input.resize) == (
        (1, 2, 3),
        (4, 5, 6),
        "BGR",
        "stretch",
    )
    assert (spec.output.kind, spec.output.align_corners) == ("probabilities", True)
    assert notes == ("classes without names",)
    assert Given().apply(spec) == spec


def test_a_tensor_that_is_not_there_is_a_usage_error():
    with pytest.raises(UsageError, match=r"no tensor 'nose' there\. It has 'in'"):
        infer_spec(PATH, facts(), given=Given(input_name="nose"))


def test_the_class_list_must_have_the_right_length():
    with pytest.raises(UsageError, match="has 5 classes, the class list names 21"):
        infer_spec(PATH, facts(), load_classes(VOC).classes)
    assert infer_spec(PATH, facts(metadata={"classes": "a\nb\nc\nd\ne"}))[0].classes[4].name == "e"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (facts(picture((1, 10))), "its input 'in' is 1x10"),
        (facts(picture((1, 65, 97, 4))), "colour pictures"),
        (facts(picture(dtype="int64")), "takes int64"),
        (facts(result=scores((1, 1001))), "no segmentation network"),
        (facts(result=scores((1, 65, 97)), kind="labels"), "does not tell how many classes"),
        (facts(result=scores((1, 512, 512, 400))), "400 classes"),
        (FileFacts((), (), {}), "no input or no output"),
    ],
)
def test_what_is_no_segmentation_network_is_said(found, message):
    with pytest.raises(DataError, match=message):
        infer_spec(PATH, found)


def test_every_field_of_the_flags_has_a_place():
    from deeplabv3p.runtime.infer import _PLACES

    assert set(_PLACES) == {field.name for field in dataclasses.fields(Given)}


def test_the_command_line_prints_what_was_inferred(deeplab_data, tmp_path):
    model = deeplab_data / "weights/tflite/deeplabv3_257_mv_gpu.tflite"
    command = [sys.executable, "deeplab.py", "--model_path", str(model), "--image", "assets/demo.jpg"]
    done = subprocess.run([*command, "--output", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "has no spec; as it tells: input 'sub_7' float32 NHWC RGB, 257x257 fit" in done.stdout
    assert "assumed: mean and std 127.5, classes without names, pictures are fitted in and padded" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("route", ["keras", "pb", "savedmodel", "onnx", "tflite", "mnn", "openvino"])
def test_our_own_files_would_be_told_right_without_their_spec(route, kind, tmp_path):
    from exported import FILES, SIZE
    from tiny_model import make_model, make_spec

    from deeplabv3p.export.export import export
    from deeplabv3p.export.formats import ExportOptions

    name, packages = FILES[route]
    for package in packages:
        pytest.importorskip(package)
    if route == "keras" and kind != "logits":
        pytest.skip("a Keras file is written as it is")
    options = ExportOptions(output_kind=kind)
    written = export(make_model(SIZE), make_spec(SIZE), tmp_path / name, route, options).spec
    artifact = parse_artifact(tmp_path / name)
    given = Given(output_kind=kind) if route in {"mnn", "savedmodel"} else Given()  # these do not tell a softmax
    spec, _ = infer_spec(artifact.path, inspect_artifact(artifact), written.classes, given)
    expected = written.input if route != "mnn" else dataclasses.replace(written.input, layout=spec.input.layout)
    assert dataclasses.replace(spec.input, resize="stretch") == expected
    assert (spec.output.kind, spec.output.stride) == (written.output.kind, written.output.stride)
    assert open_artifact(artifact, spec=spec).spec == spec
