"""Pictures in C++ against Python: the same pixels from every kind of file, and nothing read that Python refuses."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from deeplabv3p.data.classes import ClassList, default_colors
from deeplabv3p.data.decode import read_image, read_label
from deeplabv3p.errors import DataError
from deeplabv3p.spec import ClassInfo
from deeplabv3p.visualize import palette, tint

BUILD = Path(os.environ.get("DEEPLAB_DEVICE_BUILD", Path(__file__).parents[2] / "inference/cpp/build/host"))
PROBE = BUILD / "deeplab_image_probe"
pytestmark = pytest.mark.skipif(
    not PROBE.exists(), reason=f"{PROBE} is not built (DEEPLAB_DEVICE_BUILD names a build folder)"
)

CLASSES = tuple(ClassInfo(f"c{i}", color) for i, color in enumerate(default_colors(255)))
COLORS = [",".join(map(str, item.color)) for item in CLASSES]
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
HEIGHT, WIDTH = 13, 21
MUTATIONS = 40  # of each of the files in `_originals`

Verdict = npt.NDArray[np.generic] | str  # an array, or the message that refuses the file


def _run(*words: str | os.PathLike[str]) -> list[str]:
    done = subprocess.run([PROBE, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3), (done.returncode, done.stderr)  # anything else is a crash
    return done.stdout.splitlines()


def _read(mode: str, paths: list[Path]) -> list[Verdict]:
    """What C++ makes of files: [H, W, 3] pictures or [H, W] labels, or messages."""
    words = [word for path in paths for word in (path, path.with_suffix(".raw"))]
    lines = _run(mode, *words)
    assert len(lines) == len(paths)
    verdicts: list[Verdict] = []
    for line, path in zip(lines, paths, strict=True):
        kind, _, rest = line.partition(" ")
        if kind == "error":
            verdicts.append(rest)
            continue
        height, width = map(int, rest.split())
        shape, dtype = ((height, width, 3), np.uint8) if mode.startswith("picture") else ((height, width), np.uint16)
        verdicts.append(np.fromfile(path.with_suffix(".raw"), dtype).reshape(shape))
    return verdicts


def _python(read: Callable[[Path], npt.NDArray[np.generic]], path: Path) -> Verdict:
    try:
        return read(path)
    except DataError as error:
        return str(error)


def _python_label(path: Path) -> npt.NDArray[np.generic]:
    """The label map, whose numbers must be below 256: what they mean is not asked in C++."""
    return read_label(path, ClassList(CLASSES, False), 255)


def _store(folder: Path, files: Iterable[bytes], suffix: str = "") -> list[Path]:
    paths = []
    for index, data in enumerate(files):
        paths.append(folder / f"{index}{suffix}")
        paths[-1].write_bytes(data)
    return paths


# PNG files, by hand: Pillow and OpenCV write few of the kinds.


def _chunk(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    at, result = 8, []
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        result.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += length + 12
    return result


def _rows(samples: npt.NDArray[np.uint16], depth: int) -> bytes:
    """Rows of samples [H, W, channels] as PNG packs them, each with filter 0."""
    height, width, channels = samples.shape
    if depth == 16:
        packed = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    else:
        bits = np.unpackbits(samples.astype(np.uint8).reshape(height, -1, 1), axis=2)[:, :, 8 - depth :]
        packed = np.packbits(bits.reshape(height, width * channels * depth), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


# Adam7: first row and column, and the steps
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def _png(
    samples: npt.NDArray[np.uint16], depth: int, kind: int, before: bytes = b"", after: bytes = b"", laced: bool = False
) -> bytes:
    """A PNG with chunks ``before`` and ``after`` its pixels."""
    height, width = samples.shape[:2]
    parts = [samples[top::down, left::right] for top, left, down, right in PASSES] if laced else [samples]
    data = b"".join(_rows(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, laced)
    body = _chunk(b"IHDR", header) + before + _chunk(b"IDAT", zlib.compress(data)) + after
    return SIGNATURE + body + _chunk(b"IEND")


def _samples(depth: int, kind: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.uint16]:
    values = np.random.default_rng(depth + kind).integers(0, 1 << depth, (height, width, CHANNELS[kind]))
    return values.astype(np.uint16)


def _colors(count: int) -> bytes:
    return _chunk(b"PLTE", np.random.default_rng(count).integers(0, 256, 3 * count).astype(np.uint8).tobytes())


KINDS = [(GREY, depth) for depth in (1, 2, 4, 8, 16)] + [(PALETTE, depth) for depth in (1, 2, 4, 8)]
KINDS += [(kind, depth) for kind in (RGB, GREY_ALPHA, RGBA) for depth in (8, 16)]


def _png_of_kind(kind: int, depth: int, extra: bytes = b"", laced: bool = False) -> bytes:
    plte = _colors(1 << depth) if kind == PALETTE else b""
    return _png(_samples(depth, kind), depth, kind, plte + extra, laced=laced)


def _all_png_kinds() -> list[bytes]:
    transparent = {GREY: bytes(2), RGB: bytes(6), PALETTE: b"\x00\x80"}
    files = []
    for kind, depth in KINDS:
        files += [_png_of_kind(kind, depth, laced=laced) for laced in (False, True)]
        if kind in transparent:
            files.append(_png_of_kind(kind, depth, _chunk(b"tRNS", transparent[kind])))
    return files


def _exif(orientation: int, order: str = "<", entries: Iterable[tuple[int, int, int, int]] = ()) -> bytes:
    """EXIF data whose only entry of use, after ``entries`` (tag, type, count, value), is the orientation."""
    value = orientation if order == "<" else orientation << 16
    rows = [*entries, (0x0112, 3, 1, value)]
    mark = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(order + "HHII", *row) for row in rows)
    return mark + struct.pack(order + "IH", 8, len(rows)) + body + bytes(4)


def _special_pngs() -> list[bytes]:
    rgb = _samples(8, RGB)
    with_exif = [
        _png(rgb, 8, RGB, **{place: _chunk(b"eXIf", _exif(o))}) for place in ("before", "after") for o in (1, 6, 8)
    ]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ignored = {
        b"gAMA": struct.pack(">I", 100000),
        b"sRGB": b"\0",
        b"cHRM": bytes(32),
        b"bKGD": bytes(6),
        b"sBIT": bytes([5, 5, 5]),
        b"iCCP": b"p\0\0" + zlib.compress(profile),
        b"tEXt": b"Comment\0text",
        b"prVt": b"private",
    }
    beyond = _png(np.full((1, 9, 1), 3, np.uint16), 8, PALETTE, _colors(2))  # an index that the palette lacks
    two_exif = _png(rgb, 8, RGB, _chunk(b"eXIf", _exif(6)) + _chunk(b"eXIf", _exif(3)))
    bad_exif = _png(rgb, 8, RGB, _chunk(b"eXIf", b"Exif\0\0" + _exif(6)))
    return [
        *with_exif,
        two_exif,
        bad_exif,
        beyond,
        *(_png(rgb, 8, RGB, _chunk(name, data)) for name, data in ignored.items()),
        _png(rgb, 8, RGB) + b"after the end",
        *(_png(_samples(8, RGB, *size), 8, RGB, laced=True) for size in ((1, 1), (1, 9), (9, 1), (3, 5))),
    ]


# JPEG files


def _photo(height: int = 45, width: int = 61) -> npt.NDArray[np.uint8]:
    noise = np.random.default_rng(height).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (5, 5), 0), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8], mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def _with_app1(jpeg: bytes, *contents: bytes) -> bytes:
    markers = b"".join(b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content for content in contents)
    return jpeg[:2] + markers + jpeg[2:]


def _all_jpeg_kinds() -> list[bytes]:
    photo = _photo()
    files = [_jpeg(photo, subsampling=sampling, quality=quality) for sampling in (0, 1, 2) for quality in (30, 95)]
    files += [_jpeg(_photo(height, width)) for height, width in ((1, 1), (1, 17), (16, 16), (33, 7), (8, 300))]
    files += [_jpeg(photo, mode) for mode in ("L", "CMYK")]
    files += [
        _jpeg(photo, progressive=True),
        _jpeg(photo, "L", progressive=True),
        _jpeg(photo, "CMYK", progressive=True),
    ]
    files += [_jpeg(photo, keep_rgb=True), _jpeg(photo, restart_marker_blocks=2), _jpeg(photo, optimize=True)]
    for sampling in (0x411111, 0x420000 | 0x2111, 0x221111, 0x211111, 0x111111):
        files.append(bytes(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling])[1]))
    ycck = bytearray(_jpeg(photo, "CMYK"))
    ycck[ycck.index(b"Adobe") + 11] = 2  # the transform
    plain = _jpeg(photo)
    xmp = b"http://ns.adobe.com/xap/1.0/\0<x/>"
    exif = [b"Exif\0\0" + _exif(orientation, order) for orientation in range(10) for order in "<>"]
    files += [bytes(ycck), *(_with_app1(plain, part) for part in exif)]
    files += [_with_app1(plain, xmp, exif[12]), _with_app1(plain, exif[12], exif[6]), _with_app1(plain, _exif(6))]
    lost = 99999  # a place outside the data
    for entry in (
        (0x010F, 2, 9, lost),
        (0x010F, 2, 4, lost),
        (0x011A, 5, 1, lost),
        (0x010C, 2, 9, lost),
        (0x0211, 5, 3, 8),
    ):
        files.append(_with_app1(plain, b"Exif\0\0" + _exif(6, entries=[entry])))
    files += [_with_app1(plain, b"Exif\0\0" + _exif(6)[:cut]) for cut in (0, 1, 5, 9, 12, 18, 19, 20)]
    files.append(plain[:-2] + _with_app1(b"\xff\xd8", b"Exif\0\0" + _exif(6))[2:] + b"\xff\xd9")
    return [*files, plain + b"after the end"]


# What both read


@pytest.mark.parametrize("make", [_all_png_kinds, _special_pngs, _all_jpeg_kinds])
def test_the_same_pixels_from_every_kind(make: Callable[[], list[bytes]], tmp_path: Path) -> None:
    paths = _store(tmp_path, make())
    for path, got in zip(paths, _read("picture", paths), strict=True):
        assert not isinstance(got, str), f"{path.name}: {got}"
        np.testing.assert_array_equal(got, read_image(path), err_msg=path.name)


def test_pictures_that_opencv_wrote(tmp_path: Path) -> None:
    photo = _photo(90, 130)
    files = [bytes(cv2.imencode(suffix, photo)[1]) for suffix in (".png", ".jpg")]
    paths = _store(tmp_path, files)
    for path, got in zip(paths, _read("picture", paths), strict=True):
        np.testing.assert_array_equal(got, read_image(path))


def test_the_same_numbers_from_every_label_map(tmp_path: Path) -> None:
    kinds = [(GREY, 8), (GREY, 16), (GREY_ALPHA, 8)] + [(PALETTE, depth) for depth in (1, 2, 4, 8)]
    files = [_png_of_kind(kind, depth, laced=laced) for kind, depth in kinds for laced in (False, True)]
    files.append(_png_of_kind(PALETTE, 8, _chunk(b"tRNS", b"\x00\x80")))
    paths = _store(tmp_path, files)
    for path, got in zip(paths, _read("label", paths), strict=True):
        with Image.open(path) as picture:
            want = np.asarray(picture)
        np.testing.assert_array_equal(got, want if want.ndim == 2 else want[..., 0], err_msg=path.name)


@pytest.mark.parametrize("name", ["with space.png", "Straße – 道路.png", "'quoted' $HOME;.png"])
def test_names(name: str, tmp_path: Path) -> None:
    photo = _photo()
    path = tmp_path / name
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))[1].tobytes())
    np.testing.assert_array_equal(_read("picture", [path])[0], photo)
    copy = tmp_path / "new folder" / f"copy {name}"
    _run("copy", path, copy)
    np.testing.assert_array_equal(read_image(copy), photo)


# What both refuse


def _refused_pictures() -> dict[str, bytes]:
    rgb = _samples(8, RGB)
    png, jpeg = _png(rgb, 8, RGB), _jpeg(_photo())
    frames = _chunk(b"acTL", struct.pack(">II", 0, 0))
    twelve = bytearray(jpeg)
    twelve[twelve.index(b"\xff\xc0") + 4] = 12
    few = struct.pack(">IIBBBBB", WIDTH, HEIGHT + 1, 8, RGB, 0, 0, 0)
    huge = struct.pack(">IIBBBBB", 40000, 40000, 8, RGB, 0, 0, 0)
    checksum = bytearray(png)
    checksum[-20] ^= 1
    return {
        "empty": b"",
        "text": b"no picture",
        "short PNG": png[:-4],
        "short JPEG": jpeg[:-2],
        "half a JPEG": jpeg[: jpeg.index(b"\xff\xda") + 300] + b"\xff\xd9",
        "no scan": jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9",
        "checksum": bytes(checksum),
        "signature only": SIGNATURE,
        "no pixels": SIGNATURE + _chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, RGB, 0, 0, 0)) + _chunk(b"IEND"),
        "few pixels": SIGNATURE + _chunk(b"IHDR", few) + _chunk(*_chunks(png)[1]) + _chunk(b"IEND"),
        "no palette": _png(_samples(8, PALETTE), 8, PALETTE),
        "no frames": _png(rgb, 8, RGB, frames),
        "background": _png(rgb, 8, RGB, _chunk(b"bKGD", bytes(3))),
        "filter": SIGNATURE
        + png[8:33]
        + _chunk(b"IDAT", zlib.compress(b"\5" * (HEIGHT * (3 * WIDTH + 1))))
        + _chunk(b"IEND"),
        "more than 2^30 pixels": SIGNATURE + _chunk(b"IHDR", huge) + _chunk(b"IDAT", b"x") + _chunk(b"IEND"),
        "12 bits": bytes(twelve),
    }


@pytest.mark.parametrize("name", _refused_pictures())
def test_refused_pictures(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a picture.bin"
    path.write_bytes(_refused_pictures()[name])
    with pytest.raises(DataError):
        read_image(path)
    message = _read("picture", [path])[0]
    assert isinstance(message, str)
    assert str(path) in message
    assert message.endswith(".")


def test_a_tiny_file_gets_no_memory_for_a_huge_picture(tmp_path: Path) -> None:
    """32,000 x 32,000 pixels are 3 GB; 512 MB of addresses must do for saying no."""
    header = struct.pack(">IIBBBBB", 32000, 32000, 8, RGB, 0, 0, 0)
    png = SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(bytes(100))) + _chunk(b"IEND")
    jpeg = bytearray(_jpeg(_photo()))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 32000, 32000)
    verdicts = []
    for path in _store(tmp_path, [_jpeg(_photo()), png, bytes(jpeg)]):
        command = f'ulimit -v 524288; exec "{PROBE}" picture "{path}" "{path}.raw"'
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
        verdicts.append(done.stdout.replace(str(path), "it"))
    if not verdicts[0]:
        pytest.skip("this build needs more addresses for nothing, as sanitizers do")
    assert verdicts[0].startswith("ok ")
    assert verdicts[1].startswith("error it is a truncated PNG: ")
    assert verdicts[2].startswith("error it is a truncated JPEG: ")


@pytest.mark.parametrize("name", ["absent", "folder"])
def test_files_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for mode in ("picture", "label"):
        message = _read(mode, [tmp_path / name])[0]
        assert isinstance(message, str)
        assert message.startswith(f"cannot read {tmp_path / name}: ")


def test_refused_label_maps(tmp_path: Path) -> None:
    files = [_png_of_kind(GREY, depth) for depth in (1, 2, 4)] + [_png_of_kind(GREY_ALPHA, 16)]
    files += [_png_of_kind(kind, depth) for kind in (RGB, RGBA) for depth in (8, 16)]
    files += [_jpeg(_photo(), "L"), _png_of_kind(GREY, 8)[:-4], b""]
    paths = _store(tmp_path, files)
    for path, got in zip(paths, _read("label", paths), strict=True):
        with pytest.raises(DataError):
            _python_label(path)
        assert isinstance(got, str), path.name


# Damage


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, flip bits, insert, or repeat a part."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(changed)))
        match rng.integers(0, 8):
            case 0:
                del changed[at:]
                changed += b"\0"
            case 1:
                del changed[at : at + int(rng.integers(1, 9))]
                changed += b"\0"
            case 2:
                changed[at:at] = rng.integers(0, 256, rng.integers(1, 9)).astype(np.uint8).tobytes()
            case 3:
                changed[at:at] = changed[at : at + int(rng.integers(1, 40))]
            case _:
                changed[at] ^= 1 << int(rng.integers(0, 8))
    return bytes(changed)


def _mutate_chunks(png: bytes, rng: np.random.Generator) -> bytes:
    """Damage that sums do not show: a chunk changed, its pixels too, or left out, doubled or moved."""
    chunks = _chunks(png)
    at = int(rng.integers(0, len(chunks)))
    name, body = chunks[at]
    match rng.integers(0, 6):
        case 0:
            del chunks[at]
        case 1:
            chunks.insert(at, chunks[at])
        case 2:
            chunks.insert(int(rng.integers(0, len(chunks))), chunks.pop(at))
        case 3 if name == b"IDAT":
            chunks[at] = name, zlib.compress(_mutate(zlib.decompress(body), rng))
        case 4:
            chunks[at] = bytes([name[0] ^ 0x20 * int(rng.integers(0, 2)), *name[1:3], name[3] ^ 1]), body
        case _ if body:
            chunks[at] = name, _mutate(body, rng)
    return SIGNATURE + b"".join(_chunk(*chunk) for chunk in chunks)


def _damaged(originals: list[bytes], seed: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    files = []
    for original in originals:
        for index in range(MUTATIONS):
            structured = original.startswith(SIGNATURE) and index % 4
            files.append((_mutate_chunks if structured else _mutate)(original, rng))
    return files


def test_damaged_pictures(tmp_path: Path) -> None:
    exif = _chunk(b"eXIf", _exif(6))
    originals = [_png_of_kind(*kind) for kind in ((RGB, 8), (PALETTE, 4), (GREY_ALPHA, 16))]
    originals += [_png_of_kind(RGB, 8, exif, laced=True), _jpeg(_photo()), _jpeg(_photo(), progressive=True)]
    originals += [_jpeg(_photo(), "CMYK", restart_marker_blocks=2), _with_app1(_jpeg(_photo()), b"Exif\0\0" + _exif(6))]
    paths = _store(tmp_path, _damaged(originals, seed=1))
    read = 0
    for path, got in zip(paths, _read("picture", paths), strict=True):
        want = _python(read_image, path)
        if isinstance(want, str):
            assert isinstance(got, str), f"{path} is read, although Python says: {want}"
        elif not isinstance(got, str):
            np.testing.assert_array_equal(got, want, err_msg=path.name)
            read += 1
    assert read > len(paths) // 5  # most are refused, but the test sees both


def test_damaged_label_maps(tmp_path: Path) -> None:
    originals = [_png_of_kind(*kind) for kind in ((GREY, 8), (PALETTE, 8), (PALETTE, 2), (GREY_ALPHA, 8))]
    originals.append(_png_of_kind(GREY, 8, laced=True))
    paths = _store(tmp_path, _damaged(originals, seed=2))
    read = 0
    for path, got in zip(paths, _read("label", paths), strict=True):
        want = _python(_python_label, path)
        if isinstance(want, str) and "holds the label" in want:
            continue
        if isinstance(want, str):
            assert isinstance(got, str), f"{path} is read, although Python says: {want}"
        elif not isinstance(got, str):
            np.testing.assert_array_equal(got, want, err_msg=path.name)
            read += 1
    assert read > len(paths) // 8


# Writing and drawing


def test_masks_are_those_of_python(tmp_path: Path) -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16)
    source, mask = tmp_path / "source.png", tmp_path / "mask.png"
    source.write_bytes(_png(label[..., None].astype(np.uint16), 8, GREY))
    _run("mask", source, mask, *COLORS[:21])
    with Image.open(mask) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), label)
        np.testing.assert_array_equal(np.array(picture.getpalette()).reshape(-1, 3), palette(CLASSES[:21]))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    source, mask = tmp_path / "source.png", tmp_path / "mask.png"
    source.write_bytes(_png_of_kind(GREY, 8))
    mask.write_bytes(b"old")
    _run("mask", source, mask, *COLORS[:3])
    assert read_label(mask, ClassList(CLASSES, False), 255).shape == (HEIGHT, WIDTH)
    taken = tmp_path / "a folder"
    taken.mkdir()
    done = subprocess.run([PROBE, "mask", source, taken, "0,0,0"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stderr.startswith(f"cannot write {taken}: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a folder", "mask.png", "source.png"]


def test_overlays_are_those_of_python(tmp_path: Path) -> None:
    """Every value of a picture on every value of a colour; black classes and ignored pixels beside them."""
    channel = np.repeat(np.arange(256, dtype=np.uint8), 256).reshape(256, 256)
    image = np.stack([channel, 255 - channel, channel ^ 0x55], axis=-1)
    label = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    classes = [ClassInfo(f"c{i}", (i, (7 * i) % 256, 255 - i)) for i in range(250)]
    classes[3] = ClassInfo("black", (0, 0, 0))
    picture, mask, out = tmp_path / "picture.png", tmp_path / "mask.png", tmp_path / "out.raw"
    picture.write_bytes(cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes())
    mask.write_bytes(cv2.imencode(".png", label)[1].tobytes())
    _run("overlay", picture, mask, out, *(",".join(map(str, item.color)) for item in classes))
    np.testing.assert_array_equal(
        np.fromfile(out, np.uint8).reshape(image.shape), tint(image, label, palette(classes), 0.5)
    )


# Pictures of 16 bits that hold fewer, and JPEGs that end early.


@pytest.mark.parametrize("picture_max", [1, 255, 1023, 4095, 10000, 16383, 65535])
def test_picture_max(tmp_path, picture_max):
    kinds = [_png(_samples(16, kind), 16, kind) for kind in (GREY, RGB, GREY_ALPHA, RGBA)]
    within = [np.minimum(_samples(16, kind), picture_max).astype(np.uint16) for kind in (GREY, RGB)]
    every = (np.arange(1 << 16).reshape(256, 256, 1) % (picture_max + 1)).astype(np.uint16)
    kinds += [_png(values, 16, GREY if values.shape[2] == 1 else RGB) for values in (*within, every)]
    kinds += [_png(_samples(8, RGB), 8, RGB)]
    paths = _store(tmp_path, kinds)
    verdicts = _read(f"picture:{picture_max}", paths)
    for path, found in zip(paths, verdicts, strict=True):
        expected = _python(lambda file: read_image(file, picture_max), path)
        assert type(found) is type(expected), (found, expected)
        assert np.array_equal(found, expected) if isinstance(found, np.ndarray) else found == expected


def test_remarks(tmp_path):
    data = io.BytesIO()
    Image.fromarray(_photo(90, 120)).save(data, "JPEG", quality=90)
    whole = data.getvalue()
    data = io.BytesIO()
    Image.fromarray(_photo(90, 120)).save(data, "JPEG", quality=90, progressive=True)
    slow = data.getvalue()
    end = b"\xff\xd9"
    cuts = [file[: len(file) * share // 10] + end for file in (whole, slow) for share in (4, 6, 9)]
    deep = _png(np.full((4, 4, 3), 4000, np.uint16), 16, RGB)
    files = [whole, slow, *cuts, deep, _png(_samples(8, RGB), 8, RGB)]
    paths = _store(tmp_path, files)
    lines = _run("remarks", *(word for path in paths for word in (path, path)))
    assert lines == ["ok 0 -1"] * 2 + ["ok 1 -1"] * len(cuts) + ["ok 0 4000", "ok 0 -1"]
    refused = _read("picture", paths)
    for path, verdict in zip(paths, refused, strict=True):
        expected = _python(read_image, path)
        assert verdict == expected if isinstance(verdict, str) else np.array_equal(verdict, expected)
