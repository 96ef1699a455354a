"""The flags of inference beyond one run on the whole picture, shared by deeplab.py and eval.py."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from common import cli
from deeplabv3p.errors import UsageError
from deeplabv3p.spec import ModelSpec, Window

if TYPE_CHECKING:  # it imports NumPy, which --help does without
    from deeplabv3p.inference import CrfOptions, InferenceOptions

# The names of CrfOptions; the flags have crf_ in front.
_CRF_FLAGS = (
    "iterations",
    "gaussian_sxy",
    "gaussian_compat",
    "bilateral_sxy",
    "bilateral_srgb",
    "bilateral_compat",
)


# What the other flags are where they are not given.
_PLAIN = {"window_batch": 1, "scales": (1.0,), "temperature": 1.0}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags, in a group of their own."""
    flag = parser.add_argument_group("inference (default: one run on the whole picture)").add_argument
    window_help = "slide a window of that size over the picture at its own resolution (default: as the model says)"
    flag("--window", type=cli.size_hw, metavar="HxW", help=window_help)
    stride_help = "step of the window, down x right (default: the model's, or three quarters of the window)"
    flag("--window_stride", type=cli.size_hw, metavar="HxW", help=stride_help)
    batch_help = "windows or pictures a run of the engine; the last run is padded to as many"
    flag("--window_batch", type=cli.integer(1, 1024), default=_PLAIN["window_batch"], metavar="N", help=batch_help)
    flag("--flip", action="store_true", help="average with the prediction of the mirrored picture")
    scales_help = "average predictions at these scales of the picture, such as 0.5,1,1.5"
    flag("--scales", type=_scales, default=_PLAIN["scales"], metavar="X,…", help=f"{scales_help} (default: 1)")
    temperature_help = "probabilities are softmax(logits / T), where predictions are averaged or refined"
    flag("--temperature", type=cli.number(0.01, 100), default=_PLAIN["temperature"], metavar="T", help=temperature_help)
    flag("--do_crf", action="store_true", help="refine the labels with a dense CRF; the defaults can lose mIoU")
    _add_crf_flags(parser.add_argument_group("CRF (with --do_crf)"))


def _add_crf_flags(group: argparse._ArgumentGroup) -> None:
    """Their defaults are those of CrfOptions; null here, so that one without --do_crf is noticed."""
    pixels, weight = cli.number(0.1, 10_000), cli.number(0, 1000)
    add_flag = group.add_argument
    steps_help = "steps of mean field (default: 10)"
    add_flag("--crf_iterations", type=cli.integer(1, 1000), metavar="N", help=steps_help)
    add_flag("--crf_gaussian_sxy", type=pixels, metavar="PX", help="reach of the smoothing, pixels (default: 3)")
    add_flag("--crf_gaussian_compat", type=weight, metavar="W", help="weight of the smoothing (default: 3)")
    edge_help = "reach of the part that follows edges, pixels (default: 80)"
    add_flag("--crf_bilateral_sxy", type=pixels, metavar="PX", help=edge_help)
    color_help = "its reach in colour, levels of 0 to 255 (default: 13)"
    add_flag("--crf_bilateral_srgb", type=cli.number(0.1, 1000), metavar="LEVELS", help=color_help)
    add_flag("--crf_bilateral_compat", type=weight, metavar="W", help="its weight (default: 10)")


def given(namespace: argparse.Namespace) -> list[str]:
    """The flags of this group that ask for something."""
    values = {name: getattr(namespace, name) for name in ("window", "window_stride", *map("crf_{}".format, _CRF_FLAGS))}
    asked = [name for name, value in values.items() if value is not None]
    asked += [name for name in ("flip", "do_crf") if getattr(namespace, name)]
    asked += [name for name, plain in _PLAIN.items() if getattr(namespace, name) != plain]
    return [f"--{name}" for name in asked]


def options_from(namespace: argparse.Namespace, spec: ModelSpec) -> InferenceOptions:
    """The options that the flags ask for, checked against the model.

    Raises:
        UsageError: the flags do not fit each other or the model.
    """
    from deeplabv3p.inference import InferenceOptions, window_of

    options = InferenceOptions(
        window=_window(namespace, spec),
        window_batch=namespace.window_batch,
        flip=namespace.flip,
        scales=namespace.scales,
        crf=_crf(namespace),
        temperature=namespace.temperature,
    )
    if options.temperature != 1.0 and not (options.flip or len(options.scales) > 1 or options.crf):
        raise UsageError("--temperature changes no label alone. It is for --flip, several --scales or --do_crf.")
    window_of(spec, options)
    return options


def _window(namespace: argparse.Namespace, spec: ModelSpec) -> Window | None:
    """The window of the flags, completed from the spec; null where no flag names one."""
    if namespace.window is None and namespace.window_stride is None:
        return None
    own = spec.window if spec.input.resize == "window" else None
    size_hw = namespace.window or (own.size_hw if own else None)
    if size_hw is None:
        raise UsageError("--window_stride needs --window, as the model has no window of its own.")
    stride_hw = namespace.window_stride
    if stride_hw is None:
        stride_hw = (
            own.stride_hw if own and own.size_hw == size_hw else (-(-3 * size_hw[0] // 4), -(-3 * size_hw[1] // 4))
        )
    return Window(size_hw, stride_hw)


def _crf(namespace: argparse.Namespace) -> CrfOptions | None:
    from deeplabv3p.inference import CrfOptions

    given = {name: getattr(namespace, f"crf_{name}") for name in _CRF_FLAGS}
    given = {name: value for name, value in given.items() if value is not None}
    if namespace.do_crf:
        return CrfOptions(**given)
    if given:
        raise UsageError(f"{', '.join(f'--crf_{name}' for name in given)}: only with --do_crf.")
    return None


def _scales(text: str) -> tuple[float, ...]:
    """Argument type: factors with commas between them."""
    scale = cli.number(0.05, 20)
    return tuple(scale(part) for part in text.split(","))
