"""Specs in C++ and Python: the same texts are refused, and of the others the same is read."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from example_spec import SPEC
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from outcome import outcome

from deeplabv3p.errors import DataError
from deeplabv3p.spec import ModelSpec, Provenance, Window

FULL = SPEC.replace(
    input={"max_side": 640, "dtype": "uint8", "scale": 0.5, "zero_point": 3},
    output={"scale": 0.25, "zero_point": -7},
    window=Window((64, 96), (32, 48)),
    provenance=Provenance("ab" * 32, "VOC 2012", "val", 0.75, "MIT; trained on pictures"),
)


def lines(spec):
    """What the probe writes of a spec: the values that a device needs, in their order."""
    taken, given_out = spec.input, spec.output
    codes = {"NHWC": 0, "NCHW": 1, "RGB": 0, "BGR": 1}
    dtypes, rules = ["float32", "float16", "uint8", "int8"], ["stretch", "fit", "pad", "crop", "window"]
    kinds = ["logits", "probabilities", "labels"]
    values = [
        *(spec.model.name, taken.name, *(taken.size_hw or ()), taken.max_side),
        *(codes[taken.layout], dtypes.index(taken.dtype), codes[taken.color], *taken.mean, *taken.std),
        *(taken.scale, taken.zero_point, rules.index(taken.resize), taken.pad_value),
        taken.picture_max,
        *(given_out.name, codes[given_out.layout], kinds.index(given_out.kind), given_out.stride),
        *(int(given_out.align_corners), given_out.scale, given_out.zero_point),
    ]
    for info in spec.classes:
        values += [info.name, *info.color]
    values.append(spec.ignore_index)
    if spec.window is not None:
        values += [*spec.window.size_hw, *spec.window.stride_hw]
    return ["null" if value is None else value for value in values]


def assert_read_alike(probe, text):
    """Both refuse a text, or both read the same from it."""

    def ours():
        spec = ModelSpec.from_json(text)
        if spec.task != "segmentation":
            raise DataError("a device segments")
        return lines(spec)

    expected, got = outcome(ours), outcome(lambda: probe.ask("spec", text).decode().split("\n")[:-1])
    if isinstance(expected, type):
        assert got is expected, text
        return
    assert len(got) == len(expected)
    for theirs, value in zip(got, expected, strict=True):
        assert theirs == value if isinstance(value, str) else np.float32(theirs) == np.float32(value)


def paths(value, path=()):
    """Every place of a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def changed(data, path, change):
    """A copy in which ``change(parent, key)`` was done at a place."""
    result = copy.deepcopy({"root": data})
    parent, key = result, "root"
    for step in path:
        parent, key = parent[key], step
    change(parent, key)
    return json.dumps(result["root"]).encode()


def put(value):
    """A change: set a value, unless the place is within something that has no places."""

    def change(parent, key):
        if isinstance(parent, dict) or (isinstance(parent, list) and isinstance(key, int)):
            parent[key] = value

    return change


NUMBERS = [0, -1, 1, 2, 255, 256, 65535, 65536, 0.0, -0.0, 0.5, 1.0, 1.5, -1.5, 1e30, 2**31 - 1]
OTHERS = [None, True, False, "", "x", "NCHW", "BGR", "labels", "classification", [], {}, [1], [1, 2], [1, 2, 3]]
MORE = [[1.5, 2.0], [True, 1], [0, 1, 2], [-1, 0, 0], [1, 2, 3, 4], {"name": "x"}, float("nan"), float("inf")]


@pytest.mark.parametrize("data", [SPEC.to_dict(), FULL.to_dict()], ids=["nulls", "full"])
def test_every_change_of_a_spec_is_judged_alike(probe, data):
    assert_read_alike(probe, json.dumps(data).encode())
    for path in paths(data):
        for value in NUMBERS + OTHERS + MORE:
            assert_read_alike(probe, changed(data, path, put(value)))
        if path:
            assert_read_alike(probe, changed(data, path, lambda parent, key: parent.__delitem__(key)))
        assert_read_alike(probe, changed(data, (*path, "more"), put(1)))


@given(st.text(max_size=12), st.floats(-1e30, 1e30), st.integers(-(2**31), 2**31 - 1))
@settings(max_examples=200)
def test_values_are_read_alike(probe, name, number, whole):
    assume("\n" not in name)
    data = FULL.to_dict()
    data["classes"][0]["name"] = data["model"]["name"] = name
    data["input"]["mean"][1] = data["input"]["pad_value"] = number
    data["output"]["zero_point"] = data["ignore_index"] = whole
    for ascii_only in (True, False):
        for ignore in (whole, None):
            data["ignore_index"] = ignore
            text = json.dumps(data, ensure_ascii=ascii_only)
            assert_read_alike(probe, text.encode("utf-8", "surrogatepass"))


@given(st.data())
@settings(max_examples=600)
def test_damaged_texts_are_judged_alike(probe, data):
    """Bytes are dropped, doubled or changed into others that mean something to JSON."""
    text = bytearray(json.dumps(FULL.to_dict(), indent=data.draw(st.sampled_from([None, 1]))).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        part = data.draw(
            st.sampled_from([b"", text[at : at + 1] * 2, *[bytes([c]) for c in b'{}[]",:.-+eE01 \n\t\\u/tn']])
        )
        text[at : at + 1] = part
    assert_read_alike(probe, bytes(text))


WELL_FORMED = ["1e400", "-1e400", "1e-400", "1E2", "1e+2", "0.1e-2", "-0", "-0.0", "0." + "1" * 400, "2.5e0005"]
MALFORMED = ["01", "1.", ".5", "+1", "1e", "1e+", "-", "- 1", "0x1", "1_0", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("number", WELL_FORMED + MALFORMED)
def test_numbers_are_judged_alike(probe, number):
    for key in ('"pad_value": 127.5', '"stride": 4', '"zero_point": 3'):
        assert_read_alike(probe, FULL.to_json().replace(key, f"{key.split(':')[0]}: {number}").encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ('"stride": 4', '"stride": 2147483648'),
        ('"pad_value": 127.5', '"pad_value": 1e39'),
    ],
)
def test_what_a_device_cannot_hold_is_refused_though_python_reads_it(probe, key, value):
    text = FULL.to_json().replace(key, value)
    ModelSpec.from_json(text)
    with pytest.raises(DataError):
        probe.ask("spec", text.encode())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ('"zero_point": 3', f'"zero_point": {"9" * 40}'),
        ('"dataset": "VOC 2012"', r'"dataset": "\ud800"'),
    ],
)
def test_numbers_beyond_64_bits_and_half_characters_are_refused_alike(probe, key, value):
    text = FULL.to_json().replace(key, value)
    with pytest.raises(DataError):
        ModelSpec.from_json(text)
    assert_read_alike(probe, text.encode())


NO_SPECS = [
    b"",
    b" ",
    b"null",
    b"[]",
    b"{}",
    b"1",
    b'"x"',
    b"{} {}",
    b"[" * 100000,
    b'{"a":' * 5000,
    b"\xef\xbb\xbf",
    b"\0",
]


@pytest.mark.parametrize("text", NO_SPECS, ids=range(len(NO_SPECS)))
def test_texts_that_are_no_specs_are_refused(probe, text):
    assert_read_alike(probe, text)


def test_a_byte_order_mark_and_space_around_are_taken(probe):
    assert_read_alike(probe, b"\xef\xbb\xbf\r\n\t " + FULL.to_json().encode() + b"\r\n\t ")


def test_a_key_twice_is_refused(probe):
    assert_read_alike(probe, FULL.to_json().replace('"stride": 4', '"stride": 4, "stride": 4').encode())


@pytest.mark.parametrize(
    "text", [b"\xff", b"\xc0\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xf0\x80\x80\x80", b"\xc3", b"\x80"]
)
def test_what_is_not_utf8_is_refused(probe, text):
    assert_read_alike(probe, FULL.to_json().encode().replace(b"image", text))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (("input", "mean"), [1, 2], "'input.mean'"),
        (("classes", 1, "color", 2), 300, r"'classes\[1\].color"),
        (("output", "stride"), 4.0, "'output.stride' is 4.0"),
        (("output", "colour"), 1, "unknown key 'output.colour'"),
        (("schema_version",), 2, "schema_version 2 is newer"),
        (("task",), "classification", "segments"),
    ],
)
def test_messages_name_the_key(probe, path, value, named):
    with pytest.raises(DataError, match=named):
        probe.ask("spec", changed(FULL.to_dict(), path, put(value)))
