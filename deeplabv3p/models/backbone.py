"""A backbone: a feature network, what its published weights expect, and where its features are.

Reading this module does not import Keras: names and weights of networks are looked up by commands that build none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from deeplabv3p.spec import SYMMETRIC, Preprocessing

if TYPE_CHECKING:
    import keras

    Features = dict[int, keras.KerasTensor]

Build = Callable[["Backbone", tuple[int, int], int, float], "keras.Model"]

BACKBONES: dict[str, Backbone] = {}
"""Every backbone by its name. :mod:`deeplabv3p.models.backbones` fills it."""


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A feature network by name.

    ``taps`` names the layer or operation whose output is the feature map of a stride, ``channels`` says how many
    channels it has at alpha 1; the last one is what the head reads. ``preprocessing`` is that of the ImageNet weights
    of ``imagenet_file`` (None: there are none that can be had). ``alphas`` are the width multipliers that those exist
    for. ``paper`` says where the network is from, ``origin`` and ``licence`` are those of the weights. ``build`` makes
    the network, see :func:`backbone`.
    """

    name: str
    build: Build
    taps: dict[int, str]
    channels: dict[int, int]
    paper: str
    preprocessing: Preprocessing = SYMMETRIC
    imagenet_file: str | None = None
    alphas: tuple[float, ...] = (1.0,)
    origin: str = "Keras Applications, ImageNet"
    licence: str = "Apache-2.0"

    def features(
        self, size_hw: tuple[int, int], output_stride: int, alpha: float
    ) -> tuple[keras.KerasTensor, Features]:
        """The network's input and its features by stride, randomly initialised.

        Args:
            size_hw: input size in pixels, at least 32 a side.
            output_stride: input pixels per pixel of the deepest features.
            alpha: width multiplier.

        Returns:
            ``image`` float32 [B, H, W, 3], and float32 [B, ceil(H / s), ceil(W / s), C] for every stride s up to
            ``output_stride``, where the deepest tap counts: behind the output stride every tap has that stride.
        """
        from deeplabv3p.models import graph

        network = self.build(self, size_hw, output_stride, alpha)
        features = {stride: graph.output(network, tap) for stride, tap in self.taps.items() if stride < output_stride}
        features[output_stride] = graph.output(network, self.deepest_tap)
        return network.input, features

    @property
    def deepest_tap(self) -> str:
        """The layer that the head reads."""
        return self.taps[max(self.taps)]

    def trunk(self, network: keras.Model) -> keras.Model:
        """``network`` up to its deepest tap."""
        import keras

        from deeplabv3p.models import graph

        return keras.Model(network.inputs[0], graph.output(network, self.deepest_tap))


def backbone(
    *,
    taps: dict[int, str],
    channels: dict[int, int],
    paper: str,
    preprocessing: Preprocessing = SYMMETRIC,
    imagenet_file: str | None = None,
    alphas: tuple[float, ...] = (1.0,),
    origin: str = "Keras Applications, ImageNet",
    licence: str = "Apache-2.0",
) -> Callable[[Build], Backbone]:
    """Decorator that makes a function the backbone of its name. The arguments are the fields of :class:`Backbone`.

    The function gets that backbone, the input size, the output stride and the width multiplier. It returns a functional
    model of one input, ``image`` float32 [B, H, W, 3], in which every tap is found by its name.
    """

    def register(build: Build) -> Backbone:
        name = build.__name__
        made = Backbone(name, build, taps, channels, paper, preprocessing, imagenet_file, alphas, origin, licence)
        BACKBONES[name] = made
        return made

    return register
