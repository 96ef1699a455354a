"""From a picture to labels, with an engine of a few lines of numpy: nothing here needs Keras."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from example_spec import SPEC
from fake_engine import Pointwise, Subsampling, noise, pointwise_spec

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import (
    CrfOptions,
    InferenceOptions,
    finish,
    predict,
    predict_logits,
    predict_scores,
    protocol,
    run,
    stages,
)
from deeplabv3p.inference import (
    prepare as prepare_picture,
)
from deeplabv3p.pixels import labels_from_output, prepare
from deeplabv3p.runtime import Runtime
from deeplabv3p.spec import Window


def stripes():
    """A picture of a red, a green and a blue third, and its labels."""
    label = np.repeat([[0] * 40 + [1] * 40 + [2] * 40], 70, axis=0).astype(np.uint8)
    return np.eye(3, dtype=np.uint8)[label] * 255, label


def test_the_engine_of_these_tests_is_a_runtime():
    runtime: Runtime = Subsampling(SPEC)
    assert runtime.spec is SPEC


@pytest.mark.parametrize("input_layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("output_layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("kind", ["logits", "probabilities", "labels"])
@pytest.mark.parametrize("resize", ["stretch", "fit", "crop"])
def test_stripes_are_found_at_the_pictures_own_size(input_layout, output_layout, kind, resize):
    spec = SPEC.replace(
        input={"layout": input_layout, "resize": resize}, output={"layout": output_layout, "kind": kind}
    )
    image, label = stripes()
    prediction = predict(Subsampling(spec), image)
    assert prediction.shape == label.shape
    assert prediction.dtype == np.uint8
    near_a_border = np.zeros(120, bool)
    for border in (40, 80):
        near_a_border[border - 3 : border + 3] = True
    np.testing.assert_array_equal(prediction[:, ~near_a_border], label[:, ~near_a_border])


def test_predict_is_prepare_run_and_sample():
    runtime = Subsampling(SPEC.replace(input={"dtype": "float16"}))
    image = skimage.data.astronaut()
    tensor, geometry = prepare(image, runtime.spec.input)
    output = runtime.run(tensor[None])
    np.testing.assert_array_equal(predict(runtime, image), labels_from_output(output[0], geometry, runtime.spec.output))
    logits, same_geometry = predict_logits(runtime, image)
    np.testing.assert_array_equal(logits, output[0])
    assert same_geometry == geometry
    assert runtime.shapes == [(1, 64, 96, 3, "float16")] * 3


def test_a_model_of_any_size_gets_the_picture_as_it_is():
    runtime = Subsampling(SPEC.replace(input={"size_hw": None}))
    image = skimage.data.coffee()  # 400x600
    predict(runtime, image)
    runtime.spec = SPEC.replace(input={"size_hw": None, "max_side": 300})
    assert predict(runtime, image).shape == (400, 600)
    assert runtime.shapes == [(1, 400, 600, 3, "float32"), (1, 200, 300, 3, "float32")]


def test_labels_that_are_no_class_are_an_error():
    runtime = Subsampling(SPEC.replace(output={"kind": "labels"}, classes=SPEC.classes[:2]))
    with pytest.raises(DataError, match="label 2, but its spec lists 2 classes"):
        predict(runtime, stripes()[0])


def test_a_model_that_puts_out_nan_is_an_error():
    runtime = Subsampling(SPEC)
    runtime.run = lambda batch: np.full((1, 16, 24, 3), np.nan, np.float32)
    with pytest.raises(DataError, match="NaN"):
        predict(runtime, stripes()[0])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "mobilenetv2 os16, 64x96 stretch"),
        ({"input": {"resize": "fit"}, "model": {"output_stride": 8}}, "mobilenetv2 os8, 64x96 fit"),
        ({"input": {"size_hw": None}, "model": {"output_stride": None}}, "mobilenetv2, own size"),
        ({"input": {"size_hw": None, "max_side": 800}}, "mobilenetv2 os16, own size up to 800"),
    ],
)
def test_the_protocol_is_one_line(changes, expected):
    runtime = Subsampling(SPEC.replace(**changes), name="keras 3.15", device="tensorflow cpu")
    how = "single scale, no flip, whole picture, keras 3.15 (tensorflow cpu)"
    assert protocol(runtime) == f"{expected}, {how}"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"window": Window((64, 96), (48, 48))}, "window 64x96 stride 48, single scale, no flip"),
        (
            {"window": Window((64, 96), (48, 64)), "window_batch": 4},
            "window 64x96 stride 48x64, single scale, no flip, batch 4",
        ),
        (
            {"flip": True, "temperature": 1.5, "window": Window((64, 96), (64, 96)), "scales": (0.5, 1.0)},
            "window 64x96 stride 64x96, scales 0.5 1, flip, temperature 1.5",
        ),
    ],
)
def test_the_protocol_names_every_option(options, expected):
    assert protocol(Subsampling(SPEC), InferenceOptions(**options)) == f"mobilenetv2 os16, {expected}, numpy 2 (cpu)"


def test_the_protocol_names_the_crf_and_who_computes_it():
    line = protocol(Subsampling(SPEC), InferenceOptions(crf=CrfOptions(iterations=5, bilateral_srgb=7)))
    assert "whole picture, CRF 5 iterations (" in line
    assert ("(pydensecrf2 1." in line) != ("(NumPy;" in line)
    assert "smoothing 3 px weight 3; edges 80 px 7 levels weight 10), numpy 2 (cpu)" in line


ALL_OPTIONS = [
    InferenceOptions(),
    InferenceOptions(window=Window((32, 40), (24, 40)), window_batch=3),
    InferenceOptions(flip=True, scales=(0.5, 1.0, 1.3)),
    InferenceOptions(window=Window((32, 32), (20, 20)), flip=True, scales=(0.5, 1.0), temperature=40.0),
    InferenceOptions(crf=CrfOptions(iterations=2)),
    InferenceOptions(window=Window((32, 32), (20, 20)), flip=True, temperature=40.0, crf=CrfOptions(iterations=2)),
]


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_the_stages_one_by_one_are_predict_whether_outputs_are_held_or_not(options, monkeypatch):
    runtime = Pointwise(pointwise_spec(), shift=0.5)
    image = noise(61, 77)
    raw = run(runtime, prepare_picture(runtime.spec, image, options))
    assert raw.labels is None
    labels = finish(runtime.spec, raw, options)
    np.testing.assert_array_equal(predict(runtime, image, options), labels)
    scores = predict_scores(runtime, image, options)
    monkeypatch.setattr(stages, "HELD_BYTES", 0)
    monkeypatch.setattr(stages, "_BLOCK_BYTES", 30 * 3 * 4 * 5)
    monkeypatch.setattr(stages, "_BLOCK_COLUMNS", 30)
    if options.window or options.flip:  # one run on the whole picture has one output, which is always held
        assert prepare_picture(runtime.spec, image, options).tensors is None
    np.testing.assert_array_equal(predict(runtime, image, options), labels)
    np.testing.assert_array_equal(predict_scores(runtime, image, options), scores)
    # Where two classes are equal to rounding, the logits of a single view may tell them apart and probabilities not.
    chosen = np.take_along_axis(scores, labels[..., None].astype(np.intp), axis=2)[..., 0]
    assert (chosen >= scores.max(axis=2) - 1e-6).all()


def test_pictures_can_be_prepared_and_finished_in_threads():
    options = InferenceOptions(window=Window((32, 32), (20, 20)), flip=True)
    runtime = Pointwise(pointwise_spec(), shift=0.5)
    images = [noise(40 + index, 90 - index, index) for index in range(12)]
    with ThreadPoolExecutor(4) as pool:
        prepared = pool.map(lambda image: prepare_picture(runtime.spec, image, options), images)
        raws = [run(runtime, one) for one in prepared]
        labels = list(pool.map(lambda raw: finish(runtime.spec, raw, options), raws))
    for image, label in zip(images, labels, strict=True):
        np.testing.assert_array_equal(predict(runtime, image, options), label)


def test_scores_are_those_of_the_labels_function_in_any_layout():
    """The probabilities have the maximum where the label is, for logits at stride 4 of a resized picture."""
    image = skimage.data.coffee()
    for layout in ("NHWC", "NCHW"):
        runtime = Subsampling(SPEC.replace(output={"layout": layout}))
        scores = predict_scores(runtime, image)
        assert scores.shape == (400, 600, 3)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores.sum(axis=2), 1, atol=1e-6)  # three roundings of numbers below 1
        ordered = np.sort(scores, axis=2)
        clear = ordered[..., 2] - ordered[..., 1] > 1e-6  # softmax cannot tell closer ones apart
        assert clear.mean() > 0.99
        np.testing.assert_array_equal(scores.argmax(axis=2)[clear], predict(runtime, image)[clear])


@pytest.mark.parametrize(
    "options",
    [
        InferenceOptions(flip=True),
        InferenceOptions(scales=(0.5, 1.0)),
        InferenceOptions(window=Window((64, 96), (64, 96))),
        InferenceOptions(crf=CrfOptions()),
        InferenceOptions(temperature=2.0),
    ],
)
def test_a_model_of_labels_cannot_be_averaged(options):
    runtime = Subsampling(SPEC.replace(output={"kind": "labels"}))
    with pytest.raises(UsageError, match=r"puts out labels, but .* takes scores"):
        predict(runtime, stripes()[0], options)
    with pytest.raises(UsageError, match="takes scores"):
        protocol(runtime, options)


def test_a_model_of_labels_has_no_probabilities():
    with pytest.raises(DataError, match="no probabilities"):
        predict_scores(Subsampling(SPEC.replace(output={"kind": "labels"})), stripes()[0])


@pytest.mark.parametrize("options", ALL_OPTIONS)
def test_bad_pictures_and_outputs_are_data_errors_with_any_options(options):
    runtime = Pointwise(pointwise_spec())
    for image in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(DataError, match="a picture must be"):
            predict(runtime, image, options)
    runtime.run = lambda batch: np.full(batch.shape, np.nan, np.float32)
    with pytest.raises(DataError, match="NaN"):
        predict(runtime, stripes()[0], options)


def test_more_classes_than_the_spec_lists_are_an_error():
    runtime = Pointwise(pointwise_spec(classes=SPEC.classes[:2]))
    image = np.full((8, 8, 3), (0, 0, 200), np.uint8)
    for options in ALL_OPTIONS:
        with pytest.raises(DataError, match="spec lists 2 classes"):
            predict(runtime, image, options)
        with pytest.raises(DataError, match="spec lists 2"):
            predict_scores(runtime, image, options)
