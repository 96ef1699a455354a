"""Editing functional Keras models: clone with changed layers, and carry weights over by layer name."""

from __future__ import annotations

from collections.abc import Callable

import keras


def clone(model: keras.Model, edit: Callable[[keras.layers.Layer], keras.layers.Layer | None]) -> keras.Model:
    """The same graph with new layers, and the old weights.

    ``edit`` gets each layer and returns its replacement, or None to copy it as it is. Replacements keep the layer's
    name and weight shapes: weights are copied by name, because their order in a model depends on its graph.
    """

    def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
        new = edit(layer) or layer.__class__.from_config(layer.get_config())
        if isinstance(layer, keras.layers.Layer):  # bare operations, such as a resize, have nothing to train
            new.trainable = layer.trainable
        return new

    result = keras.models.clone_model(model, clone_function=replace)
    copy_weights(model, result)
    return result


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copy the weights of every layer of ``target`` from the layer of the same name in ``source``."""
    for layer in target.layers:
        if layer.weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def parents(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The operations whose outputs the layer reads, in a graph where each layer is called once."""
    return [tensor._keras_history.operation for tensor in layer._inbound_nodes[0].input_tensors]
