"""A width multiplier for networks that were published without one.

Howard et al. 2017 (MobileNets, arXiv:1704.04861, section 3.3) scale the channels of all layers by one factor alpha; so
the cost falls by about alpha squared.
"""

from __future__ import annotations

import keras
from keras import layers

from deeplabv3p.models.blocks import scaled


def narrow(model: keras.Model, alpha: float, divisor: int = 8) -> keras.Model:
    """The same graph with ``alpha`` times the channels in every layer, rounded to multiples of ``divisor``.

    Args:
        model: a functional model of one level, without grouped convolutions.
        alpha: the width multiplier; 1 gives ``model`` itself.
        divisor: no layer gets fewer channels than this.

    Returns:
        A new model with new random weights: there is no way to carry weights to another width.
    """
    if alpha == 1.0:
        return model

    def edit(layer: layers.Layer) -> layers.Layer:
        config = layer.get_config()
        for key in ("filters", "units"):
            if key in config:
                config[key] = scaled(config[key], alpha, divisor)
        if isinstance(layer, layers.Reshape):  # squeeze and excitation: [B, C] → [B, 1, 1, C]
            *sides, channels = config["target_shape"]
            config["target_shape"] = (*sides, scaled(channels, alpha, divisor))
        return layer.__class__.from_config(config)

    return keras.models.clone_model(model, clone_function=edit)
