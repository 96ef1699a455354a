"""Where the time of a training step goes, by kind of operation, for every network.

Operations run one after another here (each on all threads), so that their times add up. Kernels that XLA compiles for
our fused layers appear as "fused by XLA". A second list says which layers Keras computes in several operations, and
what is done about it.

    python benchmarks/profile_models.py --output benchmarks/profiles.json
"""

from __future__ import annotations

import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import cli
from common.facts import machine_facts
from deeplabv3p import files
from deeplabv3p.errors import UsageError
from deeplabv3p.models.registry import MODELS

XLA = "fused by XLA"

# What Keras computes in several operations on TensorFlow, or by a slow kernel, and what we train with instead.
COMPOSED = {
    "BatchNormalization": "FusedBatchNormV3",
    "LayerNormalization": XLA,
    "Activation gelu": XLA,
    "Activation silu": XLA,
    "Activation hard_silu": XLA,
    "DepthwiseConv2D above 3x3": "TensorFlow's own kernel for the gradient of the weights, oneDNN for the rest",
    "DepthwiseConv2D, dilated": "as in Keras, space to batch: the kernel with dilation has wrong gradients",
    "GlobalAveragePooling2D": "as in Keras, a mean: there is no kernel",
}
# Operations by what they are for. The first match counts; what matches nothing is "other".
GROUPS = {
    "convolution, forward": "Conv2D FusedConv2D PadWithConv2D PadWithFusedConv2D",
    "convolution, gradients": "Conv2DBackpropInput Conv2DBackpropFilter Conv2DBackpropFilterWithBias",
    "depthwise convolution, forward": "DepthwiseConv2dNative FusedDepthwiseConv2dNative",
    "depthwise convolution, gradients": "DepthwiseConv2dNativeBackpropInput DepthwiseConv2dNativeBackpropFilter",
    "dense": "MatMul FusedMatMul BatchMatMulV2 BiasAdd BiasAddGrad",
    "batch norm": "FusedBatchNormV3 FusedBatchNormGradV3 FusedBatchNormEx",
    "activations": "Relu ReluGrad Relu6 Relu6Grad Sigmoid SigmoidGrad Tanh Erf Erfc",
    "loss: softmax cross-entropy": "SparseSoftmaxCrossEntropyWithLogits",
    "resizing": "ResizeBilinear ResizeBilinearGrad ResizeNearestNeighbor ResizeNearestNeighborGrad",
    "pooling": "MaxPool MaxPoolGrad AvgPool AvgPoolGrad",
    "dilation by space to batch": "SpaceToBatchND BatchToSpaceND",
    "padding, slicing, joining": "Pad Slice ConcatV2 StridedSlice StridedSliceGrad Split Transpose Pack",
    "sums and means": "Sum Mean Max Prod",
    "optimizer and other arithmetic": "Mul AddV2 Sub RealDiv Square Sqrt Rsqrt Neg AddN SquaredDifference Tile Select "
    "SelectV2 AssignSubVariableOp AssignAddVariableOp AssignVariableOp ReadVariableOp UnaryOpsComposition",
}


def main() -> None:
    options = _parse()
    names = list(MODELS) if options.models == ["all"] else options.models
    for name in names:
        if name not in MODELS:
            raise UsageError(f"unknown model type '{name}'. Known: {', '.join(MODELS)}.")
    if options.child:
        print(json.dumps(_profile(names[0], options)))
        return
    rows = []
    for name in names:  # each in a process of its own: the next one starts with empty memory
        began = time.perf_counter()
        command = [sys.executable, __file__, *sys.argv[1:], "--models", name, "--child"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            rows.append({"model": name, "error": done.stderr.strip().splitlines()[-1]})
        else:
            rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(f"{name}: {time.perf_counter() - began:.0f} s; {_line(rows[-1])}", flush=True)
    what = f"one training step, {cli.size_text(options.model_input_shape)}, batch {options.batch_size}, float32"
    facts = {"what": what, "threads": options.threads, "machine": machine_facts(), "composed": COMPOSED}
    result = facts | {"rows": rows}
    if options.output:
        files.write_text(options.output, json.dumps(result, indent=1) + "\n")


def _profile(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """A warm training step, traced."""
    import numpy as np
    import tensorflow as tf

    from deeplabv3p.losses.make import LossSum
    from deeplabv3p.models import batchnorm, factory
    from deeplabv3p.runtime import keras_engine

    keras = keras_engine.import_keras()
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    size_hw = options.model_input_shape
    stock = factory.build_model(name, num_classes=21, size_hw=size_hw)
    model = batchnorm.for_training(stock, fused=not options.plain)
    model.compile(keras.optimizers.AdamW(1e-4), loss=LossSum(), jit_compile=False)
    random = np.random.default_rng(0)
    pictures = tf.constant(random.standard_normal((options.batch_size, *size_hw, 3), np.float32))
    labels = tf.constant(random.integers(0, 21, (options.batch_size, *size_hw), np.uint8))
    for _ in range(2):
        model.train_on_batch(pictures, labels)
    seconds = _trace(lambda: model.train_on_batch(pictures, labels))
    total = sum(seconds.values())
    groups: collections.Counter[str] = collections.Counter()
    for kind, spent in seconds.items():
        groups[_group(kind)] += spent
    return {
        "model": name,
        "form": "plain" if options.plain else "fused",
        "ms": 1000 * total,
        "groups": {group: spent / total for group, spent in groups.most_common()},
        "operations": {kind: spent / total for kind, spent in seconds.most_common(15)},
        "composed_layers": _composed(stock),
    }


def _trace(step: Any) -> collections.Counter[str]:
    """Seconds of one call of ``step`` by kind of operation, from TensorFlow's own profiler."""
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    seconds: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder, tf.profiler.experimental.ProfilerOptions(python_tracer_level=0))
        step()
        tf.profiler.experimental.stop()
        (file,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(file.read_bytes())
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                kind = _kind(plane.event_metadata[event.metadata_id].name)
                if kind is not None:
                    seconds[kind] += event.duration_ps / 1e12
    return seconds


def _kind(event: str) -> str | None:
    """The public name of the operation whose event this is; oneDNN's forms of it count as the same. None for others."""
    if event.startswith("CpuExecutable::Execute"):
        return XLA
    operation = re.fullmatch(r"[^ :]+:_?(?:MklNative|Mkl)?(\w+)", event)  # "its/own/name:_MklNativeConv2D"
    return operation[1] if operation else None


def _group(kind: str) -> str:
    return XLA if kind == XLA else next((group for group, kinds in GROUPS.items() if kind in kinds.split()), "other")


def _composed(model: Any) -> dict[str, int]:
    """How many layers of each kind of COMPOSED there are."""
    found: collections.Counter[str] = collections.Counter()
    for layer in model.layers:
        config, kind = layer.get_config(), type(layer).__name__
        if kind == "Activation":
            kind = f"Activation {config['activation']}"
        found[kind] += kind in COMPOSED
        if kind == "DepthwiseConv2D":
            found["DepthwiseConv2D, dilated"] += max(config["dilation_rate"]) > 1
            found["DepthwiseConv2D above 3x3"] += max(config["kernel_size"]) > 3
    return {kind: count for kind, count in found.items() if count}


def _line(row: dict[str, Any]) -> str:
    if "error" in row:
        return str(row["error"])
    shares = [f"{group} {share:.0%}" for group, share in row["groups"].items() if share >= 0.03]
    return f"{row['ms']:.0f} ms: {', '.join(shares)}"


def _parse() -> argparse.Namespace:
    parser = cli.Parser(__doc__ or "")
    add = parser.add_argument
    add("--models", nargs="+", default=["all"], metavar="NAME", help="networks (default: all)")
    add("--model_input_shape", type=cli.size_hw, default=(512, 512), metavar="HxW", help="picture in pixels")
    add("--batch_size", type=cli.integer(1), default=2, metavar="N", help="pictures a step")
    add("--threads", type=cli.integer(1), default=2, metavar="N", help="processor threads")
    add("--plain", action="store_true", help="plain Keras, without fused layers")
    add("--output", metavar="FILE", help="JSON file for the result (default: none)")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    cli.run(main)
