"""What a training step is made of: the network that learns, its optimizer, loss and metric."""

from __future__ import annotations

import keras

from deeplabv3p.models import batchnorm
from deeplabv3p.models.factory import rebuild
from deeplabv3p.models.recompute import Recomputing
from deeplabv3p.spec import ModelSpec
from deeplabv3p.training.config import TrainConfig
from deeplabv3p.training.meter import StreamingMeanIoU
from deeplabv3p.training.optimizers import inner, make_optimizer, make_schedule


def training_model(stock: keras.Model, spec: ModelSpec, config: TrainConfig) -> keras.Model:
    """The stock network's twin that learns: at the size of the crops, with layers that are made for training, which
    compute in the precision of ``config`` (the classifier: in float32) and keep their weights in float32."""
    model = stock
    if config.train_hw != spec.input.size_hw:
        model, _ = rebuild(model, spec, size_hw=config.train_hw, dropout=config.dropout, bn_momentum=config.bn_momentum)
    learning = batchnorm.for_training(
        model, fused=config.bn_fused, synchronized=config.bn_sync, precision=config.mixed_precision
    )
    if not config.gradient_checkpointing:
        return learning
    return Recomputing(learning.inputs, learning.outputs[0], learning.name)


def compile_model(
    model: keras.Model, spec: ModelSpec, config: TrainConfig, *, loss: keras.losses.Loss, steps: int, epoch_steps: int
) -> None:
    """Give the model a new optimizer for a stage, built for the weights that are trainable now.

    Args:
        model: of :func:`training_model`; its frozen layers are set.
        spec: of the stock network.
        config: how to train.
        loss: labels [B, H, W] and logits [B, h, w, K] → float32 scalar.
        steps: length of the stage in batches; the learning rate is scheduled over it.
        epoch_steps: batches of an epoch, for the length of the warm-up.
    """
    schedule = make_schedule(config, steps, round(config.warmup_epoch * epoch_steps))
    model.compile(
        make_optimizer(config, schedule, model.trainable_variables),
        loss=loss,
        metrics=[StreamingMeanIoU(spec.num_classes, spec.ignored_class)],
        # XLA on CPUs is many times slower for dilated and depthwise convolutions.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )


def scale_learning_rate(model: keras.Model, factor: float) -> None:
    """Multiply the learning rate of all further steps, whatever the schedule says, by ``factor``. The product of all
    factors is one of the optimizer's ``variables``. To be called between epochs, or where JAX's state is in sync."""
    current = inner(model.optimizer).rate_factor
    current.assign(current * factor)
