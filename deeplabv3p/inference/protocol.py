"""How a score came about, in one line."""

from __future__ import annotations

from deeplabv3p.inference.options import PLAIN, CrfOptions, InferenceOptions, window_of
from deeplabv3p.runtime import Runtime
from deeplabv3p.spec import ModelSpec, Window


def protocol(runtime: Runtime, options: InferenceOptions = PLAIN) -> str:
    """How :func:`deeplabv3p.inference.predict` works with this model and these options, in one line to stand beside a
    score: ``mobilenetv2 os16, 360x480 stretch, single scale, no flip, whole picture, keras 3.15 (tensorflow cpu)``.

    Raises:
        UsageError: the model cannot be used with these options.
    """
    spec = runtime.spec
    stride = "" if spec.model.output_stride is None else f" os{spec.model.output_stride}"
    window = window_of(spec, options)
    parts = [
        f"{spec.model.name}{stride}",
        _window_text(window) if window else _size_text(spec),
        "single scale" if options.scales == PLAIN.scales else f"scales {' '.join(f'{s:g}' for s in options.scales)}",
        "flip" if options.flip else "no flip",
    ]
    if window is None:
        parts.append("whole picture")
    if options.window_batch != PLAIN.window_batch:
        parts.append(f"batch {options.window_batch}")
    if options.temperature != PLAIN.temperature:
        parts.append(f"temperature {options.temperature:g}")
    if options.crf is not None:
        parts.append(_crf_text(options.crf))
    return f"{', '.join(parts)}, {runtime.name} ({runtime.device})"


def _size_text(spec: ModelSpec) -> str:
    if spec.input.size_hw is not None:
        return f"{spec.input.size_hw[0]}x{spec.input.size_hw[1]} {spec.input.resize}"
    return "own size" if spec.input.max_side is None else f"own size up to {spec.input.max_side}"


def _window_text(window: Window) -> str:
    (height, width), (down, right) = window.size_hw, window.stride_hw
    stride = str(down) if down == right else f"{down}x{right}"
    return f"window {height}x{width} stride {stride}"


def _crf_text(options: CrfOptions) -> str:
    from deeplabv3p.inference.crf import implementation

    smooth = f"smoothing {options.gaussian_sxy:g} px weight {options.gaussian_compat:g}"
    edges = f"edges {options.bilateral_sxy:g} px {options.bilateral_srgb:g} levels weight {options.bilateral_compat:g}"
    return f"CRF {options.iterations} iterations ({implementation()}; {smooth}; {edges})"
