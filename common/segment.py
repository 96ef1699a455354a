"""Segment pictures, typed file names, videos and cameras, into files or onto the screen: the work of deeplab.py."""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from common import inference_flags, video, window
from common.cli import report, warn
from common.console import ConsoleProgress
from common.network import open_runtime
from common.pictures import find_pictures, left_aside
from common.pretrained import terms_lines
from common.results import ResultFolder, Results, ResultWindow, shares_text
from common.runs import check_output_folder
from deeplabv3p import visualize
from deeplabv3p.data.decode import Oddities, read_image
from deeplabv3p.errors import DataError, UsageError
from deeplabv3p.inference import InferenceOptions, predict, protocol
from deeplabv3p.progress import Progress, silent
from deeplabv3p.runtime import Runtime

PROMPT = "Input image filename: "
DEFAULT_FOLDER = Path("result")


def segment_pictures(options: argparse.Namespace) -> None:
    """Segment the pictures that --image names, or with none those typed at a prompt.

    Raises:
        DataError: some pictures could not be read; the others are done.
        DeeplabError: anything else that is wrong, before the first picture.
    """
    folder = None if options.output is None and window.ready() else options.output or DEFAULT_FOLDER
    if folder is not None:
        check_output_folder(folder)
    paths = find_pictures(options.image, folder)
    with contextlib.closing(open_runtime(options)) as runtime:
        inference = inference_flags.options_from(options, runtime.spec)
        print("\n".join([*terms_lines(runtime.spec), protocol(runtime, inference)]), flush=True)
        classes = runtime.spec.classes
        oddities = Oddities(runtime.spec.input.picture_max, sure=options.picture_max is not None)
        if aside := left_aside(options.image):
            warn(f"skipped {aside}")
        results: Results = ResultWindow(classes) if folder is None else ResultFolder(folder, classes)
        bar = ConsoleProgress("segment", "pictures") if len(paths) > 1 else contextlib.nullcontext(silent)
        with bar as progress:
            pictures = paths or _typed_pictures()
            unreadable = _segment_all(runtime, inference, pictures, results, progress, len(paths), oddities)
    for line in oddities.lines():
        warn(line)
    if paths and unreadable:
        raise DataError(f"{unreadable} of {len(paths)} pictures could not be read.")


def _segment_all(
    runtime: Runtime,
    inference: InferenceOptions,
    paths: Iterable[Path],
    results: Results,
    progress: Progress,
    total: int,
    oddities: Oddities,
) -> int:
    """Segment one picture after the other. One that cannot be read is reported and the rest goes on; returns how many
    those were."""
    white = runtime.spec.input.picture_max
    unreadable = 0
    for done, path in enumerate(paths, 1):
        try:
            image = read_image(path, white, oddities)
        except DataError as error:
            if total == 1:
                raise
            report(error)
            unreadable += 1
            progress(done, total)
            continue
        start = time.perf_counter()
        label = predict(runtime, image, inference)
        milliseconds = 1000 * (time.perf_counter() - start)
        where = results.put(path, image, label)
        print(f"{path} {where} ({shares_text(label, runtime.spec.classes)}; {milliseconds:.0f} ms)", flush=True)
        progress(done, total)
        if not results.wait():
            break
    return unreadable


def _typed_pictures() -> Iterator[Path]:
    """Pictures typed at the prompt, until the end of the input, ``quit`` or ``q``."""
    while True:
        try:
            text = input(PROMPT).strip().strip("'\"")
        except EOFError:
            print()
            return
        if text in {"quit", "q"}:
            return
        try:
            yield from find_pictures([text] if text else [])
        except DataError as error:
            report(error)


def segment_video(options: argparse.Namespace) -> None:
    """Segment the video or camera --input into a video of overlays, or onto the screen.

    Ctrl-C ends the recording of a camera; of a video file it leaves nothing.

    Raises:
        DataError: the source cannot be opened or holds no frame, or the video cannot be written.
        DeeplabError: anything else that is wrong, before the first frame.
    """
    target = None if options.output is None and window.ready() else _video_target(options)
    with (
        video.VideoReader(options.input) as reader,
        contextlib.closing(open_runtime(options)) as runtime,
        contextlib.ExitStack() as opened,
    ):
        pace = video.find_pace(reader.frame_times() if target else (), reader.fps)
        writer = opened.enter_context(video.open_writer(target, pace.rate)) if target else None
        inference = inference_flags.options_from(options, runtime.spec)
        print(protocol(runtime, inference), flush=True)
        if reader.is_camera:
            print("Ctrl-C ends it", flush=True)
        with ConsoleProgress("segment", "frames") as progress:
            frames, fps = _segment_frames(runtime, inference, reader, writer, pace, progress)
        if frames == 0:
            raise DataError(f"{options.input} holds no frame that can be read.")
    written = f" -> {target}" if target else ""
    print(f"{options.input}{written}: {frames} frames at {reader.fps:g} frames/s, segmented at {fps:.1f} fps")
    if pace.note:
        print(f"note: {pace.note}")
    if frames < reader.frame_count and target:
        print(f"note: the stream ended after {frames} of the {reader.frame_count} frames that its header promises")


def _segment_frames(
    runtime: Runtime,
    inference: InferenceOptions,
    reader: video.VideoReader,
    writer: video.VideoWriter | None,
    pace: video.Pace,
    progress: Progress,
) -> tuple[int, float]:
    """Returns the number of frames and how many were done a second, without the first, which pays for the start."""
    done, first_done, last_done = 0, 0.0, 0.0
    start = 0.0
    try:
        for frame in reader:
            shown = time.perf_counter()
            start = start or shown
            picture = visualize.overlay(frame, predict(runtime, frame, inference), runtime.spec.classes)
            if writer is None:
                window.show(picture)
            elif reader.is_camera:  # a network slower than the camera must not make the video fast
                writer.write_at(picture, shown - start)
            elif done < len(pace.times):
                writer.write_at(picture, pace.times[done])
            else:
                writer.write(picture)
            done += 1
            last_done = time.perf_counter()
            first_done = first_done or last_done
            progress(done, max(reader.frame_count, done) if reader.frame_count else 0)
            if writer is None and not window.keep_going():
                break
    except KeyboardInterrupt:
        if not reader.is_camera:
            raise
    return done, (done - 1) / (last_done - first_done) if done > 1 else 0.0


def _video_target(options: argparse.Namespace) -> Path:
    """The video file to write: --output itself, or a name in that folder."""
    output: Path = options.output or DEFAULT_FOLDER
    if output.suffix and not output.is_dir():
        target = video.check_video_name(output)
    else:
        name = f"camera{options.input}" if options.input.isdigit() else Path(options.input).stem
        target = output / f"{name}_overlay.mp4"
    check_output_folder(target.parent)
    if target.resolve() == Path(options.input).resolve():
        raise UsageError(f"--output {target} is the video that is read. Choose another name.")
    return target
