"""ONNX files from the frozen graph: tf2onnx translates, onnxslim tidies; float32, half precision, or 8-bit (QDQ).

In NCHW, ONNX's own layout, no transpose is left: tf2onnx moves them to the input and output and drops them there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from deeplabv3p.errors import DataError, DeeplabError, RuntimeMissingError, UsageError
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.open_size import check_open_size
from deeplabv3p.files import atomic_path
from deeplabv3p.runtime.artifact import SPEC_KEY
from deeplabv3p.runtime.engine import quiet
from deeplabv3p.runtime.keras_safety import first_line
from deeplabv3p.runtime.onnx_import import import_onnxruntime, silence_onnxruntime
from deeplabv3p.spec import Layout, ModelSpec, sidecar_path

if TYPE_CHECKING:
    from deeplabv3p.export.freeze import Frozen

OP_SETS = range(11, 19)
_FIRST_QDQ_OP_SET = 13


def write(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None = None) -> Exported:
    """Write an ``.onnx`` file with its spec inside (``metadata_props``) and beside it, atomically.

    ``f16`` has weights and arithmetic in half precision, float32 input and output. ``int8`` has 8-bit weights, scaled
    per channel, and 8-bit activations; ``io_dtype`` is what goes in and comes out.

    Args:
        frozen: what :func:`deeplabv3p.export.freeze.freeze` returned.
        path: the file.
        options: ``precision``, ``layout`` (null: NCHW), ``op_set``, ``io_dtype``, ``float_layers`` and
            ``reduce_range`` are used; what concerns the graph is in ``frozen``.
        calibration: tensors in the layout of the file, for int8.

    Raises:
        UsageError: the op set cannot be had, int8 has no pictures, or an open size does not work.
        RuntimeMissingError: a package is not installed.
        DataError: the graph cannot be converted, or the file cannot be written.
    """
    _check(options, calibration)
    layout = options.layout or "NCHW"
    spec = frozen.spec.replace(input={"layout": layout}, output={"layout": layout})
    notes: tuple[str, ...] = ()
    try:
        with quiet(), _quiet_logs():
            model = translate(frozen, layout, options.op_set)
            if None in frozen.concrete.inputs[0].shape.as_list()[1:3]:
                check_open_size(lambda: _start(model, frozen.input_name), frozen, layout, "ONNX Runtime")
            if options.precision == "f16":
                model = _in_half_precision(model)
            if options.precision == "int8":
                assert calibration is not None
                from deeplabv3p.export.onnx_quantize import quantize

                model, spec, notes = quantize(model, spec, options, calibration)
            _finish(model, spec)
    except DeeplabError:
        raise
    except ModuleNotFoundError as error:
        raise RuntimeMissingError(
            f"ONNX files cannot be written: {error.name} is not installed. Run: pip install 'deeplabv3p[onnx]'"
        ) from None
    except Exception as error:  # converters raise whatever a graph leads to
        raise DataError(f"{path} cannot be written as ONNX {options.precision}: {first_line(error)}") from error
    with atomic_path(sidecar_path(path)) as sidecar, atomic_path(path) as temporary:
        sidecar.write_text(spec.to_json(), encoding="utf-8")
        temporary.write_bytes(model.SerializeToString())
    return Exported(path, spec, notes)


def _check(options: ExportOptions, calibration: Calibration | None) -> None:
    if options.op_set not in OP_SETS:
        raise UsageError(
            f"ONNX op set {options.op_set} cannot be written: 11 is the first with half-pixel resizing, 18 the last "
            "that tf2onnx knows. Choose 11 to 18."
        )
    if options.precision != "int8":
        return
    if options.op_set < _FIRST_QDQ_OP_SET:
        raise UsageError(f"ONNX op set {options.op_set} has no scale per channel. Take 13 to 18 for int8.")
    if calibration is None:
        raise UsageError("ONNX int8 needs pictures to calibrate with.")


def translate(frozen: Frozen, layout: Layout, op_set: int) -> Any:
    """The float32 ``ModelProto`` of a frozen graph, tidied, input and output under their names in the spec. Nodes are
    called by the Keras layers they come from: ``block_1_expand/BiasAdd``."""
    silence_onnxruntime()  # both import it
    import onnx
    import onnxslim
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    picture, result = f"{frozen.input_name}:0", f"{frozen.output_name}:0"
    channels_first = {}
    if layout == "NCHW":
        channels_first["inputs_as_nchw"] = [picture]
        if len(frozen.concrete.outputs[0].shape) == 4:  # labels have no channels
            channels_first["outputs_as_nchw"] = [result]
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(frozen.graph_def, name="")
        converted = tfonnx.process_tf_graph(
            graph,
            opset=op_set,
            input_names=[picture],
            output_names=[result],
            tensors_to_rename={picture: frozen.input_name, result: frozen.output_name},
            **channels_first,
        )
        tidied = optimizer.optimize_graph(converted)
        sides = {name: tidied.get_shape(name) or [] for node in tidied.get_nodes() for name in node.output}
        model = tidied.make_model(frozen.spec.model.name)
    _exact_scales(model, sides)
    model = onnxslim.slim(model)
    _name_by_layer(model)
    _name_open_sides(model, layout)
    return onnx.shape_inference.infer_shapes(model)


def _exact_scales(model: Any, sides: Mapping[str, list[int]]) -> None:
    """Let every Resize give the size that it has in the frozen graph. ONNX rounds side x scale down, and a float32
    scale a little under the true one, such as 33/17, makes 32 of 17; the next float32 makes 33. ``sides`` are those
    of the tensors, -1 where open."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Resize" or len(node.input) != 3 or node.input[2] not in constants:
            continue
        scales = numpy_helper.to_array(constants[node.input[2]]).copy()
        for axis, side in enumerate(sides.get(node.input[0], [])):
            wanted = round(side * float(scales[axis]))
            while side > 0 and int(side * float(scales[axis])) < wanted:
                scales[axis] = np.nextafter(scales[axis], np.float32(np.inf))
        node.input[2] = f"{node.output[0]}/scales"
        model.graph.initializer.append(numpy_helper.from_array(scales, node.input[2]))


def _name_by_layer(model: Any) -> None:
    """Name convolutions that tf2onnx made of several operations, ``Conv__285``, by the layer that their bias is of."""
    taken = {node.name for node in model.graph.node}
    for node in model.graph.node:
        layer = node.input[2].partition("/")[0] if len(node.input) > 2 else ""
        if node.op_type == "Conv" and "__" in node.name and layer and f"{layer}/Conv" not in taken:
            node.name = f"{layer}/Conv"
            taken.add(node.name)


def _name_open_sides(model: Any, layout: Layout) -> None:
    """Call the sides that are open in the input batch, height and width. Open sides of the output keep no name, but for
    the batch: their relation to the input's is not said."""
    sides = ("batch", "height", "width", "channels") if layout == "NHWC" else ("batch", "channels", "height", "width")
    for number, value in enumerate((model.graph.input[0], model.graph.output[0])):
        for side, dim in zip(sides, value.type.tensor_type.shape.dim, strict=False):
            if not dim.HasField("dim_value"):
                dim.Clear()
                if side == "batch" or number == 0:
                    dim.dim_param = side
    del model.graph.value_info[:]  # inferred again, with these names


def _start(model: Any, name: str) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.generic]]:
    """Open a model in ONNX Runtime; returns what runs a batch."""
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal: what goes wrong is raised as well
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda batch: np.asarray(session.run(None, {name: batch})[0])


def _in_half_precision(model: Any) -> Any:
    """Weights and arithmetic in float16; Cast operations keep input and output float32."""
    convert = import_onnxruntime("onnxruntime.transformers.float16").convert_float_to_float16
    import onnxslim

    return onnxslim.slim(convert(model, keep_io_types=True))


def _finish(model: Any, spec: ModelSpec) -> None:
    """Embed the spec and check the model as a whole."""
    import onnx

    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {SPEC_KEY: spec.to_json()})
    model.producer_name, model.producer_version, model.doc_string = "deeplabv3p", "", ""
    onnx.checker.check_model(model, full_check=True)


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep the converters' Python loggers below errors from users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
