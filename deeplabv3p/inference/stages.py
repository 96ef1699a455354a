"""From a picture and an opened model to labels, in three stages: prepare, run, finish.

``prepare`` and ``finish`` do not touch the engine and may run in threads beside it; ``run`` does nothing else. Where
the tensors and outputs of a picture are too many to be held, ``run`` makes them as it goes, labels and all.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deeplabv3p import pixels
from deeplabv3p.errors import DataError
from deeplabv3p.inference.options import PLAIN, InferenceOptions, window_of
from deeplabv3p.inference.scores import PictureScores
from deeplabv3p.inference.views import Picture, Span, Tensor, Tile, View, make_views, tensors
from deeplabv3p.pixels import Geometry
from deeplabv3p.runtime import Runtime
from deeplabv3p.sampling import Floats, argmax
from deeplabv3p.spec import ModelSpec

Labels = npt.NDArray[np.uint8]

HELD_BYTES = 256 * 2**20
"""Tensors and outputs of one picture up to this size are held between the stages."""
# Scores of all classes for a rectangle of pixels that is worked on at once: some such buffers fit into a large cache.
# Measured at 1024x1024x21 with overlapping windows and flip: 353 ms; 451 with twice as much, 636 with sixteen times.
_BLOCK_BYTES = 2 * 2**20
_BLOCK_COLUMNS = 512


@dataclass(frozen=True)
class Prepared:
    """A picture ready for the engine. ``tensors`` are the inputs of each view's tiles, without a batch axis; null where
    they are too many to be held, and :func:`run` makes them as it goes."""

    image: Picture
    options: InferenceOptions
    views: tuple[View, ...]
    tensors: tuple[tuple[Tensor, ...], ...] | None


@dataclass(frozen=True)
class Raw:
    """What the network put out for a picture: the outputs of each view's tiles, without a batch axis, as the engine
    gave them. Or the labels, where the outputs would have been too many to be held."""

    image: Picture
    views: tuple[View, ...]
    outputs: tuple[tuple[Tensor, ...], ...]
    labels: Labels | None = None


def prepare(spec: ModelSpec, image: Picture, options: InferenceOptions = PLAIN) -> Prepared:
    """Turn a picture, uint8 [H, W, 3] RGB, into the tensors of all the runs that the options ask for.

    Raises:
        DataError: the picture is not uint8 [H, W, 3] or is empty.
        UsageError: the model cannot be used with these options.
    """
    pixels.check_picture(image)
    if _is_single(spec, options):
        tensor, geometry = pixels.prepare(image, spec.input)
        return Prepared(image, options, (_whole(spec, geometry),), ((tensor,),))
    views = make_views(spec, (image.shape[0], image.shape[1]), options)
    if sum(view.tensor_pixels for view in views) * _bytes_a_pixel(spec) > HELD_BYTES:
        return Prepared(image, options, views, None)
    return Prepared(image, options, views, tuple(tuple(tensors(image, view)) for view in views))


def run(runtime: Runtime, prepared: Prepared) -> Raw:
    """Run the network on everything that was prepared, ``window_batch`` tensors at a time."""
    batch = prepared.options.window_batch
    if prepared.tensors is None:
        scores = _streamed(runtime, prepared)
        return Raw(prepared.image, prepared.views, (), _labels(runtime.spec, prepared.image, scores, prepared.options))
    outputs = tuple(tuple(_run(runtime, inputs, batch)) for inputs in prepared.tensors)
    return Raw(prepared.image, prepared.views, outputs)


def finish(spec: ModelSpec, raw: Raw, options: InferenceOptions = PLAIN) -> Labels:
    """Labels, uint8 [H, W] at the picture's own size, each below the number of classes; ``options`` are those that the
    picture was prepared with.

    Raises:
        DataError: the model puts out NaN or labels that are not classes.
    """
    if raw.labels is not None:
        return raw.labels
    if len(raw.views) == 1 and len(raw.outputs[0]) == 1 and options.crf is None:
        labels = pixels.labels_from_output(raw.outputs[0][0], _geometry(raw), spec.output)
        return _checked(labels, spec)
    return _labels(spec, raw.image, _scores(spec, raw, options), options)


def predict(runtime: Runtime, image: Picture, options: InferenceOptions = PLAIN) -> Labels:
    """Segment one picture, uint8 [H, W, 3] RGB.

    Where the network sees windows, or the whole picture at a fixed size, memory is bounded whatever the size of the
    picture: the picture and its resized copies, the labels, and a part that docs/inference.md counts.

    Returns:
        Labels, uint8 [H, W] at the picture's own size, each below the number of classes.

    Raises:
        DataError: the picture cannot be used, or the model puts out NaN or labels that are not classes.
        UsageError: the model cannot be used with these options.
    """
    return finish(runtime.spec, run(runtime, prepare(runtime.spec, image, options)), options)


def predict_scores(runtime: Runtime, image: Picture, options: InferenceOptions = PLAIN) -> Floats:
    """Probabilities, float32 [H, W, K] at the picture's own size: 4·H·W·K bytes, a view of contiguous [K, H, W].

    They are averaged over windows, flip and scales and refined by the CRF, as :func:`predict` has them.

    Raises:
        DataError, UsageError: as :func:`predict`; labels have no probabilities.
    """
    spec = runtime.spec
    if spec.output.kind == "labels":
        raise DataError("the model puts out labels, which have no probabilities.")
    prepared = prepare(spec, image, options)
    if prepared.tensors is None:
        scores = _streamed(runtime, prepared)
    else:
        scores = _scores(spec, run(runtime, prepared), options)
    result = np.empty((spec.num_classes, *image.shape[:2]), np.float32)
    for rows, columns, part in _pieces(spec, image, scores, options, probabilities=True):
        if len(part) != len(result):
            raise DataError(f"the model puts out {len(part)} classes, but its spec lists {len(result)}.")
        result[:, slice(*rows), slice(*columns)] = part
    return np.moveaxis(result, 0, 2)


def predict_logits(runtime: Runtime, image: Picture) -> tuple[Tensor, Geometry]:
    """The model's output for one picture, without the batch axis, and where the picture lies on the input tensor."""
    raw = run(runtime, prepare(runtime.spec, image))
    return raw.outputs[0][0], _geometry(raw)


def _is_single(spec: ModelSpec, options: InferenceOptions) -> bool:
    """Whether the network runs once, on the whole picture as the spec has it."""
    window = window_of(spec, options)
    return window is None and not options.flip and options.scales == (1.0,)


def _whole(spec: ModelSpec, geometry: Geometry) -> View:
    height, width = geometry.picture_hw
    return View(False, geometry.picture_hw, spec.input, (Tile((0, height), (0, width), geometry),))


def _geometry(raw: Raw) -> Geometry:
    return raw.views[0].tiles[0].geometry


def _bytes_a_pixel(spec: ModelSpec) -> float:
    """Bytes of tensor and output for each pixel of a tensor, at most."""
    return 4 * (3 + spec.num_classes / spec.output.stride**2)


def _run(runtime: Runtime, inputs: Iterable[Tensor], batch: int) -> Iterator[Tensor]:
    """The output of each tensor, ``batch`` of them a run; the last run repeats its last tensor."""
    coming = iter(inputs)
    while chunk := list(itertools.islice(coming, batch)):
        count = len(chunk)
        chunk += [chunk[-1]] * (batch - count)
        yield from runtime.run(np.stack(chunk) if batch > 1 else chunk[0][None])[:count]


def _scores(spec: ModelSpec, raw: Raw, options: InferenceOptions) -> PictureScores:
    return PictureScores(spec, raw.views, [iter(outputs) for outputs in raw.outputs], options.temperature)


def _streamed(runtime: Runtime, prepared: Prepared) -> PictureScores:
    """Scores of a large picture: the network runs when the scores are asked for."""
    batch = prepared.options.window_batch
    feeds = [_run(runtime, tensors(prepared.image, view), batch) for view in prepared.views]
    return PictureScores(runtime.spec, prepared.views, feeds, prepared.options.temperature)


def _labels(spec: ModelSpec, image: Picture, scores: PictureScores, options: InferenceOptions) -> Labels:
    labels = np.empty(image.shape[:2], np.uint8)
    for rows, columns, part in _pieces(spec, image, scores, options, probabilities=False):
        labels[slice(*rows), slice(*columns)] = argmax(part)
    return _checked(labels, spec)


def _pieces(
    spec: ModelSpec, image: Picture, scores: PictureScores, options: InferenceOptions, *, probabilities: bool
) -> Iterator[tuple[Span, Span, Floats]]:
    """The picture in rectangles (rows, columns), with their final scores [K, rows, columns]."""
    if options.crf is not None:
        from deeplabv3p.inference import crf

        yield from crf.refine_pieces(image, scores.probabilities, options.crf)
        return
    height, width = image.shape[:2]
    step = max(1, _BLOCK_BYTES // (4 * spec.num_classes * min(width, _BLOCK_COLUMNS)))
    ask = scores.probabilities if probabilities else scores.ranking
    for top, left in itertools.product(range(0, height, step), range(0, width, _BLOCK_COLUMNS)):
        rows, columns = (top, min(top + step, height)), (left, min(left + _BLOCK_COLUMNS, width))
        yield rows, columns, ask(rows, columns)


def _checked(labels: Labels, spec: ModelSpec) -> Labels:
    if labels.max() >= spec.num_classes:
        raise DataError(f"the model puts out label {labels.max()}, but its spec lists {spec.num_classes} classes.")
    return labels
