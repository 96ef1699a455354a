"""The spec: JSON there and back, and every kind of mistake named by its key."""

from __future__ import annotations

import copy
import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplabv3p.errors import DataError
from deeplabv3p.spec import (
    ClassInfo,
    InputSpec,
    ModelInfo,
    ModelSpec,
    OutputSpec,
    Provenance,
    Window,
    sidecar_path,
)

EXAMPLE = """
{"schema_version": 1, "task": "segmentation", "model": {"name": "mobilenetv2", "output_stride": 16},
 "input":  {"name": "image", "size_hw": [512, 512], "max_side": null, "layout": "NHWC", "dtype": "float32", "color": "RGB",
            "mean": [127.5, 127.5, 127.5], "std": [127.5, 127.5, 127.5], "scale": null, "zero_point": null,
            "resize": "stretch", "pad_value": 127.5, "interpolation": "bilinear"},
 "output": {"name": "logits", "layout": "NHWC", "kind": "logits", "stride": 4, "align_corners": false, "scale": null, "zero_point": null},
 "classes": [{"name": "background", "color": [0, 0, 0]}], "ignore_index": 255, "window": null,
 "provenance": {"weights_sha256": "", "dataset": "", "protocol": "", "miou": null}}
"""  # noqa: E501 - the documented example, as it stands


@pytest.fixture
def data():
    return json.loads(EXAMPLE)


def place(data, key, value):
    """Set a dotted key such as ``input.mean[1]``."""
    *path, last = key.replace("[", ".").replace("]", "").split(".")
    for part in path:
        data = data[int(part) if part.isdigit() else part]
    data[int(last) if last.isdigit() else last] = value


# --- there and back

sizes = st.integers(1, 4096)
numbers = st.floats(-1e6, 1e6)
positive = st.floats(1e-6, 1e6)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
quantization = st.one_of(st.just((None, None)), st.tuples(positive, st.integers(-128, 255)))


@st.composite
def specs(draw):
    input_scale, input_zero = draw(quantization)
    output_scale, output_zero = draw(quantization)
    return ModelSpec(
        schema_version=1,
        task=draw(st.sampled_from(["segmentation", "classification"])),
        model=ModelInfo(draw(texts), draw(st.none() | sizes)),
        input=InputSpec(
            name=draw(texts),
            size_hw=draw(st.none() | st.tuples(sizes, sizes)),
            max_side=draw(st.none() | sizes),
            layout=draw(st.sampled_from(["NHWC", "NCHW"])),
            dtype=draw(st.sampled_from(["float32", "float16", "uint8", "int8"])),
            color=draw(st.sampled_from(["RGB", "BGR"])),
            mean=draw(st.tuples(numbers, numbers, numbers)),
            std=draw(st.tuples(positive, positive, positive)),
            scale=input_scale,
            zero_point=input_zero,
            resize=draw(st.sampled_from(["stretch", "fit", "pad", "crop", "window"])),
            pad_value=draw(numbers),
            interpolation="bilinear",
            picture_max=draw(st.just(65535) | st.integers(1, 65535)),
        ),
        output=OutputSpec(
            name=draw(texts),
            layout=draw(st.sampled_from(["NHWC", "NCHW"])),
            kind=draw(st.sampled_from(["logits", "probabilities", "labels"])),
            stride=draw(sizes),
            align_corners=draw(st.booleans()),
            scale=output_scale,
            zero_point=output_zero,
        ),
        classes=tuple(
            ClassInfo(name, color)
            for name, color in draw(
                st.lists(st.tuples(texts, st.tuples(*[st.integers(0, 255)] * 3)), min_size=1, max_size=5)
            )
        ),
        ignore_index=draw(st.none() | st.integers(0, 65535)),
        window=draw(st.none() | st.builds(Window, st.tuples(sizes, sizes), st.tuples(sizes, sizes))),
        provenance=Provenance(
            draw(texts), draw(texts), draw(texts), draw(st.none() | st.floats(0, 1)), draw(st.just("") | texts)
        ),
    )


@given(specs())
@settings(max_examples=100, deadline=None)
def test_every_spec_survives_json(spec):
    assert ModelSpec.from_json(spec.to_json()) == spec
    assert ModelSpec.from_dict(spec.to_dict()) == spec
    json.loads(spec.to_json(), parse_constant=pytest.fail)  # no NaN: C++ reads it too


def test_the_documented_example_reads_and_writes_back(data):
    spec = ModelSpec.from_json(EXAMPLE)
    assert spec.model == ModelInfo("mobilenetv2", 16)
    assert spec.input.size_hw == (512, 512)
    assert spec.classes == (ClassInfo("background", (0, 0, 0)),)
    assert spec.num_classes == 1
    assert json.loads(spec.to_json()) == data
    assert list(json.loads(spec.to_json())) == list(data), "the order of the schema is kept"


def test_files_are_utf8_with_names_as_they_are(tmp_path, data):
    place(data, "classes[0].name", "Straße 道路")
    path = tmp_path / "model.keras.spec.json"
    ModelSpec.from_dict(data).save(path)
    assert "Straße 道路" in path.read_text(encoding="utf-8")
    assert ModelSpec.load(path) == ModelSpec.from_dict(data)


def test_whole_numbers_stand_for_floats(data):
    place(data, "input.mean", [0, 1, 2])
    mean = ModelSpec.from_dict(data).input.mean
    assert mean == (0.0, 1.0, 2.0)
    assert all(isinstance(value, float) for value in mean)


def test_replace_changes_fields_of_sections(data):
    spec = ModelSpec.from_dict(data)
    other = spec.replace(input={"size_hw": (65, 97)}, ignore_index=None, provenance=Provenance(dataset="x"))
    assert other.input.size_hw == (65, 97)
    assert other.input.mean == spec.input.mean
    assert other.ignore_index is None
    assert other.provenance == Provenance(dataset="x")
    assert spec.input.size_hw == (512, 512)


def test_replace_checks_too(data):
    with pytest.raises(ValueError, match=r"input\.size_hw"):
        ModelSpec.from_dict(data).replace(input={"size_hw": (0, 97)})


def test_the_sidecar_keeps_the_whole_name(tmp_path):
    assert sidecar_path(tmp_path / "a.b.keras") == tmp_path / "a.b.keras.spec.json"


# --- mistakes


def paths(value, prefix=""):
    """The dotted keys of every object member below ``value``."""
    if isinstance(value, dict):
        for name, item in value.items():
            key = f"{prefix}.{name}" if prefix else name
            yield key
            yield from paths(item, key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from paths(item, f"{prefix}[{index}]")


ALL_KEYS = sorted(paths(json.loads(EXAMPLE)))


@pytest.mark.parametrize("key", ALL_KEYS)
def test_a_missing_key_is_named(data, key):
    parent, _, last = key.rpartition(".")
    section = data
    for part in parent.replace("[", ".").replace("]", "").split(".") if parent else []:
        section = section[int(part) if part.isdigit() else part]
    del section[last]
    with pytest.raises(DataError) as caught:
        ModelSpec.from_dict(data, "model.json")
    assert str(caught.value) == f"model.json: missing key '{key}'."


@pytest.mark.parametrize("section", ["", "model", "input", "output", "classes[0]", "provenance"])
def test_an_unknown_key_is_named(data, section):
    key = f"{section}.sise" if section else "sise"
    place(data, key, 1)
    with pytest.raises(DataError) as caught:
        ModelSpec.from_dict(data, "model.json")
    assert f"model.json: unknown key '{key}'" in str(caught.value)


@pytest.mark.parametrize("key", ALL_KEYS)
def test_a_wrong_type_is_named(data, key):
    place(data, key, {"no": ["such", "thing"]})
    with pytest.raises(DataError) as caught:
        ModelSpec.from_dict(data, "model.json")
    # An object where a section belongs has an unknown member; anywhere else the key itself is wrong.
    assert f"'{key}" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", "1"),
        ("schema_version", True),
        ("schema_version", 0),
        ("schema_version", 1.0),
        ("task", "detection"),
        ("model", None),
        ("model.name", None),
        ("model.output_stride", 16.5),
        ("model.output_stride", 0),
        ("input.size_hw", [512]),
        ("input.size_hw", [512, 512, 3]),
        ("input.size_hw", "512x512"),
        ("input.size_hw", [512, -1]),
        ("input.max_side", 0),
        ("input.layout", "HWC"),
        ("input.color", "rgb"),
        ("input.mean", [1, 2]),
        ("input.std", [1, 0, 1]),
        ("input.scale", 0),
        ("input.scale", 0.5),  # without zero_point
        ("input.zero_point", 3),  # without scale
        ("input.pad_value", True),
        ("input.interpolation", "cubic"),
        ("output.stride", 0),
        ("output.align_corners", 0),
        ("output.kind", "softmax"),
        ("classes", []),
        ("classes", {}),
        ("classes[0].color", [0, 0, 256]),
        ("classes[0].color", [0, 0, -1]),
        ("classes[0].color", [0, 0]),
        ("ignore_index", -1),
        ("ignore_index", "255"),
        ("window", {"size_hw": [0, 1], "stride_hw": [1, 1]}),
        ("window", {"size_hw": [1, 1]}),
        ("provenance.miou", 71.2),
    ],
)
def test_a_value_without_meaning_is_named(data, key, value):
    place(data, key, value)
    with pytest.raises(DataError) as caught:
        ModelSpec.from_dict(data, "model.json")
    message = str(caught.value)
    section = key.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
    assert message.startswith("model.json: ")
    assert f"'{section}" in message
    assert "\n" not in message


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_not_finite_are_named(value):
    with pytest.raises(DataError, match=r"input\.pad_value"):
        ModelSpec.from_json(EXAMPLE.replace('"pad_value": 127.5', f'"pad_value": {value}'))


def test_the_element_of_a_list_is_named(data):
    place(data, "input.mean[1]", "127")
    with pytest.raises(DataError, match=r"'input\.mean\[1\]' is \"127\", expected a number"):
        ModelSpec.from_dict(data)


def test_a_newer_schema_says_so(data):
    place(data, "schema_version", 2)
    data["something_new"] = 1
    with pytest.raises(DataError, match="schema_version 2 is newer"):
        ModelSpec.from_dict(data)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "1", "\ufeff{}", "[" * 100_000, EXAMPLE + "x", EXAMPLE[: len(EXAMPLE) // 2]]
)
def test_what_is_not_a_spec_is_one_line(text):
    with pytest.raises(DataError) as caught:
        ModelSpec.from_json(text, "model.json")
    assert str(caught.value).startswith("model.json: ")
    assert "\n" not in str(caught.value)


def test_bytes_that_are_not_utf8_are_one_line():
    with pytest.raises(DataError, match=r"model\.json"):
        ModelSpec.from_json(EXAMPLE.encode().replace(b"background", b"\xff\xfe\xfd"), "model.json")


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(DataError, match="'task' stands twice"):
        ModelSpec.from_json(EXAMPLE.replace('"task"', '"task": "segmentation", "task"', 1))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot read the spec .*nothing\.json"):
        ModelSpec.load(tmp_path / "nothing.json")
    with pytest.raises(DataError, match=r"cannot read the spec .*: it is a folder, not a file"):
        ModelSpec.load(tmp_path)


def test_half_a_character_in_a_class_name_is_refused():
    """It crashes what draws text."""
    with pytest.raises(DataError, match="half a character"):
        ModelSpec.from_json(EXAMPLE.replace("background", "\\ud800bad"))
    with pytest.raises(DataError, match="half a character"):
        ModelSpec.from_dict(json.loads(EXAMPLE.replace("background", "\\ud800bad")))
    spec = ModelSpec.from_json(EXAMPLE)
    with pytest.raises(ValueError, match="expected text"):
        spec.replace(classes=(ClassInfo("\ud800", (0, 0, 0)),))


@pytest.mark.parametrize("digits", ["1" + "0" * 400, "9" * 5000, "-" + "9" * 30])
@pytest.mark.parametrize("key", ["input.pad_value", "output.stride", "schema_version", "classes[0].color[1]"])
def test_numbers_of_any_length_are_one_line(digits, key):
    data = json.loads(EXAMPLE)
    place(data, key, "HERE")
    with pytest.raises(DataError, match=re.escape(key)) as caught:
        ModelSpec.from_json(json.dumps(data).replace('"HERE"', digits))
    assert len(str(caught.value)) < 200
    place(data, key, 10**400)
    with pytest.raises(DataError):
        ModelSpec.from_dict(data)


def test_an_unknown_key_of_any_kind_is_one_line(data):
    data["a\nb" * 1000] = 1
    with pytest.raises(DataError, match="unknown key") as caught:
        ModelSpec.from_dict(data)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.sampled_from(ALL_KEYS), st.recursive(st.none() | st.booleans() | numbers | texts, st.lists, max_leaves=4))
@settings(max_examples=200, deadline=None)
def test_any_value_anywhere_reads_or_raises_data_error(key, value):
    data = copy.deepcopy(json.loads(EXAMPLE))
    place(data, key, value)
    try:
        spec = ModelSpec.from_dict(data)
    except DataError:
        return
    assert ModelSpec.from_json(spec.to_json()) == spec


# --- a key that is only there where it says something


def test_the_range_of_pictures_is_in_json_only_where_it_is_not_16_bits(data):
    spec = ModelSpec.from_dict(data)
    assert spec.input.picture_max == 65535
    assert "picture_max" not in spec.to_json()
    assert "picture_max" not in ModelSpec.from_dict(data | {"input": data["input"] | {"picture_max": 65535}}).to_json()
    deep = spec.replace(input={"picture_max": 4095})
    assert ModelSpec.from_json(deep.to_json()) == deep
    assert deep.to_dict()["input"]["picture_max"] == 4095


def test_terms_of_use_are_in_json_only_where_they_are_known(data):
    spec = ModelSpec.from_dict(data)
    assert spec.provenance.terms == ""
    assert "terms" not in spec.to_json()
    known = spec.replace(provenance={"terms": "MIT"})
    assert ModelSpec.from_json(known.to_json()) == known
    data["provenance"]["terms"] = None
    with pytest.raises(DataError, match=r"'provenance\.terms' is null, expected a string"):
        ModelSpec.from_dict(data)


@pytest.mark.parametrize("value", [0, -1, 65536, 4095.0, "4095", None, True])
def test_a_range_that_is_none_is_refused(data, value):
    data["input"]["picture_max"] = value
    with pytest.raises(DataError, match=r"'input\.picture_max' is"):
        ModelSpec.from_dict(data)
