"""The list of what a Keras file may hold lets every network through: ours, and those of keras.applications."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from tiny_model import keras

from deeplabv3p.models import factory, registry
from deeplabv3p.runtime.keras_engine import load_model
from deeplabv3p.runtime.keras_safety import check_config

APPLICATIONS = sorted(name for name, value in vars(keras.applications).items() if inspect.isfunction(value))
OPTIONS = ["subpixel=2", "head=none", "head=aspp_lite", "decoder=0", "alpha=0.5"]


def _check(model) -> None:
    """By its description alone, in both forms that a file has it in."""
    from keras.src.legacy.saving import json_utils, saving_options, saving_utils

    check_config(json.loads(model.to_json()), Path("m.keras"))
    with saving_options.keras_option_scope(use_legacy_config=True):
        config = saving_utils.model_metadata(model, include_optimizer=False)["model_config"]
        text = json.dumps(config, default=json_utils.get_json_type)
    check_config(json.loads(text), Path("m.h5"))


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.MODELS)
def test_networks_are_let_through(name):
    _check(factory.build_model(name, num_classes=3, size_hw=(65, 65)))


@pytest.mark.parametrize("options", OPTIONS)
def test_options_are_let_through(options):
    _check(factory.build_model(f"mobilenetv2:{options},width=8", num_classes=3, size_hw=(65, 65)))


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_networks_of_keras_applications_are_let_through(name):
    model = getattr(keras.applications, name)(weights=None)
    check_config(json.loads(model.to_json()), Path("m.keras"))
    keras.backend.clear_session()


# Keras itself cannot open a .h5 with operations on numbers, as MobileNetV3 has them.
SAVED = [("MobileNetV2", ".h5"), ("MobileNetV3Small", ".keras"), ("EfficientNetB0", ".keras")]


@pytest.mark.parametrize(("name", "suffix"), SAVED)
def test_networks_of_keras_applications_are_saved_and_loaded(name, suffix, tmp_path):
    model = getattr(keras.applications, name)(input_shape=(32, 32, 3), weights=None, include_top=False)
    model.save(tmp_path / f"m{suffix}")
    assert load_model(tmp_path / f"m{suffix}").count_params() == model.count_params()
