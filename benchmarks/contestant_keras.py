"""One of our networks, in a process of its own, for ``models.py``: opened, run and trained as it is told on stdin.

Each line on stdin and stdout is one JSON object; ``models.py`` says what they mean.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from contestant import serve, times

NUM_CLASSES = 21


class Contestant:
    """A network at one size. It trains on ``batch_size`` pictures a step, or fewer (at least two) where a step would be
    of more than ``max_step_gflops``. With a ``folder``, it is written there for its twin."""

    def __init__(
        self,
        model: str,
        size_hw: list[int],
        threads: int,
        batch_size: int,
        max_step_gflops: float,
        folder: str | None,
    ) -> None:
        from deeplabv3p.runtime import keras_engine

        self.keras = keras_engine.import_keras()
        import numpy as np
        import tensorflow as tf

        from deeplabv3p.models import batchnorm, factory
        from deeplabv3p.models.statistics import count

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.stock = factory.build_model(model, num_classes=NUM_CLASSES, size_hw=(size_hw[0], size_hw[1]))
        statistics = count(self.stock)
        gflops = statistics.flops / 1e9
        # Backward is twice forward. Two at least: image pooling leaves one value a picture, and PyTorch refuses a batch
        # norm of one value.
        batch_size = min(batch_size, max(2, int(max_step_gflops / (3 * gflops))))
        self.facts = {"parameters": statistics.parameters, "gflops": gflops, "batch_size": batch_size}
        random = np.random.default_rng(0)
        self.pictures = tf.constant(random.standard_normal((batch_size, *size_hw, 3), np.float32))
        self.labels = tf.constant(random.integers(0, NUM_CLASSES, (batch_size, *size_hw), np.uint8))
        if folder is not None:
            self._describe(Path(folder), batchnorm.reestimate)
        self.forms: dict[str, Any] = {}

    def _describe(self, folder: Path, reestimate: Callable[..., None]) -> None:
        """Write the network for its twin, with the logits that the twin must have."""
        import numpy as np
        from network_graph import write

        random = np.random.default_rng(1)
        pictures = random.standard_normal((2, *self.pictures.shape[1:]), np.float32)
        reestimate(self.stock, [pictures])  # or every picture gets the same logits from random weights
        write(self.stock, folder)
        np.savez(folder / "pictures.npz", pictures=pictures, logits=self.stock(pictures, training=False).numpy())

    def forward(self, count: int) -> dict[str, list[float]]:
        """``count`` passes of one picture, compiled as the Keras runtime compiles it."""
        import tensorflow as tf

        if "forward" not in self.forms:
            self.forms["forward"] = tf.function(lambda x: self.stock(x, training=False))
        run, picture = self.forms["forward"], self.pictures[:1]
        return times(lambda: run(picture).numpy(), count)

    def train(self, count: int) -> dict[str, list[float]]:
        """``count`` training steps: loss, gradients, AdamW."""
        return self._train("fused", count)

    def train_plain(self, count: int) -> dict[str, list[float]]:
        """The same as Keras computes it, without fused layers."""
        return self._train("plain", count)

    def _train(self, form: str, count: int) -> dict[str, list[float]]:
        from deeplabv3p.losses.make import LossSum
        from deeplabv3p.models import batchnorm

        if form not in self.forms:
            model = batchnorm.for_training(self.stock, fused=form == "fused")
            model.compile(self.keras.optimizers.AdamW(1e-4), loss=LossSum(), jit_compile=False)
            self.forms[form] = model
        model = self.forms[form]
        return times(lambda: model.train_on_batch(self.pictures, self.labels), count)


if __name__ == "__main__":
    serve(Contestant)
