"""Editing functional Keras models: clone with changed layers, and carry weights over by layer name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras

Edit = Callable[[keras.layers.Layer], keras.layers.Layer | None]


def clone(model: keras.Model, edit: Edit) -> keras.Model:
    """The same graph with new layers, and the old weights.

    ``edit`` gets each layer and returns its replacement, or None to copy it as it is. Replacements keep the layer's
    name and weight shapes: weights are copied by name, because their order in a model depends on its graph.
    """
    result = keras.models.clone_model(model, clone_function=lambda layer: _replaced(layer, edit))
    copy_weights(model, result)
    return result


def flatten(model: keras.Model, edit: Edit) -> keras.Model:
    """The same function as one level of named layers, with the old weights, where ``edit`` changes the layers.

    A nested ``Sequential`` becomes the layers in it, under their own names. A layer that was given no name, which Keras
    numbers through the whole process (``re_lu_7``), is named after what it reads: ``conv_bn_relu``.

    Args:
        model: a functional model; it and the ``Sequential`` models in it call each layer once.
        edit: as for :func:`clone`, of layers with names; but a replacement may hold its weights in other shapes, as [C]
            in a kernel [1, 1, C, 1]: they are reshaped.
    """
    names = _own_names(model)

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer | list[keras.layers.Layer]:
        if isinstance(layer, keras.Sequential):
            return [_replaced(inner, edit) for inner in layer.layers]
        if layer.name in names:
            return layer.__class__.from_config({**layer.get_config(), "name": names[layer.name]})
        return _replaced(layer, edit)

    def call(layer: keras.layers.Layer | list[keras.layers.Layer], *args: Any, **named: Any) -> Any:
        if not isinstance(layer, list):
            return layer(*args, **named)
        (x,) = args
        for inner in layer:
            x = inner(x)
        return x

    result = keras.models.clone_model(model, clone_function=replace, call_function=call)
    nested = [layer for layer in model.layers if isinstance(layer, keras.Sequential)]
    sources = {names.get(layer.name, layer.name): layer for group in (model, *nested) for layer in group.layers}
    for layer in result.layers:
        if layer.weights:
            values = sources[layer.name].get_weights()
            layer.set_weights([v.reshape(w.shape) for v, w in zip(values, layer.weights, strict=True)])
    return result


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of every layer of ``target`` from the layer of the same name in ``source``."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def parents(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The operations whose outputs the layer reads, in a graph where each layer is called once."""
    return [tensor._keras_history.operation for tensor in layer._inbound_nodes[0].input_tensors]


def output(model: keras.Model, name: str) -> keras.KerasTensor:
    """What the operation called ``name`` puts out. ``model.get_layer`` does not find operations such as ``a + b``."""
    return next(operation.output for operation in model.operations if operation.name == name)


def _replaced(layer: keras.layers.Layer, edit: Edit) -> keras.layers.Layer:
    new = edit(layer) or layer.__class__.from_config(layer.get_config())
    if isinstance(layer, keras.layers.Layer):  # bare operations, such as a resize, have nothing to train
        new.trainable = layer.trainable
    return new


def _own_names(model: keras.Model) -> dict[str, str]:
    """New names for the operations whose names Keras made up, by the old ones (parents come before children)."""
    names: dict[str, str] = {}
    for operation in model.operations:
        kind = type(operation).__name__.lower()
        if re.sub(r"_\d+$", "", operation.name).replace("_", "") == kind and kind != "inputlayer":
            above = parents(operation)[-1].name
            names[operation.name] = f"{names.get(above, above)}_{kind}"
    return names
