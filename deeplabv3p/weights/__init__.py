"""Weights from anywhere into a model, by layer name, checked: every tensor must find its place with its shape.

:func:`load_weights` fills a network, :func:`load_backbone` its backbone alone. Both read Keras files, frozen graphs and
checkpoints of TensorFlow, and torch's state dicts. Nothing in a file is run.
"""

from deeplabv3p.weights.load import Loaded, load_backbone, load_weights, read_source
from deeplabv3p.weights.source import Source

__all__ = ["Loaded", "Source", "load_backbone", "load_weights", "read_source"]
