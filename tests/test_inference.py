"""From a picture to labels, with an engine of a few lines of numpy: nothing here needs Keras."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import skimage.data
from example_spec import SPEC

from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import predict, predict_logits, protocol
from deeplabv3p.pixels import labels_from_output, prepare
from deeplabv3p.runtime import Runtime
from deeplabv3p.spec import ModelSpec


@dataclasses.dataclass
class Subsampling:
    """An engine whose score for each class is a colour channel, at stride 4."""

    spec: ModelSpec
    name: str = "numpy 2"
    device: str = "cpu"
    shapes: list[tuple[int, ...]] = dataclasses.field(default_factory=list)

    def run(self, batch):
        self.shapes.append((*batch.shape, batch.dtype.name))
        if self.spec.input.layout == "NCHW":
            batch = batch.transpose(0, 2, 3, 1)
        count, height, width, _ = batch.shape
        scores = batch.astype(np.float32).reshape(count, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4))
        if self.spec.output.kind == "labels":
            return scores.argmax(axis=3)
        return scores if self.spec.output.layout == "NHWC" else scores.transpose(0, 3, 1, 2)

    def close(self):
        pass


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


def test_a_window_is_a_usage_error():
    with pytest.raises(UsageError, match="window"):
        predict(Subsampling(SPEC.replace(input={"resize": "window"})), stripes()[0])


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
