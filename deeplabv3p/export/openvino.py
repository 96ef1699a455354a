"""OpenVINO IR (``.xml`` and ``.bin``) from the frozen graph: float32, half-precision weights, or 8-bit by NNCF.

OpenVINO's own reader takes the graph, not its Python converter ``ovc``, which reports each use to its makers. No other
package is needed, and an open size works where the network allows it (as ONNX it fails to convert).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabv3p import pixels
from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.open_size import check_open_size
from deeplabv3p.export.openvino_integers import integer_io
from deeplabv3p.export.openvino_quantize import Run, Validate, quantize, start
from deeplabv3p.files import atomic_path
from deeplabv3p.runtime.artifact import SPEC_KEY
from deeplabv3p.runtime.engine import quiet
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.runtime.openvino_import import unreported
from deeplabv3p.spec import Layout, ModelSpec, sidecar_path

if TYPE_CHECKING:
    from deeplabv3p.export.freeze import Frozen


def write(
    frozen: Frozen,
    path: Path,
    options: ExportOptions,
    calibration: Calibration | None = None,
    *,
    validate: Validate | None = None,
    max_drop: float = 0.01,
) -> Exported:
    """Write an ``.xml`` file with its ``.bin`` and its spec, inside (``rt_info``) and beside it, each atomically.

    ``f16`` stores weights in half precision; the engine chooses its arithmetic when it opens the file. ``int8`` has
    8-bit weights, scaled per channel, and 8-bit activations; ``io_dtype`` is what goes in and comes out.

    Args:
        frozen: what :func:`deeplabv3p.export.freeze.freeze` returned.
        path: the ``.xml`` file.
        options: ``precision``, ``layout`` (null: NCHW), ``io_dtype``, ``float_layers`` and ``reduce_range`` are used;
            what concerns the graph is in ``frozen``.
        calibration: tensors in the layout of the file, for int8.
        validate: scores a model, for int8 with accuracy control: it is given what runs a batch, and returns a score
            where more is better, such as mIoU as a fraction. Layers go back to float, the most harmful first, until
            the score is at most ``max_drop`` below that of the float model. It is called once for the float model, for
            the 8-bit one, and several times for each layer where the loss is too large; last for the model with
            whole numbers outside, which stay float32 where they cost too much.
        max_drop: in units of the score.

    Raises:
        UsageError: the name does not end in .xml, int8 has no pictures, or an open size does not work.
        RuntimeMissingError: OpenVINO or NNCF is not installed.
        DataError: the graph cannot be converted, or the files cannot be written.
    """
    if path.suffix != ".xml":
        raise UsageError(f"cannot write an OpenVINO model as {path}. Use a name that ends in .xml.")
    if options.precision == "int8" and calibration is None:
        raise UsageError("OpenVINO int8 needs pictures to calibrate with.")
    layout = options.layout or "NCHW"
    spec = frozen.spec.replace(input={"layout": layout}, output={"layout": layout})
    notes: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="deeplabv3p-openvino-") as name:
        written = Path(name, "model.xml")
        try:
            with quiet():
                model = _translate(frozen, layout, Path(name))
                if None in frozen.concrete.inputs[0].shape.as_list()[1:3]:
                    check_open_size(lambda: start(model), frozen, layout, "OpenVINO")
                if options.precision == "int8":
                    assert calibration is not None
                    model, spec, notes = _quantized(model, spec, options, calibration, validate, max_drop)
                _save(model, spec, written, compressed=options.precision == "f16")
        except DeeplabError:
            raise
        except ModuleNotFoundError as error:
            raise RuntimeMissingError(
                f"OpenVINO files cannot be written: {error.name} is not installed. "
                "Run: pip install 'deeplabv3p[openvino]'"
            ) from None
        except Exception as error:  # OpenVINO raises whatever a graph leads to
            raise DataError(f"{path} cannot be written as OpenVINO {options.precision}: {first_line(error)}") from error
        with (
            atomic_path(sidecar_path(path)) as sidecar,
            atomic_path(path) as graph,
            atomic_path(path.with_suffix(".bin")) as weights,
        ):
            sidecar.write_text(spec.to_json(), encoding="utf-8")
            shutil.copyfile(written, graph)
            shutil.copyfile(written.with_suffix(".bin"), weights)
    return Exported(path, spec, notes)


def _translate(frozen: Frozen, layout: Layout, folder: Path) -> Any:
    """The model in OpenVINO's operations, tidied, input and output under their names in the spec and in ``layout``."""
    with unreported():
        import openvino
        from openvino._offline_transformations import apply_moc_transformations
        from openvino.preprocess import PrePostProcessor

    source = folder / "frozen.pb"
    source.write_bytes(frozen.graph_def.SerializeToString())
    model = openvino.Core().read_model(source)
    model.inputs[0].get_tensor().set_names({frozen.input_name})
    model.outputs[0].get_tensor().set_names({frozen.output_name})
    # Where the layouts differ this adds a transpose, which the tidying below cancels against the graph's own.
    steps = PrePostProcessor(model)
    steps.input().model().set_layout(openvino.Layout("NHWC"))
    steps.input().tensor().set_layout(openvino.Layout(layout))
    if len(model.outputs[0].get_partial_shape()) == 4:  # labels have no channels
        steps.output().model().set_layout(openvino.Layout("NHWC"))
        steps.output().tensor().set_layout(openvino.Layout(layout))
    model = steps.build()
    apply_moc_transformations(model, cf=True, smart_reshape=False)  # dilated convolutions become one operation again
    _name_convolutions(model, frozen.graph_def)
    return model


def _name_convolutions(model: Any, graph_def: Any) -> None:
    """Give convolutions their names of the frozen graph again, ``block_1_expand/convolution``, by their weights: the
    reader numbers all that it turns to NCHW."""
    import tensorflow as tf

    constants = {node.name: node.attr["value"].tensor for node in graph_def.node if node.op == "Const"}
    names: dict[bytes, list[str]] = {}
    for node in graph_def.node:
        if node.op in ("Conv2D", "DepthwiseConv2dNative") and node.input[1] in constants:
            names.setdefault(_fingerprint(tf.make_ndarray(constants[node.input[1]])), []).append(node.name)
    for node in model.get_ordered_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            weights = node.inputs()[1].get_source_output().get_node()
            found = names.get(_fingerprint(weights.data)) if weights.get_type_name() == "Constant" else None
            if found:
                node.set_friendly_name(found.pop(0))


def _fingerprint(values: npt.NDArray[Any]) -> bytes:
    """The same for the same numbers in any order."""
    return hashlib.sha256(np.sort(values, axis=None).tobytes()).digest()


def _quantized(
    model: Any,
    spec: ModelSpec,
    options: ExportOptions,
    calibration: Calibration,
    validate: Validate | None,
    max_drop: float,
) -> tuple[Any, ModelSpec, tuple[str, ...]]:
    """The 8-bit model with the input and output that the options ask for, its spec, and notes."""
    scores: list[float] = []

    def batches() -> Iterator[npt.NDArray[np.float32]]:
        """The pictures, each repeated to the batch size that the file is fixed to."""
        return (np.repeat(tensor, options.batch or 1, axis=0) for tensor in calibration())

    def recorded(run: Run) -> float:
        assert validate is not None
        scores.append(validate(run))
        return scores[-1]

    model, note = quantize(model, batches, options, recorded if validate else None, max_drop)
    if options.io_dtype == "float32":
        return model, spec, (note,)
    whole, whole_spec, notes = integer_io(model, spec, options.io_dtype, batches)
    if validate is not None and validate(_as_floats(start(whole), whole_spec)) < scores[0] - max_drop:
        return model, spec, (note, f"input and output are float32: as {options.io_dtype} they cost too much")
    return whole, whole_spec, (note, *notes)


def _as_floats(run: Run, spec: ModelSpec) -> Run:
    """What runs a model that takes and gives whole numbers, with floats outside."""

    def outside(batch: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        whole = pixels.quantize(np.asarray(batch, np.float32), spec.input)
        return pixels.dequantize(run(whole), spec.output)

    return outside


def _save(model: Any, spec: ModelSpec, path: Path, *, compressed: bool) -> None:
    with unreported():
        import openvino

    model.set_rt_info(spec.to_json(), SPEC_KEY)
    openvino.save_model(model, path, compress_to_fp16=compressed)
