"""The compiled training step alone, on one batch that stays on the device, for ``camvid.py``: no input, no logging.

What the whole training reaches of this is what input, logging and saving leave.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

from deeplabv3p.evaluation.isolation import Send
from deeplabv3p.training.config import TrainConfig

WARM_UP = 3


def measure(send: Send, config: TrainConfig, num_classes: int, steps: int) -> dict[str, Any]:
    """Time ``steps`` steps on random pictures of the model's input size, with the JAX backend.

    Returns:
        ``step_s`` (median, min, max of single steps), ``gflops`` (forward pass of one picture, 2 a multiply-add),
        ``parameters``, ``device``, ``peak_mib`` of the device's memory (None where it does not tell),
        ``tensorflow_loaded``, and the ``machine``.
    """
    import jax
    import numpy as np

    from common.facts import machine_facts
    from deeplabv3p.losses.make import make_loss
    from deeplabv3p.models import factory
    from deeplabv3p.models.statistics import count
    from deeplabv3p.runtime import keras_engine
    from deeplabv3p.spec import ClassInfo
    from deeplabv3p.training.step import compile_model, training_model

    keras_engine.import_keras()
    stock = factory.build_model(
        config.model_name, num_classes=num_classes, size_hw=config.size_hw, output_stride=config.output_stride
    )
    classes = tuple(ClassInfo(f"class{i}", (i, i, i)) for i in range(num_classes))
    spec = factory.model_spec(
        config.model_name, size_hw=config.size_hw, output_stride=config.output_stride, classes=classes, ignore_index=255
    )
    model = training_model(stock, spec, config)
    loss = make_loss(config.loss, num_classes=num_classes, align_corners=spec.output.align_corners)
    compile_model(model, spec, config, loss=loss, steps=steps, epoch_steps=steps)
    height, width = config.size_hw
    # Keras makes the variables of metrics at their first use.
    model.compute_metrics(
        None, np.zeros((1, height, width), np.uint8), np.zeros((1, *model.output_shape[1:]), "float32")
    )

    random = np.random.default_rng(0)
    pictures = random.standard_normal((config.batch_size, height, width, 3), np.float32)
    labels = random.integers(0, num_classes, (config.batch_size, height, width), np.uint8)
    batch = jax.device_put((pictures, labels))
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([variable.value for variable in group] for group in groups)
    step = jax.jit(model.train_step, donate_argnums=0)
    seconds = []
    for number in range(WARM_UP + steps):
        began = time.perf_counter()
        logs, state = step(state, batch)
        jax.block_until_ready((logs, state))
        seconds.append(time.perf_counter() - began)
        if number == 0:
            send(f"compiled in {seconds[0]:.0f} s")
    timed = seconds[WARM_UP:]
    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    cost = count(stock)
    return {
        "step_s": {"median": statistics.median(timed), "min": min(timed), "max": max(timed), "steps": len(timed)},
        "gflops": cost.flops / 1e9,
        "parameters": cost.parameters,
        "device": device.device_kind,
        "peak_mib": round(memory["peak_bytes_in_use"] / 2**20) if "peak_bytes_in_use" in memory else None,
        "tensorflow_loaded": "tensorflow" in sys.modules,
        "machine": machine_facts(),
    }
