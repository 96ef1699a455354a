"""How a picture is segmented: options, and whether a model can be used with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deeplabv3p.errors import UsageError
from deeplabv3p.spec import ModelSpec, Window


@dataclass(frozen=True)
class CrfOptions:
    """A dense CRF: Krähenbühl and Koltun, Efficient inference in fully connected CRFs with Gaussian edge potentials
    (arXiv:1210.5644), with mean field, Potts labels and two kernels.

    Args:
        iterations: steps of mean field.
        gaussian_sxy: standard deviation of the smoothing kernel, in pixels of the picture.
        gaussian_compat: its weight.
        bilateral_sxy: standard deviation of the kernel that follows edges, in pixels of the picture.
        bilateral_srgb: its standard deviation in colour, in levels of 0 to 255.
        bilateral_compat: its weight.
    """

    iterations: int = 10
    gaussian_sxy: float = 3.0
    gaussian_compat: float = 3.0
    bilateral_sxy: float = 80.0
    bilateral_srgb: float = 13.0
    bilateral_compat: float = 10.0

    def __post_init__(self) -> None:
        deviations = (self.gaussian_sxy, self.bilateral_sxy, self.bilateral_srgb)
        weights = (self.gaussian_compat, self.bilateral_compat)
        if self.iterations < 1 or not all(0 < value < math.inf for value in deviations):
            raise UsageError("a CRF takes 1 or more iterations and standard deviations above 0.")
        if not all(0 <= value < math.inf for value in weights):
            raise UsageError("the weights of a CRF are 0 or more.")


@dataclass(frozen=True)
class InferenceOptions:
    """What is done beyond one run of the network on the whole picture.

    Args:
        window: slide a window over the picture at its own resolution; null: only if the spec's resize rule says so.
        window_batch: pictures or windows a run of the engine. The last run is padded to as many, so that a model of a
            fixed batch size is served, too.
        flip: average with the prediction of the mirrored picture.
        scales: the picture is resized by each of these factors, and the predictions are averaged.
        crf: refine the probabilities with a CRF; null: not.
        temperature: probabilities are softmax(logits / temperature).
    """

    window: Window | None = None
    window_batch: int = 1
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    crf: CrfOptions | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.window is not None:
            _check_window(self.window)
        if self.window_batch < 1:
            raise UsageError(f"a run takes 1 or more windows, not {self.window_batch}.")
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            raise UsageError("scales are one or more factors above 0.")
        if len(set(self.scales)) != len(self.scales):
            raise UsageError(f"a scale stands twice in {', '.join(f'{scale:g}' for scale in self.scales)}.")
        if not 0 < self.temperature < math.inf:
            raise UsageError(f"the temperature must be above 0, not {self.temperature}.")


PLAIN = InferenceOptions()
"""One run of the network on the whole picture, resized as the spec says."""


def window_of(spec: ModelSpec, options: InferenceOptions) -> Window | None:
    """The window that slides over the picture, null for none, after checking that the model can be used that way.

    Raises:
        UsageError: it cannot; the message says why.
    """
    window = options.window
    if window is None and spec.input.resize == "window":
        window = spec.window
        if window is None:
            raise UsageError("the spec asks for a sliding window but does not say its size. Name one with --window.")
        _check_window(window)
    _check_averaging(spec, options, window)
    size = spec.input.size_hw
    if window is not None and size not in {None, window.size_hw}:
        raise UsageError(
            f"the model takes {_size(size)} pixels, so the window must have that size, not {_size(window.size_hw)}."
        )
    if window is None and size is not None and options.scales != (1.0,):
        raise UsageError(
            f"the model takes {_size(size)} pixels and nothing else, so a picture of another scale needs a sliding "
            f"window of that size: --window {_size(size)}."
        )
    return window


def _check_averaging(spec: ModelSpec, options: InferenceOptions, window: Window | None) -> None:
    """A model that puts out labels has no scores to average."""
    asked = {
        "a sliding window": window is not None,
        "flip": options.flip,
        "scales": options.scales != (1.0,),
        "a CRF": options.crf is not None,
        "temperature": options.temperature != 1.0,
    }
    names = [name for name, is_asked in asked.items() if is_asked]
    if names and spec.output.kind == "labels":
        raise UsageError(
            f"the model puts out labels, but {', '.join(names)} takes scores. Use a model that puts out logits."
        )


def _check_window(window: Window) -> None:
    if min(window.size_hw) < 1 or min(window.stride_hw) < 1:
        raise UsageError("the size and the stride of a window are 1 pixel or more.")
    if any(stride > size for stride, size in zip(window.stride_hw, window.size_hw, strict=True)):
        raise UsageError(
            f"a window of {_size(window.size_hw)} with stride {_size(window.stride_hw)} leaves pixels out. "
            "The stride must not be larger than the window."
        )


def _size(size_hw: tuple[int, int] | None) -> str:
    return "any size" if size_hw is None else f"{size_hw[0]}x{size_hw[1]}"
