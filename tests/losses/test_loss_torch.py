"""The losses against torch's: its own cross entropy and resize, and the other formulas written with its operations.

TORCH_PYTHON: an interpreter with torch. It is given arrays and sends back values and gradients of autograd.
"""

from __future__ import annotations

import os
import subprocess

import numpy as np
import pytest

from deeplabv3p.losses.make import make_loss
from deeplabv3p.losses.options import LossOptions
from deeplabv3p.pixels import IGNORE

CLASSES = 6
CASES = {
    "crossentropy": LossOptions(),
    "smoothed": LossOptions(label_smoothing=0.1),
    "weighted": LossOptions(weighted_type="balanced"),
    "focal": LossOptions("focal", focal_alpha=0.25, focal_gamma=2.0),
    "ohem": LossOptions("ohem", ohem_fraction=0.125),
    "dice": LossOptions("dice"),
    "lovasz": LossOptions("lovasz"),
}

PROGRAM = """
import sys
import numpy as np, torch
import torch.nn.functional as F
arrays = np.load(sys.argv[1])
labels, weights = (torch.from_numpy(arrays[n]) for n in ("labels", "weights"))
valid = labels != 255

def spread(x):  # [pixels, K], [pixels] of the valid pixels
    return x.permute(0, 2, 3, 1)[valid], labels[valid]

def crossentropy(x, **options):
    return F.cross_entropy(x, labels, ignore_index=255, **options)

def focal(x):
    loss = crossentropy(x, reduction="none")
    return (0.25 * (1 - torch.exp(-loss)) ** 2 * loss).sum() / valid.sum()

def ohem(x):
    loss = crossentropy(x, reduction="none")[valid]
    return loss.topk(-(-len(loss) // 8)).values.mean()

def one_hot(y, x):
    return F.one_hot(y, x.shape[1]).to(x.dtype)

def dice(x):
    x, y = spread(x)
    p, truth = x.softmax(1), one_hot(y, x)
    scores = 2 * (p * truth).sum(0) / (p + truth).sum(0)
    return 1 - scores[truth.sum(0) > 0].mean()

def lovasz(x):
    x, y = spread(x)
    p, truth = x.softmax(1), one_hot(y, x)
    losses = []
    for c in y.unique():
        errors, order = (truth[:, c] - p[:, c]).abs().sort(descending=True)
        right = truth[order, c]
        jaccard = 1 - (right.sum() - right.cumsum(0)) / (right.sum() + (1 - right).cumsum(0))
        growth = torch.diff(jaccard, prepend=torch.zeros(1, dtype=x.dtype))
        losses.append(errors @ growth)
    return torch.stack(losses).mean()

losses = {
    "crossentropy": crossentropy,
    "smoothed": lambda x: crossentropy(x, label_smoothing=0.1),
    "weighted": lambda x: crossentropy(x, weight=weights),
    "focal": focal, "ohem": ohem, "dice": dice, "lovasz": lovasz,
}
results = {}
for name, loss in losses.items():
    logits = torch.from_numpy(arrays["logits"]).requires_grad_()
    large = F.interpolate(logits.permute(0, 3, 1, 2), labels.shape[1:], mode="bilinear", align_corners=ALIGN)
    value = loss(large)
    value.backward()
    results[name], results[name + "_gradient"] = value.detach().numpy(), logits.grad.numpy()
np.savez(sys.argv[2], **results)
"""


@pytest.mark.parametrize("align_corners", [False, True])
def test_values_and_gradients_are_those_of_torch(align_corners, tmp_path):
    import tensorflow as tf

    interpreter = os.environ.get("TORCH_PYTHON")
    if not interpreter:
        pytest.skip("TORCH_PYTHON is not set")
    rng = np.random.default_rng(11)
    labels = rng.integers(0, CLASSES - 1, (3, 21, 34))  # the last class is absent
    labels[rng.random(labels.shape) < 0.2] = IGNORE
    weights = rng.uniform(0.1, 4, CLASSES)
    logits = rng.normal(0, 3, (3, 6, 9, CLASSES))
    np.savez(tmp_path / "in.npz", labels=labels, weights=weights, logits=logits)  # torch computes in float64
    program = PROGRAM.replace("ALIGN", str(align_corners))
    command = [interpreter, "-c", program, str(tmp_path / "in.npz"), str(tmp_path / "out.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    theirs = np.load(tmp_path / "out.npz")
    for name, options in CASES.items():
        balanced = weights if options.weighted_type == "balanced" else None
        loss = make_loss(options, num_classes=CLASSES, align_corners=align_corners, class_weights=balanced)
        start = tf.constant(logits, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(start)
            value = loss(labels.astype(np.uint8), start)
        gradient = tape.gradient(value, start).numpy()
        assert float(value) == pytest.approx(float(theirs[name]), rel=1e-5), name  # ours is float32
        expected = theirs[f"{name}_gradient"]
        np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)
