"""From a picture and an opened model to labels: the whole picture or a sliding window, flip, scales, CRF."""

from deeplabv3p.inference.options import PLAIN, CrfOptions, InferenceOptions, window_of
from deeplabv3p.inference.protocol import protocol
from deeplabv3p.inference.stages import (
    Prepared,
    Raw,
    finish,
    predict,
    predict_logits,
    predict_scores,
    prepare,
    run,
)

__all__ = [
    "PLAIN",
    "CrfOptions",
    "InferenceOptions",
    "Prepared",
    "Raw",
    "finish",
    "predict",
    "predict_logits",
    "predict_scores",
    "prepare",
    "protocol",
    "run",
    "window_of",
]
