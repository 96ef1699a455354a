"""Any output stride for a network that was published at stride 32: late strides become dilation (à trous).

The graph is cloned, not rewritten by hand, so layer names stay and ImageNet weights load by name. The property that
holds, for the same weights: dense features sampled every k-th pixel equal those of the original. The phase of that
sampling comes from the padding in front of strided convolutions. It is 0 where that is half the kernel (ResNet). Where
``keras.applications`` chooses it by the parity of the feature map, as "same" does, it is 0 at odd sizes and k − 1 at
even ones. A kernel of 2 pixels (ConvNeXt) has no middle: dense, it reads its pixel and the next; at rate 2, the pixels
on both sides of its own. Means over the map (squeeze and excitation) are the one thing that the property leaves out.
"""

from __future__ import annotations

import keras
from keras import layers

from deeplabv3p.models import graph

_SPATIAL = (
    layers.Conv2D,
    layers.DepthwiseConv2D,
    layers.SeparableConv2D,
    layers.MaxPooling2D,
    layers.AveragePooling2D,
)


def dilate(model: keras.Model, output_stride: int) -> keras.Model:
    """Give a feature network the output stride 8, 16 or 32 (input pixels per feature pixel).

    Args:
        model: a functional model that downsamples by strided convolution or pooling, each layer called once.
        output_stride: strides beyond it are replaced: that layer gets stride 1 and the layers behind it a dilation
            rate of the stride removed so far. Pooling layers only lose their stride.

    Returns:
        A new model with the weights of the old. At an output stride the model already has, features are bit-equal.
    """
    strides = _strides(model)
    # An explicit padding exists to make the strided convolution fall right; a stride of 1 pads by itself.
    dropped = {
        above.name
        for layer in model.layers
        if strides[layer.name] > output_stride and _stride(layer) > 1
        for above in graph.parents(layer)
        if isinstance(above, layers.ZeroPadding2D)
    }

    def edit(layer: layers.Layer) -> layers.Layer | None:
        if layer.name in dropped:
            return layers.Identity(name=layer.name)
        if not isinstance(layer, _SPATIAL) or strides[layer.name] <= output_stride:
            return None
        config = layer.get_config()
        own = _stride(layer)
        if own > 1:
            config.update(strides=(1, 1), padding="same")
        rate = max(1, strides[layer.name] // own // output_stride)
        if max(config.get("kernel_size", (1,))) > 1:
            config["dilation_rate"] = (rate, rate)
        return layer.__class__.from_config(config)

    return graph.clone(model, edit)


def _stride(layer: layers.Layer) -> int:
    return int(layer.strides[0]) if isinstance(layer, _SPATIAL) else 1


def _strides(model: keras.Model) -> dict[str, int]:
    """Input pixels per output pixel of every operation, by name (``model.operations`` is in topological order)."""
    result: dict[str, int] = {}
    for operation in model.operations:
        above = [] if isinstance(operation, layers.InputLayer) else graph.parents(operation)
        result[operation.name] = _stride(operation) * max((result[p.name] for p in above), default=1)
    return result
