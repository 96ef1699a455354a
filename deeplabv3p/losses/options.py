"""Which loss to train with, as plain values: importing this loads no Keras."""

from __future__ import annotations

import dataclasses
import re
from typing import Literal, get_args

from deeplabv3p.errors import UsageError

WeightedType = Literal["None", "adaptive", "balanced"]

LOSS_NAMES = ("crossentropy", "focal", "dice", "lovasz", "ohem", "boundary")

_OVER_PIXELS = {"crossentropy", "focal", "ohem", "boundary"}  # those that class weights reach
_SMOOTHED = {"crossentropy", "ohem", "boundary"}  # those with a target that can be smoothed
_ALIASES = {"ce": "crossentropy"}
_TERM = re.compile(r"(?:(?P<factor>\d+\.?\d*(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)\s*\*\s*)?(?P<name>[a-z_]+)")


@dataclasses.dataclass(frozen=True)
class Term:
    """One of ``LOSS_NAMES``, and what it is multiplied by in the sum."""

    name: str
    factor: float = 1.0


@dataclasses.dataclass(frozen=True)
class LossOptions:
    """The options of ``train.py`` that name the loss, under the same names.

    Attributes:
        loss: a name or a weighted sum of names, such as ``ce+0.5*dice``.
        weighted_type: class weights: none, from each picture, or from the whole dataset. They are weights of pixels,
            so they reach the losses over pixels; dice and lovasz average over classes anyway.
        label_smoothing: share of the target that is spread over all classes, 0 to below 1, in the losses with a
            target for each pixel: crossentropy, ohem and boundary.
        focal_alpha: factor of the focal loss, above 0.
        focal_gamma: exponent of the focal loss, 0 or more.
        ohem_fraction: share of the valid pixels, the hardest ones, that OHEM averages over.
        boundary_weight: factor of the pixels near a boundary between classes in the boundary loss, 1 or more.
        boundary_width: how near, in label pixels.

    Raises:
        UsageError: a value is out of range, ``loss`` names no loss, or an option reaches none of its losses.
    """

    loss: str = "crossentropy"
    weighted_type: WeightedType = "None"
    label_smoothing: float = 0.0
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    ohem_fraction: float = 0.25
    boundary_weight: float = 5.0
    boundary_width: int = 3

    def __post_init__(self) -> None:
        names = {term.name for term in parse_loss(self.loss)}
        kinds = get_args(WeightedType)
        if self.weighted_type not in kinds:
            raise UsageError(f"weighted_type is '{self.weighted_type}', expected one of {', '.join(kinds)}.")
        checks = {
            "label_smoothing": (0 <= self.label_smoothing < 1, "0 to below 1"),
            "focal_alpha": (0 < self.focal_alpha < float("inf"), "a number above 0"),
            "focal_gamma": (0 <= self.focal_gamma < float("inf"), "a number of 0 or more"),
            "ohem_fraction": (0 < self.ohem_fraction <= 1, "above 0, up to 1"),
            "boundary_weight": (1 <= self.boundary_weight < float("inf"), "a number of 1 or more"),
            "boundary_width": (self.boundary_width >= 1, "at least 1"),
        }
        for name, (good, expected) in checks.items():
            if not good:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {expected}.")
        if self.weighted_type != "None" and not names & _OVER_PIXELS:
            raise UsageError(
                f"weighted_type {self.weighted_type} does not reach the loss {self.loss}, which averages over classes "
                f"anyway. Leave it out, or add one of {', '.join(sorted(_OVER_PIXELS))}."
            )
        if self.label_smoothing and not names & _SMOOTHED:
            raise UsageError(
                f"label_smoothing does not reach the loss {self.loss}. Leave it out, or add one of "
                f"{', '.join(sorted(_SMOOTHED))}."
            )


def parse_loss(text: str) -> tuple[Term, ...]:
    """The terms of ``[factor*]name[+…]``, such as ``ce+0.5*dice``; ``ce`` is short for ``crossentropy``.

    Raises:
        UsageError: a name is unknown or stands twice, a factor is 0 or too large, or the text is no such sum.
    """
    terms: list[Term] = []
    position = 0
    text = text.strip()
    while True:
        match = _TERM.match(text, position)
        if match is None:
            raise UsageError(f"the loss '{text}' cannot be read. Write a sum such as ce+0.5*dice.")
        name = _ALIASES.get(match["name"], match["name"])
        factor = float(match["factor"] or 1)
        if name not in LOSS_NAMES:
            raise UsageError(f"there is no loss '{name}'. There are {', '.join(LOSS_NAMES)}, and ce for crossentropy.")
        if not 0 < factor < float("inf"):
            raise UsageError(f"the factor of {name} in the loss '{text}' is {factor:g}, expected a number above 0.")
        if any(term.name == name for term in terms):
            raise UsageError(f"the loss '{text}' names {name} twice. Add the factors.")
        terms.append(Term(name, factor))
        rest = re.compile(r"\s*\+\s*").match(text, match.end())
        if rest is None:
            if match.end() < len(text):
                raise UsageError(f"the loss '{text}' cannot be read. Write a sum such as ce+0.5*dice.")
            return tuple(terms)
        position = rest.end()
