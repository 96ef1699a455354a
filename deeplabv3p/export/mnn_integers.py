"""8-bit numbers in and out of an 8-bit MNN model, whose quantizer leaves input and output in float.

The file is edited as an MNN expression. The converter's road, out to JSON and back, keeps six decimals of every scale
and bias: that alone changed 0.7 % of the labels. Edited this way none of them changed, and runs took no longer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deeplabv3p.export.formats import float_note
from deeplabv3p.runtime.engine import import_package, quiet
from deeplabv3p.spec import ModelSpec

_MOVES = {"ConvertTensor", "Padding", "Reshape"}
_SIGNED_TO_UNSIGNED = 128
_LEAST_SCALE = 1e-3
"""Of six decimals three are left there, which place 255 levels to a seventh of a step."""

Numbers = tuple[float, int]


def integer_io(source: Path, target: Path, spec: ModelSpec, dump: str) -> tuple[ModelSpec, tuple[str, ...]]:
    """Write a quantized file again, with a uint8 input and output. MNN's Python package has no tensors of int8.

    Args:
        source: the file, with float32 input and output.
        target: the file to write. Nothing is written where both sides stay float.
        spec: that of ``source``.
        dump: ``source`` as MNN's converter writes it in JSON.

    Returns:
        The spec with type, scale and zero point, and notes. A side whose operation is not 8-bit stays float32; labels
        stay as they are.
    """
    model = json.loads(dump)
    picture, result = _input_numbers(model), _output_numbers(model, spec.output.name)
    floats = {"input": picture is None, "output": result is None and spec.output.kind != "labels"}
    notes = tuple(float_note(side) for side, kept in floats.items() if kept)
    if picture is not None or result is not None:
        with quiet():
            _edit(source, target, spec, picture, result)
    if picture is not None:
        spec = spec.replace(input={"dtype": "uint8", "scale": picture[0], "zero_point": picture[1]})
    if result is not None:
        spec = spec.replace(output={"scale": result[0], "zero_point": result[1]})
    return spec, notes


def _edit(source: Path, target: Path, spec: ModelSpec, picture: Numbers | None, result: Numbers | None) -> None:
    expr = import_package("MNN.expr", "mnn", "mnn")

    def number(value: float) -> Any:
        return expr.const([value], [], expr.NHWC)

    variables = expr.load_as_dict(str(source))
    image, output = variables[spec.input.name], variables[spec.output.name]
    if picture is not None:
        scale, zero_point = picture
        whole = expr.placeholder(image.shape, expr.NHWC, expr.uint8)
        whole.name, image.name = spec.input.name, f"{spec.input.name}_float"
        image.replace((expr.cast(whole, expr.float) - number(zero_point)) * number(scale))
    if result is not None:
        scale, zero_point = result
        output.name = f"{spec.output.name}_float"
        rounded = expr.round(output * number(1 / scale) + number(zero_point))
        output = expr.cast(expr.minimum(expr.maximum(rounded, number(0)), number(255)), expr.uint8)
        output.name = spec.output.name
    expr.save([output], str(target))


def _input_numbers(model: dict[str, Any]) -> Numbers | None:
    """Scale and zero point (of uint8) with which the first operation takes the input."""
    tensor = next(operation["outputIndexes"][0] for operation in model["oplists"] if operation["type"] == "Input")
    while (numbers := _numbers(model, tensor)) is None:
        readers = [operation for operation in model["oplists"] if tensor in operation.get("inputIndexes", ())]
        if len(readers) != 1 or readers[0]["type"] not in _MOVES:
            return None
        tensor = readers[0]["outputIndexes"][0]
    return numbers


def _output_numbers(model: dict[str, Any], name: str) -> Numbers | None:
    """Scale and zero point (of uint8) with which the last operation gives the output."""
    makers = {index: operation for operation in model["oplists"] for index in operation["outputIndexes"]}
    tensor = model["tensorName"].index(name)
    while (numbers := _numbers(model, tensor)) is None:
        maker = makers[tensor]
        if maker["type"] not in _MOVES:
            return None
        tensor = maker["inputIndexes"][0]
    return numbers


def _numbers(model: dict[str, Any], tensor: int) -> Numbers | None:
    for item in model["extraTensorDescribe"]:
        if item["index"] == tensor and "quantInfo" in item:
            scale, zero = float(item["quantInfo"]["scale"]), round(item["quantInfo"].get("zero", 0))
            return (scale, zero + _SIGNED_TO_UNSIGNED) if scale >= _LEAST_SCALE else None
    return None
