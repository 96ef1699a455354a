"""Find the first layer where a model file leaves its Keras reference.

Both run one picture. Where the engine lets us look inside (``tensors``), every layer that both have is compared in the
actual file: batch norms are folded in the reference as in the file, and tensors are found by the layer's name in
theirs. Elsewhere the reference is cut off behind a layer, written in the same format and precision, and run; halving
finds the layer with few cuts, but sees faults of the engine and the converter only, not of one file.
"""

from __future__ import annotations

import dataclasses
import tempfile
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.data.decode import read_image
from deeplabv3p.errors import UsageError
from deeplabv3p.evaluation.comparison import float_output
from deeplabv3p.evaluation.departure import (
    Array,
    LayerError,
    Parents,
    first_departure,
    hidden,
    match,
    nearest,
    relative_error,
    search,
)
from deeplabv3p.evaluation.tensors import Inside, open_inside
from deeplabv3p.pixels import prepare
from deeplabv3p.runtime.artifact import ArtifactRef, open_artifact
from deeplabv3p.spec import ClassInfo, ModelSpec

if TYPE_CHECKING:
    from deeplabv3p.export.formats import Precision

TOLERANCES = {"f32": 1e-3, "f16": 0.02, "bf16": 0.1, "w8": 0.1, "int16x8": 0.1, "int8": 0.2}
"""How large a relative error a layer may have, by precision. Rounding of single precision grows to 1e-5 over a hundred
layers, to 1e-4 with Winograd kernels. Half precision has 11 bits, bfloat16 8. In int8 a layer by itself costs a few
percent; 0.2 is a layer whose range was chosen badly, or many that add up."""

_CHUNK_BYTES = 256 * 2**20  # of tensors that an engine hands out at once


@dataclass(frozen=True)
class Bisection:
    """What was found. ``steps`` are all layers that were compared, in the order in which they run; ``first`` is the
    first one over ``tolerance`` whose inputs are not, None where there is none. ``remark`` says what the reader must
    know to trust it."""

    method: str
    picture: str
    tolerance: float
    steps: tuple[LayerError, ...]
    first: LayerError | None
    remark: str


def find_departure(
    _send: Callable[[Any], None],
    reference: ArtifactRef,
    reference_spec: ModelSpec,
    artifact: ArtifactRef,
    spec: ModelSpec,
    precision: str,
    picture: Path,
) -> Bisection:
    """Compare a model file with its Keras reference layer by layer, on one picture.

    Args:
        _send: not used; functions for ``isolation.call`` have it.
        reference: the .keras or .h5 file.
        reference_spec: its spec.
        artifact: the file that fails.
        spec: its spec.
        precision: a key of :data:`TOLERANCES`.
        picture: a file.

    Raises:
        UsageError: the reference is not a Keras model.
        DeeplabError: a file cannot be opened, or a cut cannot be written.
    """
    if reference.runtime != "keras":
        raise UsageError("layers can be compared with a Keras reference only")
    network = Network.open(reference.path, reference_spec, picture)
    tensor, _ = prepare(read_image(picture, spec.input.picture_max), spec.input)
    inside = open_inside(artifact)
    tolerance = TOLERANCES[precision]
    if inside is not None:
        steps, remark = _compare_inside(network, inside, spec, tensor[None])
        method = f"tensors inside {artifact.path.name}"
        first = first_departure(steps, network.parents, tolerance)
        return Bisection(method, picture.name, tolerance, steps, first, _remark(steps, first, remark))
    cuts = Cuts(network, reference_spec, artifact, precision, picture)
    if precision != "f32":
        # A file that fails may have less than the tolerance left in its last layer: then what it has there must do.
        tolerance = min(tolerance, 0.9 * cuts.error(cuts.names[-1]))
    layer = search(cuts.names, network.parents, cuts.error, tolerance)
    steps = cuts.steps()
    first = next((step for step in steps if step.layer == layer), None)
    remark = "the reference was cut off behind layers and exported again"
    if first is None:
        remark += "; these cuts agree, so the fault lies in this one file or behind the last layer"
    return Bisection("cuts of the reference", picture.name, tolerance, steps, first, remark)


@dataclass(frozen=True)
class Network:
    """The reference with folded batch norms, run on one picture: by layer, in the order in which they run, its
    ``outputs`` float32 [1, …], ``kinds``, and ``parents`` (the layers that it reads)."""

    model: Any
    outputs: Mapping[str, Array]
    kinds: Mapping[str, str]
    parents: Parents

    @classmethod
    def open(cls, path: Path, spec: ModelSpec, picture: Path) -> Network:
        """Open a Keras model and run a picture through it."""
        from deeplabv3p.runtime import keras_engine

        keras = keras_engine.import_keras()
        from deeplabv3p.export.fold import fold_batch_norms
        from deeplabv3p.models.walk import run, walk

        model = fold_batch_norms(keras_engine.load_model(path))
        tensor, _ = prepare(read_image(picture, spec.input.picture_max), spec.input)
        outputs: dict[str, Array] = {}
        kinds, parents = {}, {}
        makers: dict[int, str] = {}
        for step in walk(model, [keras.ops.convert_to_tensor(tensor[None])], run):
            outputs[step.name] = np.asarray(keras.ops.convert_to_numpy(step.outputs[0]), np.float32)
            kinds[step.name] = type(step.operation).__name__
            parents[step.name] = tuple(dict.fromkeys(makers[id(item)] for item in step.inputs if id(item) in makers))
            makers |= {id(item): step.name for item in step.outputs}
        return cls(model, outputs, kinds, parents)


def _compare_inside(
    network: Network, inside: Inside, spec: ModelSpec, batch: npt.NDArray[np.generic]
) -> tuple[tuple[LayerError, ...], str]:
    pairs = match(list(network.outputs), inside.names, spec.output.name)
    errors: dict[str, float] = {}
    for chunk in _chunks(pairs, {layer: values.nbytes for layer, values in network.outputs.items()}):
        found = inside.read(list(dict.fromkeys(pairs[layer] for layer in chunk)), batch)
        for layer in chunk:
            error = relative_error(network.outputs[layer], found[pairs[layer]])
            if error is not None:
                errors[layer] = error
    order = [layer for layer in network.outputs if layer in errors]
    steps = _with_fused(_steps(order, errors, network), network)
    return steps, f"{len(steps)} of {len(network.outputs)} layers were found in the file"


class Cuts:
    """The reference cut off behind one layer after the other, in the format and precision of a file."""

    def __init__(
        self,
        network: Network,
        spec: ModelSpec,
        artifact: ArtifactRef,
        precision: str,
        picture: Path,
    ) -> None:
        self._network, self._spec, self._artifact = network, spec, artifact
        self._precision, self._picture = precision, picture
        self._tensors = {operation.name: operation.output for operation in network.model.operations}
        self._errors: dict[str, float] = {}
        self.names = [name for name in network.outputs if self._fits(name)]

    def error(self, name: str) -> float:
        """The relative error behind a layer; writes and runs a file the first time."""
        if name not in self._errors:
            self._errors[name] = self._measure(name)
        return self._errors[name]

    def steps(self) -> tuple[LayerError, ...]:
        """What was measured so far."""
        return _steps([name for name in self.names if name in self._errors], self._errors, self._network)

    def _fits(self, name: str) -> bool:
        """Whether a model can end here: maps of channels on a grid that a spec can say."""
        shape = self._network.outputs[name].shape
        size_hw = self._spec.input.size_hw
        if name not in self._tensors or len(shape) != 4 or size_hw is None:
            return False
        stride = self._stride(shape)
        return all(
            side in (whole // stride, -(-whole // stride)) for side, whole in zip(shape[1:3], size_hw, strict=True)
        )

    def _stride(self, shape: tuple[int, ...]) -> int:
        assert self._spec.input.size_hw is not None
        return max(1, round(self._spec.input.size_hw[0] / shape[1]))

    def _measure(self, name: str) -> float:
        from deeplabv3p.export.export import export
        from deeplabv3p.export.formats import FORMATS, ExportOptions
        from deeplabv3p.runtime.keras_engine import import_keras

        keras = import_keras()
        expected = self._network.outputs[name]
        classes = tuple(ClassInfo(f"channel {index}", (0, 0, 0)) for index in range(expected.shape[3]))
        output = {"kind": "logits", "stride": self._stride(expected.shape)}
        spec = self._spec.replace(classes=classes, output=output)
        model = keras.Model(self._network.model.inputs, self._tensors[name])
        suffix = self._artifact.path.suffix
        form = next(item for item in FORMATS.values() if item.suffix == suffix)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"cut{suffix}"
            calibration = None
            if self._precision in ("int8", "int16x8"):
                from deeplabv3p.export.calibration import calibration_tensors

                calibration = calibration_tensors(spec, [self._picture], None, form.layouts[0])
            # bf16 is how OpenVINO computes on its device, not how a file is written.
            precision = "f32" if self._precision == "bf16" else self._precision
            options = ExportOptions(precision=typing.cast("Precision", precision))
            written = export(model, spec, path, form.name, options, calibration)
            reference = ArtifactRef(path, self._artifact.runtime, self._artifact.device)
            runtime = open_artifact(reference, spec=written.spec)
            try:
                taken = written.spec.input
                tensor, _ = prepare(read_image(self._picture, taken.picture_max), taken)
                values = float_output(runtime.run(tensor[None])[0], written.spec.output)
            finally:
                runtime.close()
        error = relative_error(expected, values[None])
        return float("inf") if error is None else error


def _steps(order: Sequence[str], errors: Mapping[str, float], network: Network) -> tuple[LayerError, ...]:
    def before(layer: str) -> float:
        return max((errors[name] for name in nearest(layer, network.parents, errors)), default=0.0)

    return tuple(LayerError(layer, network.kinds[layer], errors[layer], before(layer)) for layer in order)


def _with_fused(steps: Sequence[LayerError], network: Network) -> tuple[LayerError, ...]:
    """The steps with the layers that no tensor of the file shows."""
    known = {step.layer for step in steps}

    def fused(layer: str) -> tuple[str, ...]:
        return tuple(f"{name} ({network.kinds[name]})" for name in hidden(layer, network.parents, known))

    return tuple(dataclasses.replace(step, fused=fused(step.layer)) for step in steps)


def _chunks(layers: Iterable[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    chunk: list[str] = []
    held = 0
    for layer in layers:
        if chunk and held + sizes[layer] > _CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
        chunk.append(layer)
        held += sizes[layer]
    if chunk:
        yield chunk


def _remark(steps: Sequence[LayerError], first: LayerError | None, found: str) -> str:
    if not steps:
        return found
    jump = max(steps, key=lambda step: step.error - step.before)
    if jump == first:
        return f"{found}; no other layer adds as much"
    none = "" if first else "; none is over the tolerance, so the difference builds up"
    return f"{found}{none}; most is added in {jump.layer} ({jump.kind}): from {jump.before:.2g} to {jump.error:.2g}"
