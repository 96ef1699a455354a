"""MNN: float, half and 8-bit weights, and 8-bit arithmetic by MNN's own quantizer, from the frozen graph.

MNN's converter is the C extension ``_tools`` of its wheel. It runs in a process of its own, because it aborts one that
has TensorFlow loaded, and it is called directly: the console scripts around it (``mnnconvert``, ``mnnquant``) install a
telemetry package and report every run.

The graph ends in a Reshape to the shape it has anyway. Without it MNN would leave the result of a last convolution in
its own channel-blocked order, which comes out as NCHW; behind it the file takes and gives NHWC.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deeplabv3p import processes
from deeplabv3p.errors import DataError, RuntimeMissingError, UsageError
from deeplabv3p.export.formats import Calibration, Exported, ExportOptions
from deeplabv3p.export.mnn_integers import integer_io
from deeplabv3p.export.mnn_quantize import float_operations, write_pictures
from deeplabv3p.files import atomic_path
from deeplabv3p.spec import sidecar_path

if TYPE_CHECKING:
    from deeplabv3p.export.freeze import Frozen

_CALLER = "deeplabv3p.export.mnn_call"
_FLAGS: dict[str, tuple[str, ...]] = {"f32": (), "f16": ("--fp16",), "w8": ("--weightQuantBits", "8"), "int8": ()}
"""Of the converter. 8-bit weights are symmetric, a scale per output channel: on 30 CamVid pictures they cost 0.15
points of mIoU, asymmetric ones 0.43."""


def write(frozen: Frozen, path: Path, options: ExportOptions, calibration: Calibration | None) -> Exported:
    """Write a ``.mnn`` file and its spec beside it, both atomically. Input and output are NHWC, float32 but
    for int8, where they are uint8 unless ``io_dtype`` is float32.

    Of int8 the convolutions are 8-bit, weights with a scale per channel; the notes list what is not. Activations have
    the range of the calibration pictures, of which as many are taken as the quantizer can hold in memory at once
    (34 at 360x480, 22 at 512x512).

    Args:
        frozen: what :func:`deeplabv3p.export.freeze.freeze` returned.
        path: the file.
        options: ``precision`` and ``io_dtype`` are used; what concerns the graph is in ``frozen``.
        calibration: NHWC tensors, for int8.

    Raises:
        UsageError: the graph has an open size, or int8 has no pictures or another batch than 1.
        RuntimeMissingError: MNN is not installed.
        DataError: the converter refuses the graph, or the file cannot be written.
    """
    spec = frozen.spec
    shape = frozen.concrete.inputs[0].shape.as_list()
    if None in shape[1:3]:
        raise UsageError("an MNN file has a fixed height and width. Leave --dynamic out.")
    if options.precision == "int8" and shape[0] != 1:
        raise UsageError("MNN quantizes models of batch 1. Use --batch 1 for int8.")
    if options.precision == "int8" and calibration is None:
        raise UsageError("MNN int8 needs pictures to calibrate with.")
    notes: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(prefix="deeplabv3p-mnn-") as name:
        folder = Path(name)
        (folder / "frozen.pb").write_bytes(_with_plain_output(frozen).SerializeToString())
        written = folder / "model.mnn"
        convert = ["-f", "TF", "--modelFile", "frozen.pb", "--MNNModel", written.name, "--bizCode", "deeplabv3p"]
        _run_tool("mnnconvert", [*convert, *_FLAGS[options.precision]], folder, written.name, path)
        if calibration is not None and options.precision == "int8":
            pictures = folder / "pictures"
            config = write_pictures(calibration, spec, pictures)
            (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
            written = folder / "int8.mnn"
            _run_tool("mnnquant", ["model.mnn", written.name, "config.json"], folder, written.name, path)
            shutil.rmtree(pictures)
            dump = ["-f", "MNN", "--modelFile", written.name, "--JsonFile", "int8.json"]
            _run_tool("mnnconvert", dump, folder, "int8.json", path)
            content = (folder / "int8.json").read_text(encoding="utf-8")
            kept = float_operations(content, path)
            if options.io_dtype != "float32":
                whole = folder / "whole.mnn"
                spec, notes = integer_io(written, whole, spec, content)
                if whole.exists():
                    written = whole
                    if options.io_dtype == "int8":
                        notes += ("whole numbers outside are uint8: MNN's Python package has no tensors of int8",)
            notes = (f"stayed float: {kept}", *notes, f"calibrated with {config['used_image_num']} pictures")
        with atomic_path(sidecar_path(path)) as sidecar, atomic_path(path) as temporary:
            sidecar.write_text(spec.to_json(), encoding="utf-8")
            shutil.copyfile(written, temporary)
    return Exported(path, spec, notes)


def _with_plain_output(frozen: Frozen) -> Any:
    """The graph with a Reshape to its own shape behind the result, under the result's name. Labels, [B, h, w], have no
    channels that could be blocked, and stay as they are."""
    import tensorflow as tf

    shape = [-1 if side is None else side for side in frozen.concrete.outputs[0].shape.as_list()]
    graph_def = tf.compat.v1.GraphDef()
    graph_def.CopyFrom(frozen.graph_def)
    if len(shape) != 4:
        return graph_def
    names = {node.name for node in graph_def.node}
    inner, sides = (_unused(f"{frozen.output_name}_{word}", names) for word in ("values", "shape"))
    for node in graph_def.node:
        if node.name == frozen.output_name:
            node.name = inner
    # The batch is left to the graph even where it is fixed: the quantizer runs all its pictures as one batch.
    constant = graph_def.node.add(name=sides, op="Const")
    constant.attr["dtype"].type = tf.int32.as_datatype_enum
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto([-1, *shape[1:]], dtype=tf.int32))
    reshape = graph_def.node.add(name=frozen.output_name, op="Reshape", input=[inner, sides])
    reshape.attr["T"].type = tf.float32.as_datatype_enum
    reshape.attr["Tshape"].type = tf.int32.as_datatype_enum
    return graph_def


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _run_tool(tool: str, arguments: list[str], folder: Path, result: str, target: Path) -> None:
    """Call a function of MNN's C extension in a new process, in ``folder``, which ``result`` must be in afterwards (the
    exit status tells nothing).

    Raises:
        RuntimeMissingError: MNN is not installed.
        DataError: it did not write the result; the line has the last thing it said.
    """
    words = [tool, *arguments]
    done = processes.run_module(_CALLER, words, cwd=folder, capture_output=True, stdin=processes.DEVNULL)
    if done.returncode == 0 and (folder / result).is_file():
        return
    said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    if "No module named '_tools'" in said:
        raise RuntimeMissingError("MNN files cannot be written: MNN is not installed. pip install 'deeplabv3p[mnn]'")
    raise DataError(f"{target} cannot be written as MNN: {_reason(said, done.returncode)}")


def _reason(said: str, status: int) -> str:
    if status < 0:
        return f"the converter stopped with signal {-status}."
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    complaints = [line for line in lines if "error" in line.lower() or "not support" in line.lower()]
    return (complaints or lines or [f"the converter ended with status {status} and said nothing."])[-1]
