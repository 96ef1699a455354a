"""A PyTorch network, in a process of its own, for ``models.py``: opened, run and trained as it is told on stdin.

Runs where torch and segmentation_models_pytorch are installed, and nothing of ours. Each line on stdin and stdout is
one JSON object; ``models.py`` says what they mean.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (as everyone calls it)
from contestant import serve, times
from torch_twin import Twin, largest_difference

NUM_CLASSES = 21
IGNORE = 255


class Contestant:
    """A network in channels-last layout. ``network`` is the name of an architecture in segmentation_models_pytorch and
    of its encoder, or the folder of a twin."""

    def __init__(
        self, network: list[str] | str, size_hw: list[int], threads: int, batch_size: int, compiled: bool
    ) -> None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
        versions = {"torch": torch.__version__}
        self.facts: dict[str, Any] = {"versions": versions}
        if isinstance(network, str):
            twin = Twin(Path(network))
            self.facts |= {"parameters": twin.parameter_count()}
            self.facts |= {"max_abs_difference": largest_difference(twin, Path(network))}
            model: torch.nn.Module = twin
        else:
            model = _published(*network)
            statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
            self.facts |= {"parameters": statistics + sum(p.numel() for p in model.parameters())}
            versions["segmentation_models_pytorch"] = sys.modules["segmentation_models_pytorch"].__version__
        self.facts["gflops"] = _flops(model, size_hw) / 1e9
        self.model = model.to(memory_format=torch.channels_last)
        self.run = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, fused=True)
        pictures = torch.randn(batch_size, 3, *size_hw)
        self.pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.labels = torch.randint(0, NUM_CLASSES, (batch_size, *size_hw))

    def forward(self, count: int) -> dict[str, list[float]]:
        """``count`` passes of one picture."""
        self.model.eval()
        picture = self.pictures[:1]
        with torch.inference_mode():
            return times(lambda: self.run(picture), count)

    def train(self, count: int) -> dict[str, list[float]]:
        """``count`` training steps: loss, gradients, AdamW."""
        self.model.train()
        return times(self._step, count)

    def _step(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.run(self.pictures)
        if logits.shape[2:] != self.labels.shape[1:]:  # our networks leave the upsampling to the loss
            logits = F.interpolate(logits, size=self.labels.shape[1:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(logits, self.labels, ignore_index=IGNORE)
        loss.backward()
        self.optimizer.step()
        loss.item()


def _published(architecture: str, encoder: str) -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    stride = {"encoder_output_stride": 16} if architecture.startswith("DeepLab") else {}
    kind = getattr(smp, architecture)
    model: torch.nn.Module = kind(encoder_name=encoder, encoder_weights=None, classes=NUM_CLASSES, **stride)
    return model


def _flops(model: torch.nn.Module, size_hw: list[int]) -> int:
    """Of one picture, forward: 2 a multiply-add, as ``deeplabv3p.models.statistics`` counts."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *size_hw))
    return int(counter.get_total_flops())


if __name__ == "__main__":
    serve(Contestant)
